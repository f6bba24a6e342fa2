"""A run whose output is in an object store: a real S3 server on this machine."""

from __future__ import annotations

import random
import signal
import time

import pytest

from curation import ledger as ledgers
from curation.storage import Storage
from tests import videos
from tests.objects import SLOW_DOWN, Gate
from tests.runs import begin, curation, ledger, tars

RECIPE = """
clips:
  - split_shots: {detector: none, min_seconds: 0.1}
  - sample_frames: {}
units: {clips: 2}
shards: {megabytes: 0.03}
"""


@pytest.fixture
def words(tmp_path):
    """A run over twelve small videos, all but its output."""
    (tmp_path / "in").mkdir()
    for i in range(12):
        videos.write([videos.picture(100 * i + n) for n in range(12)], tmp_path / "in" / f"v{i:02d}.mp4")
        (tmp_path / "in" / f"v{i:02d}.txt").write_text("A man talks.")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return ("run", tmp_path / "recipe.yaml", "--input", tmp_path / "in", "--output")


def objects(out: str) -> dict[str, bytes]:
    """The tars of a run, by name."""
    storage = Storage.at(out)
    return {name: storage.read(f"shards/{name}") for name in storage.names("shards") if name.endswith(".tar")}


def left(out: str) -> list[str]:
    storage = Storage.at(out)
    return [name for group in storage.folders("units") for name in storage.names(f"units/{group}")]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["--local", "ray"])
def test_a_run_into_a_bucket_gives_the_bytes_of_one_on_a_disk(words, tmp_path, s3, mode):
    options = ["--local"] if mode == "--local" else []
    curation(*words, tmp_path / "disk", "--local")
    done = curation(*words, f"{s3}/run", *options)
    assert done.returncode == 0 and "planned 12 = kept 12" in done.stdout, done.stderr
    assert objects(f"{s3}/run") == tars(tmp_path / "disk") and len(tars(tmp_path / "disk")) > 2
    assert left(f"{s3}/run") == [] and set(ledger(f"{s3}/run").values()) == {"kept"}
    again = curation(*words, f"{s3}/run", *options)
    assert again.returncode == 0 and "nothing was left to do" in again.stdout
    assert "no problem found" in curation("verify", f"{s3}/run").stdout
    assert "12 clips: kept 12" in curation("inspect", f"{s3}/run").stdout


@pytest.mark.faults
def test_killed_and_started_again_in_a_bucket(words, tmp_path, s3):
    curation(*words, tmp_path / "disk", "--local")
    killed = begin(*words, f"{s3}/run", "--local")
    storage, deadline = Storage.at(f"{s3}/run"), time.monotonic() + 60
    while not ledgers.files(storage):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    refused = curation(*words, f"{s3}/run", "--local")
    assert refused.returncode == 2 and "another run is at work" in refused.stderr
    storage.remove(".lock")  # as after a minute
    done = curation(*words, f"{s3}/run", "--local")
    assert done.returncode == 0 and "planned 12 = kept 12" in done.stdout, done.stderr
    assert objects(f"{s3}/run") == tars(tmp_path / "disk") and left(f"{s3}/run") == []


def test_a_bucket_that_is_not_there_is_one_line(words, s3):
    done = curation(*words, "s3://there-is-no-such-bucket/run", "--local")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("curation: ")


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["--local", "ray"])
def test_killed_at_ten_moments_in_a_bucket(words, tmp_path, s3, mode):
    options = ["--local"] if mode == "--local" else []
    begun = time.monotonic()
    curation(*words, tmp_path / "disk", "--local")
    took, start_up = time.monotonic() - begun, 2.0 if mode == "--local" else 12.0
    storage, moments = Storage.at(f"{s3}/run"), random.Random(f"ten moments in a bucket, {mode}")
    for _ in range(10):
        killed = begin(*words, f"{s3}/run", *options)
        time.sleep(start_up * moments.uniform(0.3, 1.0) + took * moments.uniform(0, 0.4))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        storage.remove(".lock")  # as after a minute
    done = curation(*words, f"{s3}/run", *options)
    assert done.returncode == 0 and "planned 12 = kept 12" in done.stdout, done.stderr
    assert objects(f"{s3}/run") == tars(tmp_path / "disk") and left(f"{s3}/run") == []


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("away", [45, 100], ids=["some of a minute", "longer than is waited for"])
@pytest.mark.parametrize("mode", ["--local", "ray"])
def test_a_store_that_is_away_during_a_run(words, tmp_path, s3, s3_server, monkeypatch, mode, away):
    options = ["--local"] if mode == "--local" else []
    curation(*words, tmp_path / "disk", "--local")
    gate = Gate(s3_server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    with (tmp_path / "said").open("w+") as said:
        run = begin(*words, f"{s3}/run", *options, said=said)
        while not any(method == "PUT" and "/units/" in path for method, path in gate.heard):
            assert run.poll() is None
            time.sleep(0.02)
        gate.rule = lambda method, path: (503, SLOW_DOWN)
        time.sleep(away)
        gate.rule = lambda method, path: None
        status = run.wait(300)
        said.seek(0)
        text = said.read()
    assert status == 0 if away < 60 else status in (0, 1, 2, 4), text
    assert "Traceback" not in text and set(ledger(f"{s3}/run").values()) <= {"kept"}
    Storage.at(f"{s3}/run").remove(".lock")
    done = curation(*words, f"{s3}/run", *options)
    assert done.returncode == 0, done.stderr
    assert objects(f"{s3}/run") == tars(tmp_path / "disk") and left(f"{s3}/run") == []
    gate.close()
