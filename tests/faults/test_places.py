"""Disks that fill, mounts that vanish or turn read-only and come back, sources that are deleted, downloads that are cut off. Most
wait minutes before they give up."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.faults.conftest import CLIPS, Ground
from tests.runs import ledger

pytestmark = pytest.mark.faults
WAITS = [pytest.mark.long, pytest.mark.timeout(900)]
MODES = pytest.mark.parametrize("options", [["--local"], []], ids=["local", "ray"])


def mount(*words: object) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


@pytest.fixture
def mounted(ground: Ground) -> Iterator[Path]:
    """An empty folder on which something can be mounted; it is free again after the test."""
    place = ground.folder / "mounted"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", place)
        subprocess.run(["umount", place], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount")
    yield place
    while subprocess.run(["umount", "-l", place], capture_output=True).returncode == 0:
        pass  # a bind mount of the same disk does not look like a mount


def no_verdict(out: Path) -> None:
    assert set(ledger(out).values()) <= {"kept"}, "what broke on our side is no clip's verdict"


class TestWaits:
    """Those that wait."""

    pytestmark = WAITS

    @MODES
    def test_a_disk_that_fills(self, ground: Ground, mounted: Path, options: list[str]) -> None:
        half = sum(map(len, ground.whole.values())) // 2
        mount("-t", "tmpfs", "-o", f"size={half}", "tmpfs", mounted)
        ground.out = mounted / "out"
        full = ground.run(*options)
        assert full.returncode in (1, 4) and "Traceback" not in full.stderr and "No space left" in full.stdout, full.stdout
        no_verdict(ground.out)
        assert 0 < len(ledger(ground.out)) < CLIPS
        mount("-o", "remount,size=50m", mounted)
        done = ground.run(*options)
        assert done.returncode == 0, done.stderr
        ground.judge("disk_full")

    @MODES
    @pytest.mark.parametrize("which", ["input", "output", "read-only output"])
    def test_a_mount_that_vanishes(self, ground: Ground, mounted: Path, which: str, options: list[str]) -> None:
        behind = ground.source if which == "input" else ground.folder / "behind"
        behind.mkdir(exist_ok=True)
        mount("--bind", behind, mounted)
        source = mounted / ground.table.name if which == "input" else None
        ground.out = ground.folder / "out" if which == "input" else mounted / "out"
        with (ground.folder / "said").open("w+") as said:
            run = ground.begin(*options, said=said, source=source)
            ground.wait(run, 3)
            if which == "read-only output":  # the same folder on top: what is being written to does not turn read-only
                mount("--bind", behind, mounted)
                mount("-o", "remount,bind,ro", mounted)
            else:
                subprocess.run(["umount", "-l", mounted], check=True)
            status = run.wait(400)
            said.seek(0)
            text = said.read()
        assert status in (1, 4) and "Traceback" not in text, text
        if which == "read-only output":
            subprocess.run(["umount", "-l", mounted], check=True)
        else:
            mount("--bind", behind, mounted)
        no_verdict(ground.out)
        again = ground.begin(*options, source=source)
        assert again.wait(300) == 0
        ground.judge({"input": "input_vanishes", "output": "output_vanishes"}.get(which, "output_read_only"))


def test_an_output_that_cannot_be_written_to(ground: Ground, mounted: Path) -> None:
    (ground.folder / "behind").mkdir()
    mount("--bind", ground.folder / "behind", mounted)
    mount("-o", "remount,bind,ro", mounted)
    ground.out = mounted / "out"
    refused = ground.run("--local")
    assert refused.returncode == 2 and refused.stderr == f"curation: --output {ground.out}: Read-only file system\n"
    mount("-o", "remount,bind,rw", mounted)
    assert ground.run("--local").returncode == 0
    ground.judge("output_read_only_at_start")


@MODES
def test_a_source_is_deleted(ground: Ground, options: list[str]) -> None:
    """One that nobody has come to yet: a copy of a clip's video, under a name of its own."""
    video = ground.source / "carphone_pristine.mp4"
    lone = ground.source / "lone.mp4"
    shutil.copy(video, lone)
    lines = ground.table.read_text().splitlines()
    lines[-1] = '{"path": "lone.mp4", "start": 0.0, "end": 0.5, "caption": "A man talks, 11.", "key": "bigbuckbunny_1500"}'
    ground.table.write_text("\n".join(lines))
    run = ground.begin(*options)
    while not (ground.out / "run.json").exists():  # it is planned
        assert run.poll() is None
        time.sleep(0.01)
    lone.unlink()
    assert run.wait(200) == 0
    ground.judge("source_deleted", failed={"bigbuckbunny_1500": "split_shots no_such_file"})


def test_a_models_download_is_cut_off(ground: Ground) -> None:
    """The archive ends early: nothing half is in the store, and one line says so; with all of it the same command goes on."""
    home, archive = ground.folder / "home", ground.folder / "thing.tgz"
    weights = b"w" * 100_000
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo("pkg/weights.bin")
        member.size = len(weights)
        tar.addfile(member, io.BytesIO(weights))
    whole = content.getvalue()
    archive.write_bytes(whole[: len(whole) // 2])
    home.mkdir()
    file = {"size": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
    entry = {
        "description": "a thing",
        "licence": "MIT",
        "source": f"file:{archive}",
        "root": "pkg",
        "files": {"weights.bin": file},
    }
    (home / "store.yaml").write_text(yaml.safe_dump({"thing": entry}))
    ground.recipe(model="thing")
    cut = ground.run("--local", CURATION_HOME=str(home))
    assert cut.returncode == 2 and "Traceback" not in cut.stderr, cut.stderr
    last = cut.stderr.splitlines()[-1]
    assert (
        last.startswith("curation: cannot get ")
        and " of thing " in last
        and not list(home.rglob("weights.bin"))
        and not list(home.rglob("*.tmp"))
    )
    archive.write_bytes(whole)
    done = ground.run("--local", CURATION_HOME=str(home))
    assert done.returncode == 0 and (home / "models/thing/weights.bin").read_bytes() == weights, done.stderr
    assert ground.run("--local", out=ground.folder / "undisturbed", CURATION_HOME=str(home)).returncode == 0
    ground.undisturbed = ground.folder / "undisturbed"
    ground.judge("download_cut")
