"""Whole runs on a disk that fills and on mounts that go away and come back; `make test-faults` runs them: a run waits minutes
before it gives up, and mounting takes rights."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests import videos
from tests.runs import FAST, begin, curation, finished, ledger, leftovers, tars

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
CLIPS = 60


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def mounted(tmp_path):
    """An empty folder on which something can be mounted; it is free again after the test."""
    place = tmp_path / "mounted"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
        subprocess.run(["umount", place], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount")
    yield place
    with suppress(subprocess.CalledProcessError):
        while place.is_mount():
            subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(CLIPS):
        videos.write([videos.picture(100 * i + n) for n in range(12)], folder / f"v{i:02d}.mp4")
        (folder / f"v{i:02d}.txt").write_text(f"A man talks, number {i}.")
    return folder


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(FAST)
    return path


def no_verdict(out: Path) -> None:
    assert set(ledger(out).values()) <= {"kept"}, "what broke on our side is no clip's verdict"


def whole(recipe: Path, source: Path, out: Path) -> dict[str, bytes]:
    assert curation("run", recipe, "--input", source, "--output", out, "--local").returncode == 0
    return tars(out)


@pytest.mark.parametrize("options", [["--local"], []], ids=["local", "ray"])
def test_a_disk_that_fills(recipe, source, tmp_path, mounted, options):
    expected = whole(recipe, source, tmp_path / "whole")
    half = sum(map(len, expected.values())) // 2
    mount("-t", "tmpfs", "-o", f"size={half}", "tmpfs", mounted)
    words = ("run", recipe, "--input", source, "--output", mounted / "out", *options)
    full = curation(*words)
    assert full.returncode in (1, 4) and "Traceback" not in full.stderr and "No space left" in full.stdout, full.stdout
    no_verdict(mounted / "out")
    assert 0 < len(ledger(mounted / "out")) < CLIPS
    mount("-o", "remount,size=50m", mounted)
    done = curation(*words)
    assert done.returncode == 0, done.stderr
    assert tars(mounted / "out") == expected and leftovers(mounted / "out") == []


@pytest.mark.parametrize("options", [["--local"], []], ids=["local", "ray"])
@pytest.mark.parametrize("which", ["input", "output"])
def test_a_mount_that_vanishes(recipe, source, tmp_path, mounted, which, options):
    expected = whole(recipe, source, tmp_path / "whole")
    behind = source if which == "input" else tmp_path / "behind"
    behind.mkdir(exist_ok=True)
    mount("--bind", behind, mounted)
    out = tmp_path / "out" if which == "input" else mounted / "out"
    words = ("run", recipe, "--input", mounted if which == "input" else source, "--output", out, *options)
    with (tmp_path / "said").open("w+") as said:
        run = begin(*words, said=said)
        deadline = time.monotonic() + 120
        while len(finished(out)) < 3:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        subprocess.run(["umount", "-l", mounted], check=True)
        status = run.wait(300)
        said.seek(0)
        text = said.read()
    assert status in (1, 4) and "Traceback" not in text, text
    mount("--bind", behind, mounted)
    no_verdict(out)
    done = curation(*words)
    assert done.returncode == 0, done.stderr
    assert tars(out) == expected and leftovers(out) == []
