"""Eight awkward videos, whole and cut: duration, frames, size and colours are what ffprobe and ffmpeg make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.sample import Sample
from curation.stage import apply
from curation.stages.split_shots import SplitShots
from tests.clips import planned
from tests.media import fixtures
from tests.media.fixtures import MADE, Made

TICK = 0.002
"""Seconds by which a time may differ: Matroska keeps milliseconds."""
COLOURS = 3.0
"""Mean difference of a colour, of 255, that x264 at crf 18 and chroma at half the size may make."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fixtures")


def through(sample: Sample, made: Made) -> Sample:
    """split_shots, and the mp4 that it promises."""
    knobs: dict[str, Any] = {"detector": "none", "min_seconds": 0.0, "crf": 12} | dict(made.knobs)
    stage = SplitShots(**knobs)
    (result,) = apply(stage, apply(stage, [sample]), redeem=True)
    assert result.alive, result.verdict
    return result


@pytest.mark.parametrize("part", ["whole", "cut"])
@pytest.mark.parametrize("made", MADE, ids=lambda made: made.name)
def test_what_comes_out_is_what_ffprobe_and_ffmpeg_see(folder: Path, made: Made, part: str) -> None:
    path = folder / made.name
    if not path.exists():
        fixtures.make(made, folder)
    source = fixtures.truth(path)
    first, end = (0, source.frames) if part == "whole" else made.cut
    zero = source.times[0]
    span = (None, None) if part == "whole" else (source.times[first] - zero, source.times[end] - zero)
    result = through(planned("a", path, *span), made)
    facts = result.meta["split_shots"]

    assert facts["frames"] == end - first
    assert facts["seconds"] == pytest.approx(source.seconds(first, end), abs=TICK)
    assert (facts["width"], facts["height"]) == source.size

    clip = folder / f"{part}-{made.name}.mp4"
    clip.write_bytes(result.files["mp4"])
    out = fixtures.truth(clip)
    assert out.frames == end - first and out.size == source.size
    shown = np.array(source.times[first:end]) - source.times[first]
    slack = np.ptp(np.diff(shown))  # in mp4 the last frame shown lasts as long as the one that is decoded then
    assert out.seconds(0, out.frames) == pytest.approx(source.seconds(first, end), abs=TICK + slack)
    assert np.abs(np.array(out.times) - out.times[0] - shown).max() < TICK

    middle = (end - first) // 2
    wanted = fixtures.picture(path, first + middle, source.size, made.tone).astype(int)
    seen = fixtures.picture(clip, middle, source.size).astype(int)
    off = np.abs(seen - wanted).mean(axis=(0, 1))
    assert off.max() < COLOURS, f"red, green, blue differ by {off.round(2)}"
    assert wanted.std() > 30, "there is something to see"


@pytest.mark.parametrize("part", ["whole", "cut"])
def test_the_rate_is_that_of_the_frames_not_the_nominal_one(folder: Path, part: str) -> None:
    made = MADE[0]
    source = fixtures.truth(fixtures.make(made, folder))
    first, end = (0, source.frames) if part == "whole" else made.cut
    span = (None, None) if part == "whole" else (source.times[first], source.times[end])
    facts = through(planned("a", folder / made.name, *span), made).meta["split_shots"]
    assert facts["fps"] == pytest.approx((end - first) / source.seconds(first, end), rel=0.02)


def test_an_interlaced_video_is_rejected_unless_it_is_wanted(folder: Path) -> None:
    (made,) = [made for made in MADE if made.name == "interlaced.ts"]
    path = fixtures.make(made, folder)
    (result,) = apply(SplitShots(detector="none"), [planned("a", path)])
    assert (result.verdict.status, result.verdict.reason) == ("rejected", "interlaced")
