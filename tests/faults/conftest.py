from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq
import pytest
import yaml

from curation.ledger import read_sample
from curation.storage import Storage
from curation.store import store
from tests.conftest import ROOT
from tests.faults.sabotage import ORDERS
from tests.faults.table import CLIPS, FAULTS
from tests.runs import finished, leftovers, rows, tars

MARK = "CURATION_FAULT"
"""Environment variable by which the processes of a run are known."""
NOWHERE = subprocess.DEVNULL
SECONDS = 0.5
"""Of each clip."""


class Ground:
    """A real run on twelve real clips, to be broken; and the output of one that nobody disturbed."""

    def __init__(self, folder: Path, undisturbed: Path | None = None):
        self.folder, self.out, self.mark = folder, folder / "out", secrets.token_hex(8)
        self.undisturbed = undisturbed or self.out
        self.source = folder / "videos"
        self.source.mkdir()
        for video in ("carphone_pristine", "bigbuckbunny"):
            (self.source / f"{video}.mp4").symlink_to(store.path("sample-videos") / f"{video}.mp4")
        spans = [(i * SECONDS, (i + 1) * SECONDS) for i in range(CLIPS - 4)]
        clips = [("carphone_pristine", span) for span in spans] + [("bigbuckbunny", span) for span in spans[:4]]
        lines = [
            {"path": f"{v}.mp4", "start": a, "end": b, "caption": f"A man talks, {i}."} for i, (v, (a, b)) in enumerate(clips)
        ]
        self.table = self.source / "clips.jsonl"
        self.table.write_text("\n".join(map(json.dumps, lines)))
        self.recipe()

    def recipe(self, clips: int = 2, workers: int | None = None, model: str | None = None, **limits: float) -> None:
        """`clips` a unit; shards so small that there are several."""
        own = {"workers": workers, "model": model}
        made = {
            "clips": [{"split_shots": {"detector": "none", "min_seconds": 0.1}}, {"sample_frames": {}}, {"sabotage": own}],
            "units": {"clips": clips},
            "limits": {"max_failed": 1.0, **limits},
            "shards": {"megabytes": 0.1},
        }
        (self.folder / "recipe.yaml").write_text(yaml.safe_dump(made))

    def orders(self, once: bool = True, **what: str) -> dict[str, str]:
        """The environment in which a key (or `load`) has such an order; `once`: for the first worker that comes to it."""
        listed = {key: [word, str(self.folder / f"done-{key}") if once else ""] for key, word in what.items()}
        path = self.folder / "orders.json"
        path.write_text(json.dumps(listed))
        return {ORDERS: str(path)}

    @property
    def go(self) -> Path:
        """What a clip whose order is `wait` waits for."""
        return self.folder / "orders.go"

    def key(self, number: int) -> str:
        return f"carphone_pristine_{round(1000 * SECONDS * number)}"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, MARK: self.mark}

    def words(self, *options: str, source: object = None, out: object = None) -> list[str]:
        command = [sys.executable, "-m", "tests.faults.drive", "run", self.folder / "recipe.yaml"]
        return [*map(str, [*command, "--input", source or self.table, "--output", out or self.out, *options])]

    def begin(
        self,
        *options: str,
        said: IO[str] | int = subprocess.DEVNULL,
        source: object = None,
        out: object = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """In a session of its own, as from another terminal."""
        words = self.words(*options, source=source, out=out)
        own = self.environment | environment
        return subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=said, env=own, start_new_session=True)

    def run(
        self, *options: str, source: object = None, out: object = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        words = self.words(*options, source=source, out=out)
        return subprocess.run(words, cwd=ROOT, env=self.environment | environment, capture_output=True, text=True, timeout=300)

    def wait(self, run: subprocess.Popen[bytes], clips: int = 1) -> None:
        """Until so many clips are in ledgers."""
        deadline = time.monotonic() + 120
        while self.done() < clips:
            assert run.poll() is None and time.monotonic() < deadline, "it ended, or never published"
            time.sleep(0.02)

    def done(self) -> int:
        """Clips in ledgers."""
        with suppress(OSError):  # a unit that is packed right now
            return sum(pq.read_metadata(ledger).num_rows for ledger in finished(self.out))
        return 0

    def judge(self, fault: str, out: Path | str | None = None, failed: dict[str, str] | None = None) -> None:
        """Hold what is there to docs/faults.md. `failed`: key → stage and reason of each clip that had to fail."""
        out, failed = out or self.out, failed or {}
        found = rows(out)
        counts = Counter(row["verdict"] for row in found)
        assert counts == Counter(kept=CLIPS - len(failed), failed=len(failed)), [r for r in found if r["verdict"] != "kept"]
        assert len(failed) == FAULTS[fault].failed
        assert set(Counter(row["key"] for row in found).values()) == {1}, "no key is there twice"
        assert {r["key"]: f"{r['stage']} {r['reason']}" for r in found if r["verdict"] == "failed"} == failed
        if isinstance(out, Path):
            assert leftovers(out) == []
        if not failed and isinstance(out, Path):
            same = tars(out) == self.whole
            assert same
        assert members(out) == {key: files for key, files in self.members.items() if key not in failed}
        assert self.orphans() == []

    @property
    def whole(self) -> dict[str, bytes]:
        """The tars as they should be."""
        return tars(self.undisturbed)

    @property
    def members(self) -> dict[str, list[tuple[str, bytes]]]:
        return members(self.undisturbed)

    def orphans(self, patience: float = 90.0) -> list[str]:
        """Command lines of processes of this run that are still there after some seconds."""
        deadline = time.monotonic() + patience
        while (found := _marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found


def members(out: Path | str) -> dict[str, list[tuple[str, bytes]]]:
    """By key what is in the tars."""
    return {row["key"]: list(read_sample(Storage.at(out), row)) for row in rows(out) if row["verdict"] == "kept"}


def _marked(mark: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue  # it ended meanwhile
    return [line for line in found if line]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "whole"
    folder.mkdir()
    ground = Ground(folder)
    done = ground.run("--local")
    assert done.returncode == 0, done.stderr
    assert len(tars(ground.out)) > 2 and len(members(ground.out)) == CLIPS
    return folder


@pytest.fixture
def ground(undisturbed: Path) -> Ground:
    folder = undisturbed.parent / secrets.token_hex(4)
    folder.mkdir()
    return Ground(folder, undisturbed / "out")
