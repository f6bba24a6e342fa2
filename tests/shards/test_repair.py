"""What verify names, run makes anew; and clips that are taken out for good. Real runs, in this process."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from curation import ledger as ledgers
from curation.ledger import read_sample
from curation.look import decisions
from curation.run import run
from curation.shards import forget, repair
from curation.shards.forget import ForgetError
from curation.shards.planned import open_plan
from curation.shards.verify import Damage, verify
from curation.storage import Storage
from tests import videos
from tests.runs import ledger, leftovers, rows, tars

RECIPE = """
clips:
  - split_shots: {detector: none, min_seconds: 0.1}
  - sample_frames: {}
units: {clips: 2}
limits: {max_failed: 1.0}
shards: {megabytes: 0.005}
"""


class Small:
    """A run over ten small videos, one of them damaged, in several shards."""

    def __init__(self, folder: Path):
        self.folder, self.out = folder, folder / "out"
        (folder / "in").mkdir()
        for i in range(10):
            videos.write([videos.picture(100 * i + n) for n in range(12)], folder / "in" / f"v{i}.mp4")
            (folder / "in" / f"v{i}.txt").write_text(f"A man talks, number {i}.")
        (folder / "in" / "v4.mp4").write_bytes(b"no video" * 100)
        (folder / "recipe.yaml").write_text(RECIPE)

    @property
    def storage(self) -> Storage:
        return Storage.at(self.out)

    def run(self) -> int:
        return run.run(str(self.folder / "recipe.yaml"), str(self.folder / "in"), self.out, local=True)

    def verify(self) -> list[str]:
        """Problems; noted for the next run, as the command does it."""
        damage = Damage()
        found = list(verify(self.storage, damage=damage, workers=1))
        repair.note(self.storage, damage.files, damage.groups)
        return found

    def members(self) -> dict[str, list[tuple[str, bytes]]]:
        return {row["key"]: list(read_sample(self.storage, row)) for row in rows(self.out) if row["verdict"] == "kept"}


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small(tmp_path)
    assert made.run() == 0 and len(tars(made.out)) >= 4
    return made


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def blot(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + bytes(40) + data[len(data) // 3 + 40 :])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a tar is gone": lambda shards: (shards / "shard-00000-0001.tar").unlink(),
    "a tar is cut": lambda shards: cut(shards / "shard-00000-0001.tar"),
    "a bit of a picture": lambda shards: flip(
        shards / "shard-00000-0001.tar", (shards / "shard-00000-0001.tar").read_bytes().find(b"JFIF") + 900
    ),
    "a ledger is damaged": lambda shards: blot(shards / "shard-00000-0001.parquet"),
    "a ledger is gone": lambda shards: (shards / "shard-00000-0001.parquet").unlink(),
    "two neighbours": lambda shards: [cut(shards / f"shard-00000-000{i}.tar") for i in (1, 2)] and None,
    "the first": lambda shards: cut(shards / "shard-00000-0000.tar"),
    "the last": lambda shards: cut(sorted(shards.glob("*.tar"))[-1]),
    "all": lambda shards: [path.write_bytes(b"") for path in shards.glob("*.tar")] and None,
}


IN_SHORT = ("a bit of a picture", "a tar is gone", "two neighbours")
EACH = [pytest.param(how, id=name, marks=() if name in IN_SHORT else pytest.mark.slow) for name, how in DAMAGES.items()]


@pytest.mark.parametrize("damage", EACH)
def test_what_is_damaged_is_made_anew_and_nothing_else(small: Small, damage: Callable[[Path], None]) -> None:
    shards, whole, said = small.out / "shards", tars(small.out), ledger(small.out)
    before = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    damage(shards)
    hurt = (
        {name for name, data in whole.items() if (shards / name).read_bytes() != data}
        if len(tars(small.out)) == len(whole)
        else set()
    )
    assert small.verify(), "it is named"
    assert small.run() == 0
    same = tars(small.out) == whole
    assert same and ledger(small.out) == said and leftovers(small.out) == [] and list(verify(small.storage)) == []
    assert not (small.out / repair.NOTE).exists()
    after = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
    made = {name.partition(".")[0] for name in after if after[name] != before[name]}
    assert made and {name.partition(".")[0] for name in hurt} <= made
    assert len(made) == {"two neighbours": 2, "all": len(whole)}.get(next(k for k, v in DAMAGES.items() if v is damage), 1)


def test_a_repair_that_was_killed_goes_on(small: Small) -> None:
    whole = tars(small.out)
    cut(small.out / "shards" / "shard-00000-0001.tar")
    small.verify()
    repair.clear(small.storage, [(0, 5)])  # and here it ends
    assert small.run() == 0
    same = tars(small.out) == whole
    assert same and list(verify(small.storage)) == []


def test_a_clip_is_forgotten(small: Small) -> None:
    before = small.members()
    assert small.storage.exists("report.html") and small.storage.exists("summary.json")  # a run ends with them
    found = run.forget(str(small.out), ["v2", "v4"])
    assert found.clips == 2
    assert small.members() == {key: files for key, files in before.items() if key != "v2"}
    assert not {"report.html", "report.json", "summary.json"} & set(small.storage.names()), "they showed what is gone"
    assert ledger(small.out)["v2"] == ledger(small.out)["v4"] == "rejected forget forgotten"
    assert list(verify(small.storage)) == [] and leftovers(small.out) == []
    for path in small.out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"number 2" not in content and b"v2.mp4" not in content, path
    with tarfile.open(sorted((small.out / "shards").glob("*.tar"))[0]) as tar:
        assert not [name for name in tar.getnames() if name.startswith("v2.")]


def test_a_forgotten_clip_does_not_come_back(small: Small) -> None:
    run.forget(str(small.out), ["v2", "v4"])
    after = tars(small.out)
    assert small.run() == 0 and run.retry(str(small.out), local=True) == 0
    same = tars(small.out) == after
    assert same and ledger(small.out)["v2"] == "rejected forget forgotten"
    for path in (small.out / "shards").iterdir():
        path.unlink()
    for name in ("plan/plan.json", "plan/part-00000.parquet", "run.json"):
        (small.out / name).unlink()
    assert small.run() == 0, "planned again, in the same place"
    assert ledger(small.out)["v2"] == "rejected forget forgotten" and len(small.members()) == 8


def test_a_forgotten_clip_is_not_rebuilt(small: Small) -> None:
    run.forget(str(small.out), ["v2"])
    before = small.members()
    cut(small.out / "shards" / "shard-00000-0001.tar")
    cut(small.out / "shards" / "shard-00000-0000.tar")
    small.verify()
    assert small.run() == 0 and small.members() == before and list(verify(small.storage)) == []


def test_keys_of_a_file_need_not_be_there(small: Small, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("v1\n\nelsewhere\n")
    assert run.forget(str(small.out), [], tmp_path / "keys.txt").clips == 1
    assert forget.tombstones(small.storage) == {"v1", "elsewhere"}
    with pytest.raises(ForgetError, match="has no clip 'nowhere'"):
        run.forget(str(small.out), ["nowhere", "v3"])
    assert ledger(small.out)["v3"] == "kept"


def test_what_people_dropped_is_forgotten_when_it_is_asked_for(small: Small) -> None:
    for key, decision in (("v1", "drop"), ("v2", "drop"), ("v2", "keep"), ("v3", "keep")):
        decisions.add(small.storage, key, decision)
    assert run.forget(str(small.out), []).clips == 0
    assert run.forget(str(small.out), [], by_decision=True).clips == 1
    assert forget.tombstones(small.storage) == {"v1"} and ledger(small.out)["v2"] == "kept"


@pytest.mark.parametrize("point", ["the tombstone", "a part of the plan", "a tar"])
def test_forgetting_that_was_killed_goes_on_with_the_next_run(small: Small, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    before = small.members()
    last = {"the tombstone": "_part", "a part of the plan": "_ledger", "a tar": "encoded"}[point]

    def killed(*args: object, **facts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ledgers if last == "encoded" else forget, last, killed)
        run.forget(str(small.out), ["v2"])
    assert not json.loads((small.out / forget.NOTE).read_text())["done"]
    assert small.run() == 0
    assert small.members() == {key: files for key, files in before.items() if key != "v2"}
    assert list(verify(small.storage)) == [] and json.loads((small.out / forget.NOTE).read_text())["done"]


def test_a_unit_that_is_not_packed_forgets_too(small: Small) -> None:
    plan = open_plan(small.storage)
    assert plan
    (small.out / "units" / "00000").mkdir(parents=True)
    for suffix in ("tar", "parquet"):  # as if the first shard were one unit that waits
        (small.out / "shards" / f"shard-00000-0000.{suffix}").rename(small.out / "units" / "00000" / f"000000.{suffix}")
    first = "v0"
    assert forget._ledger(small.storage, "units/00000/000000.parquet", {first}) == 1
    with tarfile.open(small.out / "units/00000/000000.tar") as tar:
        assert first not in {name.partition(".")[0] for name in tar.getnames()}


def test_in_a_bucket_it_is_the_same(tmp_path: Path, s3: str) -> None:
    here = Small(tmp_path)
    there = f"{s3}/run"
    assert run.run(str(tmp_path / "recipe.yaml"), str(tmp_path / "in"), there, local=True) == 0
    storage = Storage.at(there)
    whole = {name: storage.read(f"shards/{name}") for name in storage.names("shards") if name.endswith(".tar")}
    storage.write("shards/shard-00000-0001.tar", whole["shard-00000-0001.tar"][:-700])
    damage = Damage()
    assert list(verify(storage, damage=damage, workers=1))
    repair.note(storage, damage.files, damage.groups)
    assert run.run(str(tmp_path / "recipe.yaml"), str(tmp_path / "in"), there, local=True) == 0
    same = {name: storage.read(f"shards/{name}") for name in whole} == whole
    assert same and run.forget(there, ["v2"]).clips == 1
    assert list(verify(storage, workers=1)) == [] and ledger(there)["v2"] == "rejected forget forgotten"
    assert here.run() == 0 and run.forget(str(here.out), ["v2"]).clips == 1
    assert {name: storage.read(f"shards/{name}") for name in whole} == tars(here.out)
