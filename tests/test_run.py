"""The command as a user runs it: whole processes, real stages, real and broken videos."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curation import shards
from curation.plan import open_plan
from tests import videos
from tests.conftest import ROOT
from tests.runs import curation, ledger, tars

FAST = """
clips:
  - split_shots: {detector: none, min_seconds: 0.1}
  - sample_frames: {window: 2}
shards: {clips_per_unit: 2, max_failed: 0.9}
"""


@pytest.fixture
def recipe(tmp_path):
    def write(text: str = FAST) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def folder(tmp_path):
    """A folder of small videos with captions."""
    made = tmp_path / "in"
    made.mkdir()

    def fill(count: int) -> Path:
        for i in range(count):
            videos.write([videos.picture(100 * i + n) for n in range(12)], made / f"v{i:02d}.mp4")
            (made / f"v{i:02d}.txt").write_text(f"A man talks, number {i}.")
        return made

    return fill


def test_broken_files_fail_each_with_its_reason_and_harm_no_other(recipe, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    good = videos.numbered(60, options={"movflags": "faststart"})
    contents = {
        "good": good,
        "truncated": good[: len(good) * 2 // 3],
        "headless": videos.numbered(60)[:3000],
        "empty": b"",
        "text": b"this is no video at all\n" * 50,
        "sound": videos.sound_only(),
        "one_frame": videos.numbered(1),
    }
    for name, data in contents.items():
        (folder / f"{name}.mp4").write_bytes(data)
        (folder / f"{name}.txt").write_text("A man talks.")
    done = curation("run", recipe(FAST.replace("none", "transnetv2")), "--input", folder, "--output", tmp_path / "out", "--local")
    found = ledger(tmp_path / "out")
    assert found["good"] == "kept" and found["one_frame"] == "rejected split_shots too_short"
    failed = {k: v for k, v in found.items() if k not in ("good", "one_frame")}
    assert all(v.startswith("failed split_shots VideoError") for v in failed.values()), failed
    assert len(set(failed.values())) == len(failed), "each has its own reason"
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "planned 7 = kept 1 + rejected 1 + failed 5" in done.stdout
    strict = recipe(FAST.replace("none", "transnetv2").replace("max_failed: 0.9", "max_failed: 0.1"))
    again = curation("run", strict, "--input", folder, "--output", tmp_path / "strict", "--local")
    assert again.returncode == 3 and "Traceback" not in again.stderr


@pytest.mark.parametrize("mode", ["--local", "ray"])
def test_killed_and_started_again_gives_the_same_bytes(recipe, folder, tmp_path, mode):
    options = ["--local"] if mode == "--local" else []
    path, clips, out = recipe(), folder(24), tmp_path / "out"
    curation("run", path, "--input", clips, "--output", tmp_path / "whole", "--local")
    command = [sys.executable, "-m", "curation.cli", "run", path, "--input", clips, "--output", out, *options]
    killed = subprocess.Popen([str(c) for c in command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((out / "shards").glob("shard-*.parquet")):
        assert killed.poll() is None and time.monotonic() < deadline, "it ended, or never published, before it could be killed"
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _settled(out)
    finished = {p: p.stat().st_mtime_ns for p in (out / "shards").glob("shard-*")}
    ledgers = sum(p.suffix == ".parquet" for p in finished)
    assert 0 < ledgers < open_plan(out).units, "killed in the middle"
    done = curation("run", path, "--input", clips, "--output", out, *options)
    assert done.returncode == 0, done.stderr
    assert tars(out) == tars(tmp_path / "whole")
    changed = {p.stem for p, when in finished.items() if p.stat().st_mtime_ns != when}
    assert not {s for s in changed if (out / "shards" / f"{s}.parquet") in finished}, "no finished unit is done twice"
    assert "planned 24 = kept 24" in done.stdout
    assert "no problem found" in curation("verify", out).stdout


def _settled(out: Path) -> None:
    """Orphaned workers of a killed driver may still publish what they hold; wait until nothing changes."""
    seen: list[int] = []
    while len(seen) < 4 or len(set(seen[-4:])) > 1:
        seen.append(len(list((out / "shards").glob("*"))))
        time.sleep(0.5)


def test_a_second_driver_in_the_same_directory_is_refused(recipe, folder, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        done = curation("run", recipe(), "--input", folder(1), "--output", tmp_path / "out", "--local")
    assert done.returncode == 2 and done.stderr == f"curation: another run is at work in {tmp_path / 'out'}\n"


def test_nothing_left_to_do_is_said(recipe, folder, tmp_path):
    words = ("run", recipe(), "--input", folder(3), "--output", tmp_path / "out", "--local")
    curation(*words)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "shards").iterdir()}
    done = curation(*words)
    assert done.returncode == 0 and "nothing was left to do" in done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "shards").iterdir()}


def test_a_changed_knob_or_input_is_refused_by_name(recipe, folder, tmp_path):
    out = tmp_path / "out"
    curation("run", recipe(), "--input", folder(1), "--output", out, "--local")
    other = curation(
        "run", recipe(FAST.replace("window: 2", "window: 3")), "--input", tmp_path / "in", "--output", out, "--local"
    )
    assert other.returncode == 2 and "clips.sample_frames.window: 2 → 3" in other.stderr
    moved = curation("run", recipe(), "--input", tmp_path, "--output", out, "--local")
    assert moved.returncode == 2 and "input:" in moved.stderr


INTO = ("--input", "sample", "--output", "{tmp}/o")


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("run", "none.yaml", *INTO), "none.yaml: cannot be read"),
        (("run", "embedded", "--input", "{tmp}/none", "--output", "{tmp}/o"), "nothing is there"),
        (
            ("run", "embedded", "--input", "panda70m", "--output", "{tmp}/o"),
            "point PANDA70M_ROOT at them; INPUT=sample runs at once",
        ),
        (("run", "embedded", "--input", "sample", "--output", "/proc/x"), "--output /proc/x"),
        (("run", "embedded", *INTO, "--address", "127.0.0.1:1"), "no Ray cluster at 127.0.0.1:1"),
        (("retry", "{tmp}"), "holds no run"),
        (("inspect", "{tmp}"), "no finished shard here"),
        (("models", "fetch", "transnet"), "no model 'transnet' in the store; did you mean 'transnetv2'?"),
        (("submit", "embedded", *INTO, "--address", "http://127.0.0.1:1"), "no Ray dashboard at http://127.0.0.1:1"),
    ],
    ids=lambda v: v[0] if isinstance(v, tuple) else "",
)
def test_a_mistake_is_one_line_and_exit_status_2(tmp_path, words, complaint):
    done = curation(*(w.replace("{tmp}", str(tmp_path)) for w in words), PANDA70M_ROOT=str(tmp_path / "panda"))
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("curation: ") and complaint in last and "Traceback" not in done.stderr


def test_the_plan_command_opens_no_video(recipe, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "a.mp4")  # opening it would block for ever
    (folder / "a.txt").write_text("A man talks.")
    done = curation("plan", recipe(), "--input", folder, "--output", tmp_path / "out")
    assert done.returncode == 0 and open_plan(tmp_path / "out").clips == 1


def test_an_empty_folder_is_an_empty_run(recipe, tmp_path):
    (tmp_path / "in").mkdir()
    done = curation("run", recipe(), "--input", tmp_path / "in", "--output", tmp_path / "out", "--local")
    assert done.returncode == 0 and "planned 0 = kept 0 + rejected 0 + failed 0" in done.stdout


def test_finished_shards_are_an_input(recipe, folder, tmp_path):
    curation("run", recipe(), "--input", folder(3), "--output", tmp_path / "first", "--local")
    done = curation("run", recipe(), "--input", tmp_path / "first", "--output", tmp_path / "second", "--local")
    assert done.returncode == 0 and "planned 3 = kept 3" in done.stdout
    first, second = (pictures(tmp_path / name) for name in ("first", "second"))
    assert first == second and len(first) == 3 * 4, "whole clips pass byte for byte"


def pictures(out: Path) -> dict[str, bytes]:
    """Every member but the metadata."""
    rows = [r for unit in shards.units(out / "shards") for r in shards.ledger(out / "shards", unit)]
    return {name: data for r in rows for name, data in shards.read_sample(out / "shards", r) if not name.endswith(".json")}
