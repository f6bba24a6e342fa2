from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from curation import recipe
from curation.buckets import Bucket
from curation.media import video
from curation.trainer.data import Batch, Data, Loader
from curation.trainer.errors import TrainerError
from curation.trainer.references import References
from tests import videos
from tests.trainer import made

pytestmark = pytest.mark.trainer

BUCKETS = [
    Bucket(frames=5, width=208, height=112, batch=4),
    Bucket(frames=9, width=160, height=80, batch=2, weight=2),
]
DATA = Data(buckets=BUCKETS, shuffle=6)


def keys(unit: int) -> list[str]:
    return [f"clip{unit}-{i}" for i in range(7)]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Three shards of seven clips, of three frame rates and lengths, and an empty one."""
    kinds: list[dict[str, Any]] = [{"frames": 40, "fps": 24}, {"frames": 30, "fps": 30, "face": True}, {"frames": 20, "fps": 48}]
    units = [[made.sample(key, subjects=2, **kinds[i % 3]) for i, key in enumerate(keys(unit))] for unit in range(3)]
    out = made.write(tmp_path_factory.mktemp("data") / "run", [*units, []])
    (out / "shards" / "shard-00000-0003.tar").write_bytes(bytes(10_240))
    return out


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """One good clip among others that are too short, too small, upright, without metadata or broken."""
    good = [made.sample("good")]
    bad = [made.sample("short", frames=4), made.sample("small", size=(104, 56)), made.sample("upright", size=(208, 800))]
    bad += [made.sample("broken", video=b"no video"), made.sample("foreign")]
    out = made.write(tmp_path_factory.mktemp("data") / "mixed", [good + bad])
    tar = out / "shards" / "shard-00000-0000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"foreign.json", b"foreign.text"))
    return out


def epoch(run: Path, data: Data = DATA, world: int = 1, **options: Any) -> list[list[Batch]]:
    """The batches of each process."""
    return [list(Loader(run, data, rank=rank, world=world, **{"epochs": 1, **options})) for rank in range(world)]


def fingerprint(batch: Batch) -> tuple[Any, ...]:
    """All there is in a batch, to compare."""
    pictures = [[(r.word, r.span, r.kind, r.image.sum().item()) for r in row] for row in batch.references]
    return (
        batch.keys,
        batch.captions,
        batch.firsts,
        batch.bucket,
        batch.position,
        batch.video.sum((1, 2, 3, 4)).tolist(),
        pictures,
    )


def after(loader: Loader, count: int) -> list[tuple[Any, ...]]:
    return [fingerprint(b) for b in islice(loader, count)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 0), (2, 1), (1, 5), (4, 0), (2, 3)])
def test_an_epoch_gives_every_sample_once(run, world, workers):
    """With few shards, too: from six workers on they are split by samples."""
    buckets = [replace(b, batch=4) for b in BUCKETS]
    batches = [b for rank in epoch(run, replace(DATA, buckets=buckets, workers=workers), world) for b in rank]
    assert sorted(k for b in batches for k in b.keys) == sorted(k for unit in range(3) for k in keys(unit))
    assert {b.position.epoch for b in batches} == {0}


def test_batches_have_their_buckets_shape_and_content(run):
    (batches,) = epoch(run)
    full = Counter(len(b.keys) == b.bucket.batch for b in batches)
    assert full[False] <= len(BUCKETS)  # what was left at the end
    for batch in batches:
        size = (len(batch.keys), batch.bucket.frames, 3, batch.bucket.height, batch.bucket.width)
        assert batch.video.shape == size and batch.video.dtype == torch.uint8
        assert len(batch.captions) == len(batch.references) == len(batch.firsts) == len(batch.keys)
        for caption, row in zip(batch.captions, batch.references, strict=True):
            assert len(row) <= 6
            for r in row:
                assert r.image.dtype == torch.uint8 and r.image.shape[0] == 3
                assert r.span and caption[slice(*r.span)] == r.word
                if r.kind in ("subject", "object"):
                    assert r.image[:, 24, 24].tolist() == list(made.COLOURS[made.WORDS.index(r.word)])


def test_clips_play_at_24_frames_per_second(run):
    (batches,) = epoch(run)
    sharp = [b for b in batches if b.bucket == BUCKETS[0]]
    rates = {40: 24, 30: 30, 20: 48}
    seen = set()
    for batch in sharp:
        for key, clip, first in zip(batch.keys, batch.video, batch.firsts, strict=True):
            frames = [40, 30, 20][int(key[-1]) % 3]
            said = [videos.number_of(frame.permute(1, 2, 0).numpy()) for frame in clip]
            step = rates[frames] / 24
            assert said[0] == first and said[-1] < frames
            assert all(abs(number - first - i * step) <= 0.5 for i, number in enumerate(said))
            seen.add(frames)
    assert seen == {40, 30, 20}


def test_clips_start_anywhere_they_can(run):
    firsts: dict[str, set[int]] = {}
    for batch in islice(Loader(run, replace(DATA, buckets=[BUCKETS[0]])), 120):
        for key, first in zip(batch.keys, batch.firsts, strict=True):
            firsts.setdefault(key, set()).add(first)
    found = set.union(*(f for k, f in firsts.items() if k[-1] in "036"))
    assert found <= set(range(36)) and {0, 35} < found and len(found) > 30  # 40 frames, 5 needed
    (batches,) = epoch(run, replace(DATA, start="first"))
    assert {first for b in batches for first in b.firsts} == {0}


def test_epochs_differ_and_a_seed_is_an_order(run):
    three = [fingerprint(b) for b in Loader(run, DATA, epochs=3)]
    again = [fingerprint(b) for b in Loader(run, DATA, epochs=3)]
    assert three == again
    orders = [[k for keys, *_, position, _, _ in three for k in keys if position.epoch == e] for e in range(3)]
    assert [len(o) for o in orders] == [21, 21, 21]
    assert orders[0] != orders[1] != orders[2]
    assert three != [fingerprint(b) for b in Loader(run, DATA, epochs=3, seed=1)]


def test_the_global_random_state_is_left_alone(run):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    next(iter(Loader(run, DATA)))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("stop", [1, 4, 13])
def test_it_goes_on_where_it_stood(run, workers, stop):
    """In the first epoch and in the second; the state goes through JSON, as checkpoints hold it."""
    data = replace(DATA, workers=workers)
    straight = after(Loader(run, data), stop + 8)
    loader = Loader(run, data)
    after(loader, stop)
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = Loader(run, data)
    resumed.load_state_dict(state)
    assert after(resumed, 8) == straight[stop:]


def test_it_goes_on_from_every_batch_of_a_rank(run):
    """Two workers of the second of two processes, over the end of an epoch that the workers reach at different times."""
    data = replace(DATA, workers=2)
    straight: list[tuple[Any, ...]] = []
    states = []
    loader = Loader(run, data, rank=1, world=2)
    for batch in islice(loader, 10):
        straight.append(fingerprint(batch))
        states.append(loader.state_dict())
    for done in (3, 5, 6, 8):
        resumed = Loader(run, data, rank=1, world=2)
        resumed.load_state_dict(states[done - 1])
        assert after(resumed, 2) == straight[done : done + 2]


def test_the_order_holds_when_a_worker_has_ended(run):
    """Without later epochs the others go on by themselves."""
    data = replace(DATA, workers=2)
    loader, straight, states = Loader(run, data, epochs=1), [], []
    for batch in loader:
        straight.append(fingerprint(batch))
        states.append(loader.state_dict())
    assert straight[-1][4].worker == straight[-2][4].worker
    for done in (len(straight) - 3, len(straight) - 1, len(straight)):
        resumed = Loader(run, data, epochs=1)
        resumed.load_state_dict(states[done - 1])
        assert [fingerprint(b) for b in resumed] == straight[done:]


def test_no_worker_and_one_worker_are_the_same(run):
    states, rest = [], []
    for workers in (0, 1):
        loader = Loader(run, replace(DATA, workers=workers))
        after(loader, 3)
        states.append(loader.state_dict())
        rest.append(after(loader, 3))
    assert states[0] == states[1] and rest[0] == rest[1]


def test_what_was_given_out_is_not_decoded_again(run, monkeypatch):
    decoded: Counter[str] = Counter()
    monkeypatch.setattr(video, "on_decode", lambda reader: decoded.update(["frames"]))
    loader = Loader(run, DATA)
    after(loader, 4)
    state = loader.state_dict()
    decoded.clear()
    resumed = Loader(run, DATA)
    resumed.load_state_dict(state)
    (batch,) = islice(resumed, 1)
    farthest = {24: 40, 30: 30, 48: 20}
    assert 0 < decoded["frames"] <= len(batch.keys) * max(farthest.values())


def test_a_moved_run_goes_on(run, tmp_path):
    loader = Loader(run, DATA)
    after(loader, 2)
    moved = tmp_path / "elsewhere"
    moved.symlink_to(run)
    resumed = Loader(moved, DATA)
    resumed.load_state_dict(loader.state_dict())
    assert after(resumed, 2) == after(loader, 2)


@pytest.mark.parametrize(
    ("options", "data", "says"),
    [
        ({"seed": 1}, {}, "seed: 0 → 1"),
        ({"world": 2}, {}, "world: 1 → 2"),
        ({}, {"workers": 3}, "workers: 1 → 3"),
        ({}, {"shuffle": 7}, "data.shuffle: 6 → 7"),
        ({}, {"buckets": [BUCKETS[0], replace(BUCKETS[1], batch=4)]}, "buckets.9x160x80.batch: 2 → 4"),
        ({"references": References(face=0.1)}, {}, "references.face: 0.5 → 0.1"),
    ],
)
def test_a_state_of_another_order_is_refused(run, options, data, says):
    state = Loader(run, DATA).state_dict()
    other = Loader(run, replace(DATA, **data), **options)
    with pytest.raises(TrainerError, match=says) as error:
        other.load_state_dict(state)
    assert "\n" not in str(error.value)


def test_other_shards_are_refused(run):
    state = Loader(run, DATA).state_dict()
    with pytest.raises(TrainerError, match="shards: 4 .* → 3 "):
        Loader(sorted((run / "shards").glob("*.tar"))[:3], DATA).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_passed_over_is_counted(mixed, workers):
    loader = Loader(mixed, replace(DATA, workers=workers), epochs=1)
    assert [b.keys for b in loader] == [["good"]]
    assert loader.skipped == {"too_short": 1, "too_small": 1, "too_much_cropped": 1, "no_metadata": 1, "undecodable": 1}


def test_what_was_passed_over_before_a_pause_is_counted_once(mixed):
    whole = Loader(mixed, DATA)
    assert len(after(whole, 4)) == 4
    first = Loader(mixed, DATA)
    after(first, 2)
    second = Loader(mixed, DATA)
    second.load_state_dict(first.state_dict())
    after(second, 2)
    assert second.skipped == whole.skipped


def test_a_clip_that_does_not_decode_is_named(mixed, caplog):
    list(Loader(mixed, DATA, epochs=1))
    (line,) = {r.getMessage() for r in caplog.records}
    assert line.startswith("broken of ") and line.endswith(" is left out: not_a_video")


def test_it_stops_when_nothing_fits(run):
    with pytest.raises(TrainerError, match=r"no clip suits any bucket in 10 epochs \(210 too_short\)") as error:
        next(iter(Loader(run, replace(DATA, buckets=[replace(BUCKETS[0], frames=121)]))))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_stops_it_with_one_line(tmp_path, workers):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(TrainerError, match=r"a.tar: cannot be read as a shard") as error:
        next(iter(Loader(tmp_path, replace(DATA, workers=workers))))
    assert "\n" not in str(error.value)


def test_more_processes_than_clips(tmp_path):
    """Those without a clip in one epoch have one in a later one."""
    run = made.write(tmp_path / "run", [[made.sample("a")]])
    data = Data(buckets=[replace(BUCKETS[0], batch=2)])
    found = [b for rank in epoch(run, data, 2, epochs=8) for b in rank]
    assert sorted(b.position.epoch for b in found) == list(range(8))


def test_a_batch_is_divided_among_processes(run):
    buckets = [Bucket(frames=5, width=208, height=112, batch=4)]
    for rank in epoch(run, Data(buckets=buckets), world=2):
        assert {len(b.keys) for b in rank} <= {1, 2} and rank[0].bucket.batch == 2
    with pytest.raises(TrainerError, match="a batch of 4 does not divide by 3 processes"):
        Loader(run, Data(buckets=buckets), world=3)


def test_it_reads_what_a_pipe_gives(run):
    urls = [f"pipe:cat {path}" for path in sorted((run / "shards").glob("*.tar"))]
    (batches,) = epoch(urls)
    assert sum(len(b.keys) for b in batches) == 21


def test_workers_can_be_spawned(run):
    """Nothing that only a fork would carry over."""
    data = replace(DATA, workers=1)
    plain = after(Loader(run, data), 1)
    method = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert after(Loader(run, data), 1) == plain
    finally:
        multiprocessing.set_start_method(method, force=True)


@pytest.fixture
def written(tmp_path) -> Iterator[Path]:
    yield tmp_path / "train.yaml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: {buckets: v2, fps: 12.5}", None),
        ("data: {buckets: [{frames: 17, width: 256, height: 144, batch: 2, weight: 1.5}]}", None),
        ("data: {}", "data.buckets must be given"),
        ("data: {buckets: v3}", ":1: data.buckets.*'v1' or 'v2', not 'v3'"),
        ("data: {buckets: [{frames: 17, width: 256}]}", "data.buckets.*height must be given"),
        ("data: {buckets: [{frames: 17, width: 256, height: 144, depth: 3}]}", ":1: data.buckets.*depth"),
        ("data: {buckets: v1, crop: left}", ":1: data.crop"),
    ],
)
def test_knobs_are_checked(written, text, says):
    written.write_text(text)
    if says is None:
        assert isinstance(recipe.sections(written, {"data": Data})["data"].table()[0], Bucket)
    else:
        with pytest.raises(recipe.RecipeError, match=says):
            recipe.sections(written, {"data": Data})


@pytest.mark.slow
def test_the_sample_clips_can_be_trained_on(sample_run):
    """What `make curate` makes: its own clips, cut-outs, faces and backgrounds."""
    data = Data(buckets=[Bucket(frames=17, width=256, height=144, batch=2)], upscale=True, min_kept=0.2)
    loader = Loader(sample_run, data, epochs=4)
    batches = list(loader)
    kinds = Counter(r.kind for b in batches for row in b.references for r in row)
    assert not loader.skipped and {"subject", "background"} <= set(kinds)
    for batch in batches:
        assert batch.video.float().std() > 5
