"""The command as a user runs it: whole processes, real stages, real and broken videos."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from curation import console
from curation.ledger import read_sample
from curation.run import run as main
from curation.shards import sessions, tally
from curation.shards.planned import open_plan
from curation.storage import Storage
from tests import videos
from tests.runs import FAST, begin, curation, finished, ledger, leftovers, rows, tars
from tests.shards import made


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
    assert all(v.startswith("failed split_shots ") for v in failed.values()), failed
    why = {(row["reason"], row["detail"]) for row in rows(tmp_path / "out") if row["key"] in failed}
    assert len(why) == len(failed), "each has its own reason"
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "planned 7 = kept 1 + rejected 1 + failed 5" in done.stdout
    strict = recipe(FAST.replace("none", "transnetv2").replace("max_failed: 0.9", "max_failed: 0.1"))
    again = curation("run", strict, "--input", folder, "--output", tmp_path / "strict", "--local")
    assert again.returncode == 3 and "Traceback" not in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["--local", "ray"])
def test_killed_and_started_again_gives_the_same_bytes(recipe, folder, tmp_path, mode):
    options = ["--local"] if mode == "--local" else []
    words = ("run", recipe(), "--input", folder(24), "--output")
    curation(*words, tmp_path / "whole", "--local")
    out = tmp_path / "out"
    killed = begin(*words, out, *options)
    deadline = time.monotonic() + 120
    while not finished(out):
        assert killed.poll() is None and time.monotonic() < deadline, "it ended, or never published, before it could be killed"
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _settled(out)
    assert set(ledger(out).values()) == {"kept"} and len(ledger(out)) < 24, "killed in the middle"
    done = curation(*words, out, *options)
    assert done.returncode == 0, done.stderr
    assert tars(out) == tars(tmp_path / "whole") and len(tars(out)) > 2
    assert "planned 24 = kept 24" in done.stdout and leftovers(out) == []
    assert "no problem found" in curation("verify", out).stdout


@pytest.mark.faults
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["--local", "ray"])
def test_killed_at_ten_moments_and_started_again(recipe, folder, tmp_path, mode):
    options = ["--local"] if mode == "--local" else []
    words = ("run", recipe(), "--input", folder(60), "--output")
    begun = time.monotonic()
    curation(*words, tmp_path / "whole", "--local")
    took, start_up = time.monotonic() - begun, 2.0 if mode == "--local" else 12.0
    out, moments = tmp_path / "out", random.Random(f"ten moments, {mode}")
    for number in range(10):
        before, killed = len(finished(out)), begin(*words, out, *options)
        time.sleep(start_up * moments.uniform(0.3, 1.0))
        while number > 1 and len(finished(out)) == before and killed.poll() is None:
            time.sleep(0.01)  # killed thrice over the same clip alone, a process in which all is done would blame it
        time.sleep(took * moments.uniform(0, 0.2))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    _settled(out)
    done = curation(*words, out, *options)
    assert done.returncode == 0, done.stderr
    assert tars(out) == tars(tmp_path / "whole") and len(tars(out)) > 5
    assert "planned 60 = kept 60" in done.stdout and leftovers(out) == []


def _settled(out: Path) -> None:
    """Orphaned workers of a killed driver may still publish what they hold; wait until nothing changes."""
    seen: list[int] = []
    while len(seen) < 4 or len(set(seen[-4:])) > 1:
        seen.append(len(finished(out)))
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
    (tmp_path / "out" / "..book.json.0123456789abcdef.tmp").touch()  # of a process that was killed
    done = curation(*words)
    assert done.returncode == 0 and "nothing was left to do" in done.stdout and leftovers(tmp_path / "out") == []
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "shards").iterdir()}
    (session,) = sessions.read(Storage.at(tmp_path / "out"))
    assert session.clips == 3 and 0 < session.seconds < 600, "the second has done nothing"


def test_a_changed_knob_or_input_is_refused_by_name(recipe, folder, tmp_path):
    out = tmp_path / "out"
    curation("run", recipe(), "--input", folder(1), "--output", out, "--local")
    changed = recipe(FAST.replace("min_seconds: 0.1", "min_seconds: 0.2"))
    other = curation("run", changed, "--input", tmp_path / "in", "--output", out, "--local")
    assert other.returncode == 2 and "clips.split_shots.min_seconds: 0.1 → 0.2" in other.stderr
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
    assert done.returncode == 0 and open_plan(Storage.at(tmp_path / "out")).clips == 1


def test_an_empty_folder_is_an_empty_run(recipe, tmp_path):
    (tmp_path / "in").mkdir()
    done = curation("run", recipe(), "--input", tmp_path / "in", "--output", tmp_path / "out", "--local")
    assert done.returncode == 0 and "planned 0 = kept 0 + rejected 0 + failed 0" in done.stdout


def test_finished_shards_are_an_input(recipe, folder, tmp_path):
    curation("run", recipe(), "--input", folder(3), "--output", tmp_path / "first", "--local")
    done = curation("run", recipe(), "--input", tmp_path / "first", "--output", tmp_path / "second", "--local")
    assert done.returncode == 0 and "planned 3 = kept 3" in done.stdout
    first, second = (pictures(tmp_path / name) for name in ("first", "second"))
    assert first == second and len(first) == 3 * 4, "the packets of whole clips are copied"


def pictures(out: Path) -> dict[str, bytes]:
    """Every member but the metadata."""
    members = (read_sample(Storage.at(out), row) for row in rows(out))
    return {name: data for sample in members for name, data in sample if not name.endswith(".json")}


def test_what_is_packed_is_noted_while_a_run_goes_on(tmp_path, monkeypatch):
    storage = made.run(tmp_path, [[made.sample("a")]])
    clock = sessions.Clock(storage)
    with console.counting("run", 1) as count:
        main.Told(count, storage, clock)({"clips": 1, "kept": 1})
        assert not storage.exists(tally.NOTE) and not storage.exists(sessions.NAME), "not at once"
        monkeypatch.setattr(main, "NOTED", 0.0)
        main.Told(count, storage, clock)({"clips": 1, "kept": 1})
    assert count.done == 2 and tally.tally(storage).kept == 1 and storage.exists(tally.NOTE)
    assert [session.clips for session in sessions.read(storage)] == [2]
