"""Several nodes that share no folder: input and output are in S3. One of them is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from curation import ledger
from curation.storage import Storage
from tests.conftest import ROOT
from tests.faults.conftest import CLIPS, Ground

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


class Nodes:
    """In another process: when Ray's own connection to a cluster breaks, it ends the process."""

    def __init__(self) -> None:
        words = [sys.executable, "-m", "tests.faults.nodes"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(words, cwd=ROOT, text=True, **pipes, start_new_session=True)
        self.address = next(line.strip() for line in self.process.stdout if re.match(r"[\d.]+:\d+$", line))

    def kill_one(self) -> None:
        print(file=self.process.stdin, flush=True)

    def stop(self) -> None:
        """Ask, then insist."""
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def nodes(s3: str) -> Iterator[Nodes]:
    """They know the way to the bucket from their environment."""
    made = Nodes()
    yield made
    made.stop()


def test_a_node_is_killed(ground: Ground, s3: str, nodes: Nodes) -> None:
    for file in ground.source.iterdir():
        Storage.at(f"{s3}/in").write(file.name, file.read_bytes())
    ground.recipe(clips=2, workers=2)
    out = f"{s3}/run"
    run = ground.begin("--address", nodes.address, source=f"{s3}/in/{ground.table.name}", out=out)
    deadline = time.monotonic() + 120
    while not ledger.files(Storage.at(out)):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    nodes.kill_one()
    assert run.wait(200) == 0
    ground.judge("node_killed", out)
    storage = Storage.at(out)
    same = {name: storage.read(f"shards/{name}") for name in storage.names("shards") if name.endswith(".tar")} == ground.whole
    assert same and len(list(ledger.rows(storage))) == CLIPS and storage.folders("units") == []
