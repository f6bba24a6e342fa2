"""`curation submit`, and the Ray run of the sample job, on a Ray head that the test starts."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import videos
from tests.conftest import ROOT
from tests.runs import FAST, curation, ledger, rows, tars

SECRET = "5f1d-not-to-be-seen"


def client(cluster):
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(cluster.dashboard)


@pytest.fixture
def interpreter(tmp_path) -> Iterator[Callable[[int], Path]]:
    """What the cluster takes for Python: it says its command, waits for the file `go`, and ends with a status."""
    (tmp_path / "go").touch()

    def write(status: int = 0) -> Path:
        path = tmp_path / f"python-{status}"
        path.write_text(f'#!/bin/sh\necho "began $@"\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.1; done\nexit {status}\n')
        path.chmod(0o755)
        return path

    yield write
    (tmp_path / "go").touch()


def submitted(out: Path, cluster, python: Path, recipe: str = "embedded", **pipes) -> subprocess.Popen[str]:
    words = ["submit", recipe, "--input", "sample", "--output", out, "--address", cluster.dashboard, "--python", python]
    command = [sys.executable, "-m", "curation.cli", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **pipes}
    return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)


def said(stream, *words: str) -> str:
    """What a process has written when all of the words were among it."""
    text, deadline = "", time.monotonic() + 90
    while not all(word in text for word in words):
        assert time.monotonic() < deadline, text
        chunk = os.read(stream if isinstance(stream, int) else stream.fileno(), 4096).decode()
        assert chunk, text
        text += chunk
    return text


def job_of(text: str) -> str:
    return next(word for word in text.split() if word.startswith("curation-"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_sample_job_on_a_running_cluster(cluster, sample_run, tmp_path):
    out = tmp_path / "out"
    words = ("submit", "embedded", "--input", "sample", "--output", out, "--address", cluster.dashboard)
    done = curation(*words, RAY_ADDRESS="127.0.0.1:1")  # which Ray's own client would take before the address it is given
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned 15 = kept" in done.stdout, "the job's own words come through"
    assert tars(out) == tars(sample_run), "the same bytes as without Ray"
    assert {v.partition(" ")[0] for v in ledger(out).values()} == {"kept", "rejected", "failed"}


@pytest.mark.slow
def test_the_jobs_exit_status_is_passed_on(cluster, tmp_path):
    words = ("--input", tmp_path / "none", "--output", tmp_path / "out", "--address", cluster.dashboard)
    done = curation("submit", "embedded", *words)
    assert done.returncode == 2 and "nothing is there" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("status, recipe, there", [(3, "embedded", "recipe.yaml"), (4, "auto", "auto")])
def test_each_exit_status_is_passed_on(cluster, interpreter, tmp_path, status, recipe, there):
    """`auto` is decided where the job runs; another recipe travels as it is here."""
    job = submitted(tmp_path / "out", cluster, interpreter(status), recipe)
    said, _ = job.communicate(timeout=90)
    assert job.returncode == status and f"began -m curation.cli run {there} --input sample --output {tmp_path}/out" in said


@pytest.mark.slow
def test_an_interpreter_that_is_not_there_is_said(cluster, tmp_path):
    job = submitted(tmp_path / "out", cluster, tmp_path / "none")
    assert "FAILED: this --python is not there" in job.communicate(timeout=90)[0] and job.returncode == 127


@pytest.mark.slow
def test_recipe_input_and_output_by_url(cluster, s3, tmp_path, monkeypatch):
    """Credentials reach the job and are not to be seen; without them it would not find the bucket."""
    import fsspec

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    fs = fsspec.filesystem("s3")
    videos.write([videos.picture(n) for n in range(40)], tmp_path / "a.mp4")
    fs.put_file(str(tmp_path / "a.mp4"), f"{s3}/in/a.mp4")
    fs.pipe_file(f"{s3}/in/a.txt", b"A man talks.")
    fs.pipe_file(f"{s3}/fast.yaml", FAST.encode())
    words = ("submit", f"{s3}/fast.yaml", "--input", f"{s3}/in", "--output", f"{s3}/out", "--address", cluster.dashboard)
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "NO_PROXY")
    done = curation(*words, *(word for name in names for word in ("--env", name)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["verdict"] for row in rows(f"{s3}/out")] == ["kept"]
    info = client(cluster).get_job_info(job_of(done.stdout))
    assert info.runtime_env["env_vars"]["AWS_SECRET_ACCESS_KEY"] == SECRET, "as the docstring of submit says"
    assert SECRET not in f"{info.entrypoint} {info.metadata} {info.message} {done.stdout} {done.stderr}"
    logs = [p for p in Path(cluster.log.name).parent.glob("session_2*/logs/**/*") if p.is_file()]
    assert {p.name for p in logs if SECRET.encode() in p.read_bytes()} <= {"runtime_env_agent.log"}, "Ray's own, as it says, too"


@pytest.mark.slow
def test_what_lies_in_the_working_directory_goes_along(cluster, tmp_path):
    (tmp_path / "here" / "in").mkdir(parents=True)
    videos.write([videos.picture(n) for n in range(40)], tmp_path / "here" / "in" / "a.mp4")
    (tmp_path / "here" / "in" / "a.txt").write_text("A man talks.")
    (tmp_path / "here" / "recipe.yaml").write_text("not: this one")
    (tmp_path / "fast.yaml").write_text(FAST)
    words = ("--input", tmp_path / "here" / "in", "--output", tmp_path / "out", "--address", cluster.dashboard)
    done = curation("submit", tmp_path / "fast.yaml", *words, "--working-dir", tmp_path / "here")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = rows(tmp_path / "out")
    assert row["verdict"] == "kept"
    assert "--input in " in client(cluster).get_job_info(job_of(done.stdout)).entrypoint, "its place in the folder"


@pytest.mark.slow
def test_a_second_submit_of_an_output_is_refused(cluster, interpreter, tmp_path):
    (tmp_path / "go").unlink()
    two = [submitted(tmp_path / "out", cluster, interpreter()) for _ in range(2)]
    deadline = time.monotonic() + 90
    while all(job.poll() is None for job in two):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    refused, running = sorted(two, key=lambda job: job.poll() is None)
    line = refused.communicate()[0]
    assert refused.returncode == 2 and line.count("\n") == 1, line
    assert f"job {job_of(line)} is at work on {tmp_path}/out" in line
    assert job_of(said(running.stdout, "began")) == job_of(line)
    third = curation("submit", "embedded", "--input", "sample", "--output", f"{tmp_path}/out/", "--address", cluster.dashboard)
    assert third.returncode == 2 and f"job {job_of(line)} is at work" in third.stderr
    (tmp_path / "go").touch()
    assert running.wait(90) == 0
    again = submitted(tmp_path / "out", cluster, interpreter())
    assert again.wait(90) == 0, "and taken when the first has ended"


@pytest.mark.slow
@pytest.mark.parametrize("answer, status", [("n", "STOPPED"), ("", "RUNNING")])
def test_ctrl_c_asks_whether_the_job_should_go_on(cluster, interpreter, tmp_path, answer, status):
    (tmp_path / "go").unlink()
    terminal, other = pty.openpty()
    pipes = {"stdin": other, "stdout": other, "stderr": other}
    process = submitted(tmp_path / "out", cluster, interpreter(), **pipes, preexec_fn=_own_terminal)
    os.close(other)
    job = job_of(said(terminal, "began"))
    os.write(terminal, b"\x03")
    said(terminal, f"should job {job} go on? [Y/n]")
    os.write(terminal, f"{answer}\n".encode())
    said(terminal, "was stopped" if answer else f"ray job stop {job} --address {cluster.dashboard}")
    assert process.wait(60) == 130
    os.close(terminal)
    assert client(cluster).get_job_status(job) == status


def _own_terminal() -> None:
    """In the child, which leads a session: standard input becomes its terminal, of which Ctrl-C comes."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_without_a_terminal_the_job_goes_on(cluster, interpreter, tmp_path):
    (tmp_path / "go").unlink()
    process = submitted(tmp_path / "out", cluster, interpreter(), stdin=subprocess.DEVNULL)
    job = job_of(said(process.stdout, "began"))
    process.send_signal(signal.SIGINT)
    line = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and f"job {job} goes on" in line and f"ray job stop {job}" in line
    assert client(cluster).get_job_status(job) == "RUNNING"


@pytest.fixture
def dashboard() -> Iterator[tuple[str, list[str | None]]]:
    """A dashboard that takes no token, and what it was shown."""
    heard: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization"))
            self.send_response(403 if heard[-1] else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", heard
    server.shutdown()
    server.server_close()


def test_the_token_is_sent_and_what_is_wrong_with_it_is_said(dashboard, tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address, heard = dashboard
    words = ("submit", "embedded", "--input", "sample", "--output", tmp_path / "out", "--address", address)
    done = curation(*words)
    assert done.returncode == 2 and "asks for a token: set RAY_AUTH_TOKEN" in done.stderr and heard == [None]
    done = curation(*words, RAY_AUTH_TOKEN=SECRET)
    assert done.returncode == 2 and "refuses the token" in done.stderr and heard[1:] == [f"Bearer {SECRET}"]
    assert SECRET not in done.stdout + done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    "recipe, options, line",
    [
        ("embedded", ["--env", "NOT_SET_ANYWHERE"], "--env NOT_SET_ANYWHERE: there is no such variable here"),
        ("embedded", ["--env", "a b=1"], "--env takes NAME, of this environment, or NAME=VALUE; not 'a b'"),
        ("embedded", ["--working-dir", "none/there"], "--working-dir none/there: no such folder"),
        ("embedded", ["--videos", "ftp://user:word@host/videos"], "the URL of host/videos holds a password"),
        ("embedded", [], "no Ray dashboard at http://127.0.0.1:1"),
        ("file://{tmp}/wrong.yaml", [], "file://{tmp}/wrong.yaml:2: no stage 'split_shot'; did you mean 'split_shots'?"),
        ("file://{tmp}/none.yaml", [], "file://{tmp}/none.yaml: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, recipe, options, line):
    (tmp_path / "wrong.yaml").write_text("clips:\n  - split_shot: {}\n")
    words = ("--input", "sample", "--output", tmp_path / "out", "--address", "127.0.0.1:1", *options)
    done = curation("submit", recipe.format(tmp=tmp_path), *words, NO_PROXY="127.0.0.1")
    assert done.returncode == 2 and line.format(tmp=tmp_path) in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert "word" not in done.stderr.replace("password", "")
