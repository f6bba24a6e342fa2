from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from curation.buckets import TABLES, Bucket, check, fits, fitting
from curation.shards.clip import Video

pytestmark = pytest.mark.trainer
SMALL = Bucket(frames=17, width=256, height=144, batch=4)


def video(frames: int = 100, fps: float = 25.0, width: int = 640, height: int = 360) -> Video:
    return Video(width=width, height=height, fps=fps, frames=frames, seconds=frames / fps, encoded=True)


@pytest.mark.parametrize(("table", "shapes"), [("v1", 14), ("v2", 18)])
def test_the_papers_tables_can_be_used(table, shapes):
    buckets = TABLES[table]
    assert len(buckets) == shapes
    assert sum(b.weight for b in buckets) == pytest.approx(100, abs=0.6)  # the paper rounds
    assert all(b.frames % 8 == 1 for b in buckets)
    check(buckets)
    assert {b.name: b.batch for b in buckets}["97x1024x576"] == {"v1": 64, "v2": 16}[table]
    assert sum(b.weight for b in buckets if b.frames == 17) == {"v1": 80, "v2": 30}[table]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": 16}, "16 frames are not 1 more than a multiple of 4; 17 are"),
        ({"frames": 20}, "21 are"),
        ({"width": 250}, "multiples of 16"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_refused(change, says):
    bucket = replace(SMALL, **change)
    with pytest.raises(ValueError, match=says) as error:
        check([bucket])
    assert bucket.name in str(error.value)


def test_a_doubled_bucket_and_none_at_all_are_refused():
    with pytest.raises(ValueError, match="17x256x144 stands twice"):
        check([SMALL, replace(SMALL, batch=8)])
    with pytest.raises(ValueError, match="no buckets"):
        check([])
    with pytest.raises(ValueError, match="65 buckets: there are at most 64"):
        check([SMALL] * 65)


@pytest.mark.parametrize(
    ("frames", "fps", "at_24"), [(17, 24.0, 17), (49, 48.0, 25), (31, 30.0, 25), (30, 30.0, 21), (1, 25.0, 1), (9, 12.0, 17)]
)
def test_frames_after_resampling(frames, fps, at_24):
    """Of buckets of 1, 5, 9 … frames the longest that is filled."""
    buckets = [replace(SMALL, frames=n) for n in range(1, 50, 4)]
    found, _ = fitting(buckets, video(frames, fps), 24.0, upscale=False, min_kept=0.5)
    assert found[-1].frames == at_24


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
    for width, height, share in ((640, 480, 0.75), (360, 640, (9 / 16) ** 2), (1280, 360, 0.5)):
        for least, taken in ((share - 1e-6, True), (share + 1e-6, False)):
            found, _ = fitting([SMALL], video(width=width, height=height), 24.0, upscale=False, min_kept=least)
            assert bool(found) == taken


def test_many_clips_are_judged_as_each_alone():
    """Also at the 32 bits in which a ledger holds a rate."""
    buckets = TABLES["v1"] + TABLES["v2"]
    clips = [
        video(n, fps, w, h) for n in (17, 60, 61, 300, 900) for fps in (23.976, 24.0, 30.0) for w, h in ((1280, 720), (480, 640))
    ]
    clips += [video(10), video(width=64, height=36)]
    columns = (np.array([getattr(c, name) for c in clips]) for name in ("width", "height", "fps", "frames"))
    width, height, fps, frames = columns
    mask, reasons = fits(buckets, width, height, fps.astype(np.float32), frames, 24.0, False, 0.5)
    each = [fitting(buckets, clip, 24.0, upscale=False, min_kept=0.5) for clip in clips]
    assert [[b for i, b in enumerate(buckets) if int(m) >> i & 1] for m in mask] == [found for found, _ in each]
    assert reasons == Counter(why for _, why in each if why) and reasons.keys() == {"too_short", "too_small", "too_much_cropped"}
