"""What strangers send: a thousand bad files, small ones that cost much, and what leads out of the input."""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation.inputs.folder import read_folder
from tests import videos
from tests.conftest import ROOT
from tests.faults import bad_files
from tests.faults.bad_files import Bad, Lures
from tests.faults.bombs import bombs
from tests.runs import curation, leftovers, rows

pytestmark = pytest.mark.faults
RECIPE = """
clips:
  - split_shots: {detector: none, min_seconds: 0.1}
  - sample_frames: {}
units: {clips: 16}
limits: {max_failed: 1.0, seconds_per_clip: 4}
shards: {megabytes: 1}
"""
KNOWN = {
    "inputs": {"bad_caption", "bad_json", "duplicate_key", "name_not_utf8", "no_caption", "unreadable"},
    "split_shots": {
        *("bad_aspect_ratio", "bad_index", "damaged", "empty_file", "interlaced", "no_frames", "no_such_file", "no_video_stream"),
        *("not_a_video", "shot_boundary", "timestamps_go_backwards", "too_big", "too_long", "too_short", "too_slow", "truncated"),
        "unknown_codec",
    },
    "sample_frames": {"bad_index", "damaged", "frame_count", "timestamps_go_backwards", "too_slow", "truncated"},
}
"""By stage, the words that may be a file's fate: an error of no name of ours is none."""
MEMORY, NETWORK = 700, 600
"""MB that a run may take, of which 300 are Python and its libraries, and more where a network finds shots. A bomb that goes off
takes a gigabyte, or three."""
LONGEST = 400
"""Seconds of a run: what hangs is ended."""
IN_ACCESS, IN_OPEN = 1, 0x20


class Watched:
    """What lies outside the input, beside it: a video that the kernel watches, and a port. Nobody is to open either."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        videos.numbered(77, path=folder / "secret.mp4")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._events = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._events, os.fsencode(folder), IN_OPEN | IN_ACCESS) >= 0, ctypes.get_errno()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.lures = Lures(folder / "secret.mp4", self._listener.getsockname()[1])

    def was_opened(self) -> bool:
        """Since it was last asked."""
        found = bool(select.select([self._events], [], [], 0)[0])
        while select.select([self._events], [], [], 0)[0]:
            os.read(self._events, 65536)
        return found

    def was_called(self) -> bool:
        return bool(select.select([self._listener], [], [], 0)[0])

    def close(self) -> None:
        os.close(self._events)
        self._listener.close()


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    neighbour = Watched(folder)
    try:
        yield neighbour
        assert not neighbour.was_opened(), "a file outside the input was opened"
        assert not neighbour.was_called(), "a connection was made"
        neighbour.lures.secret.read_bytes()
        socket.create_connection(("127.0.0.1", neighbour.lures.port)).close()
        assert neighbour.was_opened() and neighbour.was_called(), "the watch itself works"
    finally:
        neighbour.close()


@dataclass(frozen=True)
class Ended:
    """A run: its exit status, what it printed, its peak in MB, what became of each file."""

    status: int
    said: str
    memory: int
    ledger: dict[str, dict]


MEASURED = f"""
import resource, subprocess, sys
try:
    status = subprocess.run(sys.argv[1:], timeout={LONGEST}).returncode
except subprocess.TimeoutExpired:
    status = 99
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""
"""A small process between: a child's peak begins with the size of the one that forks it."""


def run(folder: Path, out: Path, recipe: str = RECIPE) -> Ended:
    """The command itself, once over the folder."""
    out.parent.mkdir(exist_ok=True)
    (out.parent / "recipe.yaml").write_text(recipe)
    command = [sys.executable, "-X", "faulthandler", "-m", "curation.cli", "run", str(out.parent / "recipe.yaml")]
    command += ["--input", str(folder), "--output", str(out), "--local"]
    with (out.parent / "said").open("w+") as said:
        process = subprocess.Popen([sys.executable, "-c", MEASURED, *command], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        status = process.wait()
        said.seek(0)
        words, _, memory = said.read().strip().rpartition("\n")
    found = rows(out) if (out / "shards").exists() else []
    ledger = {row["key"]: row for row in found}
    assert len(ledger) == len(found), "a key stands twice"
    return Ended(status, words, int(memory) // 1024, ledger)


def check(ended: Ended, folder: Path, count: int, memory: int = MEMORY) -> None:
    """What holds of every run over bad files."""
    assert ended.status == 0, ended.said[-3000:]
    assert "Traceback" not in ended.said, ended.said[-3000:]
    assert {clip.key for clip in read_folder(str(folder))} == set(ended.ledger), "a file was lost"
    verdicts = Counter(row["verdict"] for row in ended.ledger.values())
    assert set(verdicts) <= {"kept", "rejected", "failed"} and sum(verdicts.values()) == count, verdicts
    for key, row in ended.ledger.items():
        if row["verdict"] != "kept":
            assert row["reason"] in KNOWN[row["stage"]], (key, row["stage"], row["reason"], row["detail"])
    assert ended.memory < memory, f"{ended.memory} MB"


def go_through(bads: list[Bad], neighbour: Watched, tmp: Path, recipe: str, record: Callable[[str, object], None]) -> Ended:
    """Write them, run over them, check; say what they cost."""
    folder = tmp / "input"
    for bad in bads:
        bad.write(folder)
    ended = run(folder, tmp / "work" / "run", recipe)
    check(ended, folder, len(bads), MEMORY + NETWORK * (recipe != RECIPE))
    spent = {row["key"]: sum(dict(row["seconds"]).values()) for row in ended.ledger.values()}
    slowest = sorted(spent, key=lambda key: -spent[key])[:5]
    figures = {
        "files": len(bads),
        "seconds_per_file": round(sum(spent.values()) / len(bads), 4),
        "median": round(sorted(spent.values())[len(bads) // 2], 4),
        "peak_mb": ended.memory,
        "slowest": {key: round(spent[key], 2) for key in slowest},
        "verdicts": dict(Counter(row["verdict"] for row in ended.ledger.values())),
    }
    print(json.dumps(figures))
    record("figures", str(figures))
    return ended


def fates(ended: Ended, bads: list[Bad], folder: Path) -> dict[bytes, tuple[str, str]]:
    """Path of a file → its verdict and reason."""
    keys = {os.fsencode(str(clip.meta["source"]["path"])): clip.key for clip in read_folder(str(folder))}
    top = os.fsencode(folder) + b"/"
    known = {bad.path: ended.ledger[keys[top + bad.path]] for bad in bads if top + bad.path in keys}
    return {path: (row["verdict"], row["reason"]) for path, row in known.items()}


def check_families(ended: Ended, bads: list[Bad], folder: Path) -> None:
    """What kinds of file come to, beside that they have a reason."""
    fate = fates(ended, bads, folder)
    costly = {f"bombs/bomb-{bomb.name}".encode() for bomb in bombs() if bomb.costs}
    for bad in bads:
        verdict, reason = fate.get(bad.path, ("", ""))
        if bad.path in costly:
            assert verdict != "kept", bad.path
        if bad.family in ("playlists", "foreign") and not bad.name.endswith(b".mov") and bad.data:
            assert reason in ("not_a_video", "no_video_stream", "truncated", "no_frames"), (bad.path, verdict, reason)
        if bad.family == "names" and verdict and bad.data == bad_files.source("h264.mp4") and bad.name.isascii():
            assert verdict == "kept" or reason == "no_caption", (bad.path, verdict, reason)
    if "captions" in {bad.family for bad in bads}:
        kept = [path for path, (verdict, _) in fate.items() if path.startswith(b"captions") and verdict == "kept"]
        assert kept, "some odd captions are captions"


def test_some_of_a_thousand_bad_files(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with watched(tmp_path / "outside") as neighbour:
        bads = bad_files.some(bad_files.generate(neighbour.lures), 70)
        ended = go_through(bads, neighbour, tmp_path, RECIPE, record_property)
    check_families(ended, bads, tmp_path / "input")


def test_the_same_files_before_the_network_that_finds_shots(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    recipe = RECIPE.replace("{detector: none, min_seconds: 0.1}", "{}")
    with watched(tmp_path / "outside") as neighbour:
        bads = bad_files.some(bad_files.generate(neighbour.lures), 70)
        go_through(bads, neighbour, tmp_path, recipe, record_property)


def test_a_thousand_bad_files(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with watched(tmp_path / "outside") as neighbour:
        bads = bad_files.generate(neighbour.lures)
        assert len(bads) == bad_files.COUNT == len({bad.path for bad in bads})
        ended = go_through(bads, neighbour, tmp_path, RECIPE, record_property)
    check_families(ended, bads, tmp_path / "input")
    assert leftovers(tmp_path / "work" / "run") == []
    verified = curation("verify", tmp_path / "work" / "run")
    assert verified.returncode == 0, f"what was kept is sound: {verified.stdout}"


def test_the_files_are_the_same_every_time(tmp_path: Path) -> None:
    lures = Lures(tmp_path / "secret.mp4", 9)  # of the same sources: x264 gives other bytes once in a thousand times
    assert bad_files.generate(lures) == bad_files.generate(lures)


def test_what_is_no_file_though_its_name_says_so(tmp_path: Path) -> None:
    """Pipes and devices would be waited for or read for ever, links go round in circles, paths grow longer than they may be."""
    folder = tmp_path / "input"
    folder.mkdir()
    for name in ("good", "caption-pipe", "caption-device"):
        (folder / f"{name}.mp4").write_bytes(bad_files.source("h264.mp4"))
    for name in ("good", "pipe", "device", "itself", "nowhere"):
        (folder / f"{name}.txt").write_text("A cat.")
    os.mkfifo(folder / "pipe.mp4")
    os.mkfifo(folder / "caption-pipe.txt")
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    inside = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=inside)
        outer, inside = inside, os.open("d" * 250, os.O_RDONLY, dir_fd=inside)
        os.close(outer)
    os.close(inside)
    ended = run(folder, tmp_path / "work" / "run")
    check(ended, folder, 8)
    reasons = {row["key"]: row["reason"] for row in ended.ledger.values() if len(row["key"]) < 20}
    assert reasons == {
        **{"good": "", "caption-pipe": "bad_caption", "caption-device": "bad_caption"},
        **dict.fromkeys(("pipe", "device", "itself", "nowhere"), "no_such_file"),
    }


LINKS = {
    "device.mp4": "/dev/zero",
    "caption-device.txt": "/dev/zero",
    "itself.mp4": "itself.mp4",
    "nowhere.mp4": "/nowhere/at/all.mp4",
    "round": ".",
    "about": "../input",
}
