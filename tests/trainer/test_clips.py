from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.buckets import TABLES, Bucket
from curation.trainer import clips
from curation.trainer.clips import Run, read
from curation.trainer.data import Data
from curation.trainer.errors import TrainerError
from tests.trainer import made

pytestmark = pytest.mark.trainer
SHORT = Bucket(frames=5, width=208, height=112)
LONG = Bucket(frames=33, width=104 // 8 * 8 // 16 * 16, height=48)
DATA = Data(buckets=[SHORT, LONG])


def sample(key: str, video: str = "v", **knobs: Any) -> Any:
    one = made.sample(key, **knobs)
    one.meta["source"]["video"] = video
    return one


def keys(found: clips.Clips) -> list[str]:
    """In the order of rows."""
    return [clips.members(*found.tars[found.tar[i]], int(found.offset[i]), int(found.size[i]))[0] for i in range(len(found))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    units = [[sample("a"), sample("b", frames=20), sample("c", frames=3)], [sample("d", size=(104, 56)), sample("e")]]
    return made.write(tmp_path_factory.mktemp("clips") / "run", units)


def test_rows_are_sorted_into_ranges_of_the_buckets_that_take_them(run):
    train, held = read([Run(str(run))], DATA)
    assert len(held) == 0 and len(train) == 4
    names = keys(train)
    taken = {bucket: [names[i] for first, last in train.fitting(0, bucket) for i in range(first, last)] for bucket in (0, 1)}
    assert sorted(taken[0]) == ["a", "b", "e"] and sorted(taken[1]) == ["a", "d", "e"]
    assert [names[i] for g in train.groups if g.mask == 3 for i in range(g.first, g.last)] == ["a", "e"]
    assert train.passed_over == {"too_short": 1}
    assert train.frames.tolist() == [{"b": 20}.get(name, 60) for name in names] and set(train.fps.tolist()) == {24.0}


def test_the_folder_of_shards_is_as_good_as_the_run(run):
    one, other = (read([Run(str(where))], DATA)[0] for where in (run, run / "shards"))
    assert keys(one) == keys(other) and one.groups == other.groups


def test_what_was_not_kept_or_not_packed_is_no_clip(run, tmp_path):
    ledger = pq.read_table(run / "shards/shard-00000-0000.parquet")
    (tmp_path / "shards").mkdir()
    rows = ledger.to_pylist()
    rows[0]["verdict"], rows[1]["frames"] = "rejected", None
    pq.write_table(pa.Table.from_pylist(rows, ledger.schema), tmp_path / "shards/shard-00000-0000.parquet")
    pq.write_table(pa.Table.from_pylist([rows[2] | {"shard": ""}], ledger.schema), tmp_path / "shards/shard-00000-0001.parquet")
    train, _ = read([Run(str(tmp_path))], Data(buckets=[Bucket(frames=1, width=16, height=16)], min_kept=0.0))
    assert len(train) == 1 and train.passed_over == {"no_video": 1}


def test_several_runs_are_told_apart(run, tmp_path):
    other = made.write(tmp_path / "other", [[sample("x"), sample("y")]])
    train, _ = read([Run(str(run)), Run(str(other), 3.0)], DATA)
    names = keys(train)
    of = {g.run: set() for g in train.groups}
    for g in train.groups:
        of[g.run] |= set(names[g.first : g.last])
    assert of == {0: {"a", "b", "d", "e"}, 1: {"x", "y"}}


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("runs/a", Run("runs/a")),
        ("runs/a=0.5", Run("runs/a", 0.5)),
        ("runs/fps=b", Run("runs/fps=b")),
        ("s3://b/r=2", Run("s3://b/r", 2.0)),
    ],
)
def test_a_run_and_its_weight(text, run):
    assert Run.of(text) == run


def test_a_weight_of_nothing_is_refused():
    with pytest.raises(TrainerError, match="more than 0"):
        Run.of("a=0")


def test_sources_are_held_out_whole(tmp_path):
    """By the source video, not by the clip; a larger share holds out those of a smaller one, too."""
    videos = [f"video{i}" for i in range(60)]
    units = [[sample(f"{video}-{i}", video) for i in range(2)] for video in videos]
    out = made.write(tmp_path / "run", [[one for unit in units for one in unit]])
    sides = {}
    for share in (0.0, 0.2, 0.5):
        train, held = read([Run(str(out))], Data(buckets=[SHORT], holdout=share))
        sides[share] = {key.partition("-")[0] for key in keys(held)}
        assert len(train) + len(held) == 120 and sides[share].isdisjoint(key.partition("-")[0] for key in keys(train))
        assert len(held) == 2 * len(sides[share])
    assert sides[0.0] == set() and sides[0.2] < sides[0.5]
    assert 4 < len(sides[0.2]) < 22 and 18 < len(sides[0.5]) < 42


def test_a_digest_is_that_of_the_clips(run, tmp_path):
    train = read([Run(str(run))], DATA)[0]
    other = made.write(tmp_path / "other", [[sample("a"), sample("b", frames=20), sample("c", frames=3)]])
    assert train.digest != read([Run(str(other))], DATA)[0].digest


def test_where_there_is_nothing_one_line_says_what_would_be(tmp_path, run):
    (tmp_path / "empty").mkdir()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "a.tar").write_bytes((run / "shards/shard-00000-0000.tar").read_bytes())
    table = tmp_path / "table"
    table.mkdir()
    pq.write_table(pa.table({"a": [1]}), table / "a.parquet")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "a.parquet").write_bytes(b"PAR1 no")
    for where, says in [
        (tmp_path / "none", "no such folder"),
        (tmp_path / "empty", "no finished shards"),
        (foreign, "`curation shards index .* --output INDEX`"),
        (table, "no ledgers: no column"),
        (damaged, "cannot be read"),
    ]:
        with pytest.raises(TrainerError, match=says) as error:
            read([Run(str(where))], DATA)
        assert "\n" not in str(error.value)


def test_a_clip_is_found_by_its_key(run):
    assert json.loads(clips.sample(str(run), "e")["json"])["key"] == "e"
    assert json.loads(clips.sample(str(run), None)["json"])["key"] == "a"
    with pytest.raises(TrainerError, match="no clip 'z'"):
        clips.sample(str(run), "z")


def test_the_papers_tables_take_what_fits():
    """By hand: 10 s of 1280×720 at 30 fps are 240 frames of 24; the longest buckets of 512×288 and 256×144 need more."""
    import numpy as np

    from curation.buckets import fits

    buckets = TABLES["v2"]
    (mask,), reasons = fits(buckets, *(np.array([n]) for n in (1280, 720, 30.0, 300)), 24.0, False, 0.5)
    taken = Counter((b.width, b.frames) for i, b in enumerate(buckets) if int(mask) >> i & 1)
    assert (256, 193) in taken and (256, 289) not in taken and sum(taken.values()) == 17 and not reasons
