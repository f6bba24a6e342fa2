from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from curation.trainer.errors import TrainerError
from curation.trainer.reading import Part, urls
from tests.trainer import made

pytestmark = pytest.mark.trainer


def tar(path: Path, keys: list[str]) -> Path:
    """A shard of samples that are nothing but metadata and a video of some bytes."""
    with tarfile.open(path, "w") as file:
        for key in keys:
            for suffix, data in (("mp4", b"video " + key.encode()), ("json", b"{}"), ("frame0.jpg", b"unused")):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in range(5):
        tar(tmp_path / f"s-{i}.tar", [f"k{i}_{j}" for j in range(4)])
    return tmp_path


def read(shards: list[str], rank: int, world: int, worker: int, workers: int, seed: int = 1) -> list[dict[str, Any]]:
    return list(Part(shards, seed, rank, world, worker, workers).samples(lambda one: True))


def test_a_run_gives_the_shards_that_have_a_ledger(tmp_path):
    run = made.write(tmp_path / "run", [[made.sample("a")], [made.sample("b")], []])
    names = [f"shard-00000-{i:04d}.tar" for i in (0, 1)]
    assert [Path(u).name for u in urls(run)] == names, "the third keeps nothing and has no tar"
    (run / "shards" / "shard-00000-0001.parquet").unlink()
    for where in (run, str(run), run / "shards"):
        assert [Path(u).name for u in urls(where)] == names[:1]
    for ledger in (run / "shards").glob("*.parquet"):
        ledger.unlink()
    with pytest.raises(TrainerError, match="no finished shards in"):
        urls(run)


def test_folders_patterns_lists_and_commands(folder):
    five = [str(folder / f"s-{i}.tar") for i in range(5)]
    assert urls(folder) == five
    assert urls(f"{folder}/s-{{0..2}}.tar") == five[:3]
    assert urls(five[3]) == [five[3]]
    assert urls([five[0], folder / "s-4.tar"]) == [five[0], five[4]]
    assert urls(f"pipe:cat {folder}/s-{{1..2}}.tar") == [f"pipe:cat {folder}/s-{i}.tar" for i in (1, 2)]
    assert urls("https://example.org/s-{000..001}.tar") == [f"https://example.org/s-00{i}.tar" for i in (0, 1)]


@pytest.mark.parametrize("gone", ["nowhere", "nowhere/s-{0..3}.tar", Path("nowhere")])
def test_what_is_not_there_is_said(gone):
    with pytest.raises(TrainerError, match="no shards at nowhere"):
        urls(gone)


def test_a_part_reads_through_a_pipe(folder):
    (sample, *_) = read(urls(f"pipe:cat {folder}/s-1.tar"), 0, 1, 0, 1)
    assert (sample["__key__"], sample["mp4"], sample["json"]) == ("k1_0", b"video k1_0", b"{}")
    assert "frame0.jpg" not in sample


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (1, 3), (2, 2), (5, 1), (3, 2), (4, 4)])
def test_every_sample_comes_once(folder, world, workers):
    """Also with more workers than shards, then sample by sample."""
    shards = urls(folder)
    parts = [[s["__key__"] for s in read(shards, r, world, w, workers)] for r in range(world) for w in range(workers)]
    assert sorted(k for part in parts for k in part) == sorted(f"k{i}_{j}" for i in range(5) for j in range(4))
    assert max(map(len, parts)) - min(map(len, parts)) <= 4  # a shard


def test_few_shards_are_split_evenly(folder):
    shards = urls(folder)[:1]
    parts = [[s["__key__"] for s in read(shards, r, 2, w, 2)] for r in range(2) for w in range(2)]
    assert [len(part) for part in parts] == [1, 1, 1, 1]


def test_the_order_of_shards_is_the_seeds(folder):
    orders = {tuple(s["__key__"] for s in read(urls(folder), 0, 1, 0, 1, seed)) for seed in (1, 1, 2, 3)}
    assert len(orders) == 3


def test_of_what_is_not_wanted_the_metadata_is_read(folder):
    part = Part(urls(folder), 1, 0, 1, 0, 1)
    for sample in part.samples(lambda one: one[1] == "k3_2" and one[0].endswith("s-3.tar")):
        assert sample["json"] == b"{}"
        assert ("mp4" in sample) == (sample["__key__"] == "k3_2")


def test_the_same_key_in_two_shards_is_two_samples(tmp_path):
    shards = [str(tar(tmp_path / "a.tar", ["one", "two"])), str(tar(tmp_path / "b.tar", ["two", "one"]))]
    assert sorted(s["__key__"] for s in read(shards, 0, 1, 0, 1)) == ["one", "one", "two", "two"]
    halves = [s["__key__"] for worker in range(3) for s in read(shards, 0, 1, worker, 3)]
    assert sorted(halves) == ["one", "one", "two", "two"]


def test_an_unreadable_shard_is_named(folder):
    (folder / "s-2.tar").write_bytes(b"not a tar" * 1000)
    with pytest.raises(TrainerError, match="s-2.tar: cannot be read as a shard: "):
        read(urls(folder), 0, 1, 0, 1)
    shards = urls(folder)
    (folder / "s-2.tar").unlink()
    with pytest.raises(TrainerError, match="s-2.tar: cannot be read as a shard: No such file"):
        read(shards, 0, 1, 0, 1)
    with pytest.raises(TrainerError, match="cannot be read as a shard: .*exit 3"):
        read(urls(f"pipe:cat {folder}/s-1.tar; exit 3"), 0, 1, 0, 1)


@pytest.mark.parametrize("size", [1024, 1200, 512 * 6, 512 * 7 + 3])
def test_a_shard_that_ends_early_is_named(folder, size):
    """In a member, in a header, between samples."""
    shard = folder / "s-2.tar"
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(TrainerError, match="s-2.tar: cannot be read as a shard: .*(early|unexpected end)"):
        read(urls(folder), 0, 1, 0, 1)


def test_a_compressed_shard_is_read(folder, tmp_path):
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(gzip.compress((folder / "s-1.tar").read_bytes()))
    assert [s["__key__"] for s in read(urls(packed), 0, 1, 0, 1)] == [f"k1_{j}" for j in range(4)]
