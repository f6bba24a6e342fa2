"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import objects, sample
from tests.servers import Server

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def panda() -> Path:
    """The small Panda-70M extract; its licence keeps it out of this repository."""
    folder = Path(os.environ.get("PANDA70M_MINI", ROOT.parent / "shared/data/panda70m-mini"))
    if not folder.exists():
        pytest.skip(f"no Panda-70M extract at {folder}; point PANDA70M_MINI at one")
    return folder


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make curate`: the embedded profile over the sample clips."""
    base = tmp_path_factory.getbasetemp()
    return sample.made(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)  # one for all workers


def pytest_collection_finish(session: pytest.Session) -> None:
    """With several workers that run is begun at once, so that none of them stands idle until another has made it."""
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw0" and any("sample_run" in item.fixturenames for item in session.items):  # type: ignore[attr-defined]
        base = session.config._tmp_path_factory.getbasetemp().parent  # type: ignore[attr-defined]
        subprocess.Popen(
            [sys.executable, "-m", "tests.sample", str(base)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """For endpoints of language models: says what the test tells it to."""
    from curation.models import endpoint

    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.delenv("CURATION_API_KEY", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


class Cluster:
    """A Ray head with two CPUs, a dashboard, and as many GPUs as it is told it has, on free ports."""

    def __init__(self, folder: Path, gpus: int = 0):
        self.ports = _free_ports(4)
        gcs, client, dashboard, agent = self.ports
        self.address, self.dashboard = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2", f"--num-gpus={gpus}"]
        command += [
            f"--port={gcs}",
            f"--ray-client-server-port={client}",
            f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}",
        ]
        command += ["--dashboard-host=127.0.0.1", "--object-store-memory=400000000", f"--temp-dir={folder}"]
        self.log = (folder / "head.log").open("w")
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        pipes = {"stdout": self.log, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, **pipes, env=environment, start_new_session=True)
        deadline = time.monotonic() + 90
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the Ray head did not start: {(folder / 'head.log').read_text()[-2000:]}")
            time.sleep(0.5)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.dashboard}/api/version", timeout=2):
                return True
        except OSError:
            return False

    def stop(self) -> None:
        """Ask, then insist: only this head's own process group."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        self.log.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One Ray head for all tests that need a cluster."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # sockets want short paths
        head = Cluster(Path(folder))
        yield head
        head.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[objects.S3Server]:
    server = objects.S3Server(tmp_path_factory.mktemp("s3") / "log")
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: objects.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket; the environment of this process, and of those it starts, points at the server."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{secrets.token_hex(8)}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_server.url}/{bucket}", method="PUT")).close()
    objects.forget()
    return f"s3://{bucket}"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on small tensors: on busy cores more threads wait for each other (measured: 78 s of CPU time instead of 19 s).

    Of each module, because a training run in this process sets its own number."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
