from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from curation.buckets import TABLES, Bucket, check, fitting, frames_at, kept_share, pick
from curation.shards.clip import Video
from curation.trainer.seeds import generator, uniforms

pytestmark = pytest.mark.trainer
SMALL = Bucket(frames=17, width=256, height=144, batch=4)


def video(frames: int = 100, fps: float = 25.0, width: int = 640, height: int = 360) -> Video:
    return Video(width=width, height=height, fps=fps, frames=frames, seconds=frames / fps, encoded=True)


@pytest.mark.parametrize(("table", "world", "shapes"), [("v1", 64, 14), ("v2", 16, 18)])
def test_the_papers_tables_can_be_used(table, world, shapes):
    buckets = TABLES[table]
    assert len(buckets) == shapes
    assert sum(b.weight for b in buckets) == pytest.approx(100, abs=0.6)  # the paper rounds
    assert all(b.frames % 8 == 1 for b in buckets)
    check(buckets, world)
    assert {b.name: b.batch for b in buckets}["97x1024x576"] == {"v1": 64, "v2": 16}[table]
    assert sum(b.weight for b in buckets if b.frames == 17) == {"v1": 80, "v2": 30}[table]


@pytest.mark.parametrize(
    ("change", "world", "says"),
    [
        ({"frames": 16}, 1, "16 frames are not 1 more than a multiple of 4; 17 are"),
        ({"frames": 20}, 1, "21 are"),
        ({"width": 250}, 1, "multiples of 16"),
        ({}, 3, "a batch of 4 does not divide by 3 processes; these buckets suit 1, 2"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_refused(change, world, says):
    bucket = replace(SMALL, **change)
    with pytest.raises(ValueError, match=says) as error:
        check([bucket], world)
    assert bucket.name in str(error.value)


def test_a_doubled_bucket_and_none_at_all_are_refused():
    with pytest.raises(ValueError, match="17x256x144 stands twice"):
        check([SMALL, replace(SMALL, batch=8)], 1)
    with pytest.raises(ValueError, match="no buckets"):
        check([], 1)


@pytest.mark.parametrize(
    ("frames", "fps", "at_24"), [(17, 24.0, 17), (49, 48.0, 25), (31, 30.0, 25), (30, 30.0, 24), (1, 25.0, 1), (9, 12.0, 17)]
)
def test_frames_after_resampling(frames, fps, at_24):
    assert frames_at(video(frames, fps), 24.0) == at_24


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (video(frames=17), "too_short"),  # 0.64 s at 25 fps hold 16 frames of 1/24 s
        (video(width=240, height=135), "too_small"),
        (video(width=360, height=640), "too_much_cropped"),
        (video(frames=18), ""),
        (video(width=256, height=144), ""),
    ],
)
def test_why_a_clip_fits_no_bucket(clip, reason):
    fits, why = fitting([SMALL], clip, 24.0, upscale=False, min_kept=0.5)
    assert (bool(fits), why) == (not reason, reason)


def test_upscaling_and_cropping_are_knobs():
    assert fitting([SMALL], video(width=128, height=72), 24.0, upscale=True, min_kept=0.5)[0] == [SMALL]
    assert fitting([SMALL], video(width=360, height=640), 24.0, upscale=False, min_kept=0.3)[0] == [SMALL]
    assert kept_share(video(width=640, height=480), SMALL) == pytest.approx(0.75)
    assert kept_share(video(width=360, height=640), SMALL) == pytest.approx((9 / 16) ** 2)


def test_steps_come_as_the_weights_say():
    buckets = [b for b in TABLES["v2"] if b.width == 256]
    draws = 200_000
    clips = Counter(pick(buckets, u).name for u in uniforms(draws, generator("pick")))
    steps = {b.name: clips[b.name] / b.batch for b in buckets}
    whole = sum(b.weight for b in buckets)
    for bucket in buckets:
        share = bucket.weight * bucket.batch / sum(b.weight * b.batch for b in buckets)
        error = 4 * (share * (1 - share) / draws) ** 0.5 / share  # four binomial standard errors, relative
        assert steps[bucket.name] / sum(steps.values()) == pytest.approx(bucket.weight / whole, rel=2 * error)
