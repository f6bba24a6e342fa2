from __future__ import annotations

import multiprocessing
import shutil
import tracemalloc
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
from curation.trainer import clips
from curation.trainer.augment import Augment
from curation.trainer.data import Batch, Data, Loader
from curation.trainer.errors import TrainerError
from curation.trainer.plan import Plan
from tests import videos
from tests.trainer import made

pytestmark = pytest.mark.trainer

BUCKETS = [
    Bucket(frames=5, width=208, height=112, batch=4),
    Bucket(frames=9, width=160, height=80, batch=2, weight=2),
]
DATA = Data(buckets=BUCKETS)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Three shards of seven clips, of three frame rates and lengths, and an empty one."""
    kinds: list[dict[str, Any]] = [{"frames": 40, "fps": 24}, {"frames": 30, "fps": 30, "face": True}, {"frames": 20, "fps": 48}]
    units = [[made.sample(f"clip{unit}-{i}", subjects=2, **kinds[i % 3]) for i in range(7)] for unit in range(3)]
    return made.write(tmp_path_factory.mktemp("data") / "run", [*units, []])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Two good clips among others that are too short, too small, upright or broken."""
    good = [made.sample("good"), made.sample("fine")]
    bad = [made.sample("short", frames=4), made.sample("small", size=(104, 56)), made.sample("upright", size=(208, 800))]
    return made.write(tmp_path_factory.mktemp("data") / "mixed", [good + bad + [made.sample("broken", video=b"no video")]])


def planned(where: Path | str, data: Data = DATA, seed: int = 0) -> Plan:
    return Plan(clips.read([clips.Run(str(where))], data)[0], data.table(), seed)


def steps(
    where: Path | str, data: Data = DATA, first: int = 0, last: int = 12, seed: int = 0, **options: Any
) -> list[list[Batch]]:
    return list(Loader(planned(where, data, seed), data, **options).steps(first, last))


def fingerprint(batch: Batch) -> list[tuple[Any, ...]]:
    """All there is of each clip in a batch, to compare."""
    pictures = [[(r.word, r.span, r.kind, r.image.sum().item()) for r in row] for row in batch.references]
    videos_ = batch.video.sum((1, 2, 3, 4)).tolist()
    each = zip(batch.slots, batch.keys, batch.captions, batch.firsts, videos_, pictures, strict=True)
    return [(batch.step, batch.bucket.name, *one) for one in each]


def said(where: Path | str, *args: Any, **options: Any) -> list[tuple[Any, ...]]:
    return [one for step in steps(where, *args, **options) for batch in step for one in fingerprint(batch)]


def test_batches_have_their_buckets_shape_and_content(run):
    for (batch,) in steps(run):
        size = (batch.bucket.batch, batch.bucket.frames, 3, batch.bucket.height, batch.bucket.width)
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
    rates = {40: 24, 30: 30, 20: 48}
    seen = set()
    for (batch,) in steps(run, replace(DATA, buckets=BUCKETS[:1])):
        for key, clip, first in zip(batch.keys, batch.video, batch.firsts, strict=True):
            frames = [40, 30, 20][int(key[-1]) % 3]
            numbers = [videos.number_of(frame.permute(1, 2, 0).numpy()) for frame in clip]
            step = rates[frames] / 24
            assert numbers[0] == first and numbers[-1] < frames
            assert all(abs(number - first - i * step) <= 0.5 for i, number in enumerate(numbers))
            seen.add(frames)
    assert seen == {40, 30, 20}


def test_clips_start_anywhere_they_can(run):
    firsts: dict[str, set[int]] = {}
    for (batch,) in steps(run, replace(DATA, buckets=BUCKETS[:1]), last=120):
        for key, first in zip(batch.keys, batch.firsts, strict=True):
            firsts.setdefault(key, set()).add(first)
    found = set.union(*(f for k, f in firsts.items() if k[-1] in "036"))
    assert found <= set(range(36)) and {0, 35} < found and len(found) > 30  # 40 frames, 5 needed
    assert {f for (batch,) in steps(run, replace(DATA, start="first")) for f in batch.firsts} == {0}


def test_a_crop_at_random_is_not_the_middle_one(run):
    wide = replace(DATA, buckets=[Bucket(frames=5, width=64, height=64, batch=4)])
    middle, anywhere = (steps(run, replace(wide, crop=crop), last=1)[0][0].video for crop in ("centre", "random"))
    assert middle.shape == anywhere.shape and not torch.equal(middle, anywhere)


def test_a_seed_is_an_order(run):
    assert said(run) == said(run) != said(run, seed=1)


def test_the_global_random_state_is_left_alone(run):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    steps(run, last=1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("world", "workers", "most"), [(1, 2, None), (2, 0, None), (2, 1, 1), (1, 0, 1)])
def test_what_a_step_holds_does_not_depend_on_who_reads_it(run, world, workers, most):
    """Processes, workers, clips at once: the same clips, cut at the same frames, with the same references, in the same slots."""
    data = replace(DATA, workers=workers, tokens=most)
    options: dict[str, Any] = {"last": 6, "augment": Augment()}
    shares = [said(run, data, rank=rank, world=world, tokens=lambda bucket: 1, **options) for rank in range(world)]
    assert sorted(one for share in shares for one in share) == sorted(said(run, **options))


@pytest.mark.parametrize("workers", [0, 2])
def test_any_step_can_be_the_first(run, workers):
    assert said(run, replace(DATA, workers=workers), first=7, last=12) == said(run)[-len(said(run, first=7)) :]


def test_a_long_training_is_not_laid_out_beforehand(run):
    """Of a third of a million steps the parts would take 90 MB; the buckets drawn take 15."""
    tracemalloc.start()
    try:
        next(Loader(planned(run), DATA).steps(0, 300_000))
        assert tracemalloc.get_traced_memory()[1] < 45e6
    finally:
        tracemalloc.stop()


def test_references_are_augmented_each_time_anew(run):
    """And whatever the table says, they are uint8 pictures of the same words."""
    still, moved = steps(run, last=30), steps(run, last=30, augment=Augment())
    pairs = [
        (one, other)
        for (plain,), (batch,) in zip(still, moved, strict=True)
        for rows in zip(plain.references, batch.references, strict=True)
        for one, other in zip(*rows, strict=True)
    ]
    assert all((one.word, one.span, one.kind) == (other.word, other.span, other.kind) for one, other in pairs)
    assert all(other.image.dtype == torch.uint8 and not torch.equal(one.image, other.image) for one, other in pairs)
    seen: dict[bytes, set[bytes]] = {}
    for one, other in pairs:
        seen.setdefault(one.image.numpy().tobytes(), set()).add(other.image.numpy().tobytes())
    assert len(seen) < len(pairs) == sum(len(looks) for looks in seen.values()), "of one picture never twice the same"
    none = Augment(min_side=10_000, blur=0, colour=0, hue=0, brightness=0, flip=0, shear=0, rotation=0, crop=1)
    assert said(run, last=6, augment=none) == said(run, last=6)


def test_without_references_no_picture_is_read(run):
    loader = Loader(planned(run), DATA, None)
    assert all(not row for (batch,) in loader.steps(0, 4) for row in batch.references)


def test_a_moved_run_holds_the_same(run, tmp_path):
    shutil.copytree(run / "shards", tmp_path / "elsewhere")
    assert said(tmp_path / "elsewhere") == said(run)


@pytest.mark.parametrize("workers", [0, 1])
def test_from_an_object_store_it_is_the_same(tmp_path, s3, workers):
    units = [[made.sample(f"k{i}", subjects=2) for i in range(5)]]
    here, there = made.write(tmp_path / "run", units), made.write(f"{s3}/run", units)
    data = replace(DATA, workers=workers)
    assert said(there, data, last=3) == said(here, data, last=3)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_cannot_be_read_gives_way_and_is_counted(mixed, workers, caplog):
    loader = Loader(planned(mixed), replace(DATA, workers=workers))
    batches = [batch for step in loader.steps(0, 12) for batch in step]
    assert all(len(batch.keys) == batch.bucket.batch for batch in batches), "batches stay full"
    assert {key for batch in batches for key in batch.keys} == {"good", "fine"}
    assert set(loader.skipped) == {"undecodable"}
    assert loader.plan.clips.passed_over == {"too_short": 1, "too_small": 1, "too_much_cropped": 1}
    if not workers:
        line = caplog.records[0].getMessage()
        assert "shard-00000-0000.tar at byte " in line and line.endswith(" is left out: not_a_video")


def test_a_shard_that_lost_its_end(mixed, tmp_path):
    cut = shutil.copytree(mixed, tmp_path / "cut")
    tar = cut / "shards/shard-00000-0000.tar"
    first = clips.read([clips.Run(str(cut))], DATA)[0]
    end = sorted((first.offset + first.size).tolist())[0]
    tar.write_bytes(tar.read_bytes()[: end + 700])
    loader = Loader(planned(cut), DATA)
    assert {key for step in loader.steps(0, 6) for batch in step for key in batch.keys} == {"good"}
    assert loader.skipped["damaged"]


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_that_can_be_read_is_one_line(tmp_path, workers):
    broken = made.write(tmp_path / "run", [[made.sample(f"k{i}", video=b"no video") for i in range(3)]])
    with pytest.raises(TrainerError, match="100 clips one after another cannot be read, the last in .*shard-00000-0000") as error:
        steps(broken, replace(DATA, workers=workers), last=1)
    assert "\n" not in str(error.value)


def test_a_tar_that_is_gone_is_one_line(mixed, tmp_path):
    gone = shutil.copytree(mixed, tmp_path / "gone")
    (gone / "shards/shard-00000-0000.tar").unlink()
    with pytest.raises(TrainerError, match="shards cannot be read: .*shard-00000-0000.tar") as error:
        steps(gone, last=1)
    assert "\n" not in str(error.value)


def test_fewer_clips_than_a_batch_are_repeated(tmp_path):
    run = made.write(tmp_path / "run", [[made.sample("a"), made.sample("b")]])
    ((batch,),) = steps(run, replace(DATA, buckets=BUCKETS[:1]), last=1)
    assert Counter(batch.keys) == {"a": 2, "b": 2} and len(set(batch.firsts)) > 1


def test_workers_can_be_spawned(run):
    """Nothing that only a fork would carry over."""
    method = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        assert said(run, replace(DATA, workers=1), last=1) == said(run, last=1)
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
        ("data: {buckets: v1, holdout: 1.0}", ":1: data.holdout"),
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
    loader = Loader(planned(sample_run, data), data)
    batches = [batch for step in islice(loader.steps(0, 8), 8) for batch in step]
    kinds = Counter(r.kind for b in batches for row in b.references for r in row)
    assert not loader.skipped and {"subject", "background"} <= set(kinds)
    for batch in batches:
        assert batch.video.float().std() > 5
