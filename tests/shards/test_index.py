"""Somebody else's tars, walked once, are trained on like one's own."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.buckets import Bucket
from curation.inputs.files import InputError
from curation.shards import index
from curation.trainer import clips
from curation.trainer.data import Data, Loader
from curation.trainer.plan import Plan
from tests import videos
from tests.trainer import made

pytestmark = pytest.mark.trainer
BUCKET = Bucket(frames=5, width=208, height=112, batch=3)


def tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions in .txt and in .json, a video of another kind, one that is turned, one that is none, one that is not there."""
    folder = tmp_path_factory.mktemp("index") / "tars"
    one = {"a.mp4": made.mp4(60, 24), "a.txt": b"a dog\n", "b.json": b'{"caption": "a cat"}', "b.mp4": made.mp4(30, 30)}
    one |= {
        "c.mp4": b"no video",
        "c.txt": b"none",
        "d.txt": b"no video at all",
        "deep/er/e.1.jpg": b"",
        "deep/er/e.mp4": made.mp4(20, 48),
    }
    two = {
        "a.json": json.dumps({"text": "upright"}).encode(),
        "a.mp4": videos.write([videos.picture(i) for i in range(9)], rate=24, rotate=90),
    }
    tar(folder / "one.tar", one | {"deep/er/e.txt": b"deep"})
    tar(folder / "two.tar", two)
    return folder


def made_index(foreign: Path, output: Path | str) -> Counter[str]:
    return index.make([str(foreign)], str(output), lambda line: None)


def test_what_a_sample_is_and_where_it_lies(foreign, tmp_path):
    assert made_index(foreign, tmp_path / "index") == {"kept": 4, "not_a_video": 1, "no_video": 1}
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "index/one.parquet").to_pylist()}
    facts = {
        key: (row["width"], row["height"], row["frames"], row["fps"]) for key, row in rows.items() if row["verdict"] == "kept"
    }
    assert facts == {"a": (*made.SIZE, 60, 24.0), "b": (*made.SIZE, 30, 30.0), "deep/er/e": (*made.SIZE, 20, 48.0)}
    assert rows["a"]["shard"] == str(foreign / "one.tar")
    assert rows["a"]["offset"] == 0 and rows["a"]["size"] == rows["b"]["offset"], "whole blocks"
    (turned,) = pq.read_table(tmp_path / "index/two.parquet").to_pylist()
    assert (turned["width"], turned["height"], turned["frames"]) == (*made.SIZE[::-1], 9)


def test_it_is_trained_on_like_a_run(foreign, tmp_path):
    made_index(foreign, tmp_path / "index")
    data = Data(buckets=[BUCKET])
    found = clips.read([clips.Run(str(tmp_path / "index"))], Data(buckets=[BUCKET]))[0]
    loader = Loader(Plan(found, [BUCKET], 0), data)
    ((batch,),) = loader.steps(0, 1)
    assert dict(zip(batch.keys, batch.captions, strict=True)) == {"a": "a dog", "b": "a cat", "deep/er/e": "deep"}
    assert found.passed_over == {"too_small": 1} and batch.references == [[], [], []]


def test_ones_own_shards_without_ledgers_keep_their_references(tmp_path):
    run = made.write(tmp_path / "run", [[made.sample("k")]])
    (run / "shards/shard-00000-0000.parquet").unlink()
    assert made_index(run / "shards", tmp_path / "index") == {"kept": 1}
    (row,) = pq.read_table(tmp_path / "index/shard-00000-0000.parquet").to_pylist()
    assert row["video"] == "v"  # the source's: what is held out
    found = clips.read([clips.Run(str(tmp_path / "index"))], Data(buckets=[BUCKET]))[0]
    ((batch,),) = Loader(Plan(found, [BUCKET], 0), Data(buckets=[BUCKET])).steps(0, 1)
    assert batch.keys == ["k"] * 3 and any(batch.references)


def test_the_same_key_again_is_another_sample(tmp_path):
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars/a.tar", "w") as archive:
        for name, data in [("a.mp4", made.mp4(60, 24)), ("a.txt", b"one"), ("a.mp4", made.mp4(30, 30)), ("a.txt", b"two")]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert made_index(tmp_path / "tars", tmp_path / "index") == {"kept": 2}
    assert pq.read_table(tmp_path / "index/a.parquet")["frames"].to_pylist() == [60, 30]


def test_it_goes_on_where_it_was_stopped(foreign, tmp_path):
    made_index(foreign, tmp_path / "index")
    (tmp_path / "index/two.parquet").unlink()
    before = (tmp_path / "index/one.parquet").stat().st_mtime_ns
    assert made_index(foreign, tmp_path / "index") == {"kept": 1}
    assert (tmp_path / "index/one.parquet").stat().st_mtime_ns == before


def test_in_an_object_store(foreign, s3, tmp_path):
    from curation.storage import Storage

    there = Storage.at(f"{s3}/tars")
    for path in foreign.glob("*.tar"):
        there.write(path.name, path.read_bytes())
    assert index.make([f"{s3}/tars"], f"{s3}/index", lambda line: None)["kept"] == 4
    found = clips.read([clips.Run(f"{s3}/index")], Data(buckets=[BUCKET]))[0]
    ((batch,),) = Loader(Plan(found, [BUCKET], 0), Data(buckets=[BUCKET])).steps(0, 1)
    assert set(batch.keys) == {"a", "b", "deep/er/e"}


def test_what_cannot_be_indexed_is_said(foreign, tmp_path):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/a.tar.gz").write_bytes(b"")
    tar(tmp_path / "again/one.tar", {})
    for sources, says in [
        ([str(tmp_path / "packed")], "no .tar there; compressed tars cannot be read by place"),
        ([str(tmp_path / "none")], "no .tar there"),
        ([str(foreign), str(tmp_path / "again")], "2 tars are called one.tar"),
    ]:
        with pytest.raises(InputError, match=says):
            index.make(sources, str(tmp_path / "index"), lambda line: None)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.tar").write_bytes(b"no tar" * 500)
    assert made_index(broken, tmp_path / "bad") == {"bad_tar": 1}
