"""The reference frames are the ones PAPER.md §1.6 names, and the window spans the clip."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curation import video
from curation.sample import Sample
from curation.stage import apply
from curation.stages.sample_frames import SampleFrames
from tests import videos


def sampled(mp4: bytes, frames: int | None = None, window: int = 24) -> Sample:
    meta = {"source": {}} | ({"split_shots": {"frames": frames}} if frames else {})
    return apply(SampleFrames(window=window), [Sample("k", {"mp4": mp4}, meta)])[0]


def image(sample: Sample, member: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(sample.files[member], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


INDICES = {1: [0, 0, 0], 2: [0, 0, 1], 3: [0, 1, 2], 40: [2, 20, 37], 101: [5, 50, 95]}


@pytest.mark.parametrize("count", INDICES)
def test_the_frames_at_5_50_and_95_per_cent(count: int) -> None:
    indices = INDICES[count]
    sample = sampled(videos.numbered(count))
    meta = sample.meta["sample_frames"]
    assert (meta["frames"], meta["indices"], meta["fps"]) == (count, indices, 30.0)
    assert [videos.number_of(image(sample, f"frame{i}.jpg")) for i in range(3)] == indices
    assert image(sample, "frame0.jpg").shape == (meta["height"], meta["width"], 3) == (112, 208, 3)


def test_the_window_is_even_and_within_640_pixels() -> None:
    sample = sampled(videos.write([videos.picture(i, 960, 540) for i in range(50)]))
    window = sample.meta["sample_frames"]["window"]
    assert (len(window), window[0], window[-1]) == (24, 0, 49)
    assert {b - a for a, b in zip(window, window[1:], strict=False)} == {2, 3}
    members = [f"_window.{i:02d}.jpg" for i in range(24)]
    assert sorted(name for name in sample.files if name.startswith("_")) == members
    assert image(sample, members[0]).shape == (360, 640, 3) and image(sample, "frame1.jpg").shape == (540, 960, 3)
    large = [cv2.resize(image(sample, member), (960, 540)) for member in members]
    assert [videos.number_of(picture) for picture in large] == window


def test_a_short_clip_has_each_frame_once_in_its_window() -> None:
    assert sampled(videos.numbered(5)).meta["sample_frames"]["window"] == [0, 1, 2, 3, 4]
    assert sampled(videos.numbered(5), window=0).meta["sample_frames"]["window"] == []


def test_each_frame_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[video.Reader] = []
    monkeypatch.setattr(video, "on_decode", seen.append)
    sampled(videos.numbered(33))
    assert len(seen) == 33


@pytest.mark.parametrize("announced", [29, 31])
def test_another_number_of_frames_than_announced_is_an_error(announced: int) -> None:
    sample = sampled(videos.numbered(30), announced)
    assert (sample.verdict.status, sample.verdict.reason) == ("failed", f"VideoError: decoded 30 of {announced} frames")


def test_a_display_matrix_is_applied() -> None:
    sample = sampled(videos.numbered(10, rotate=-90))
    assert (sample.meta["sample_frames"]["width"], sample.meta["sample_frames"]["height"]) == (112, 208)
    upright = np.rot90(image(sample, "frame2.jpg"))
    assert videos.number_of(upright) == sample.meta["sample_frames"]["indices"][2] == 9


def test_colours_are_right() -> None:
    shown = image(sampled(videos.write([videos.picture(0, colour=(200, 60, 30))] * 3)), "frame0.jpg")
    assert np.abs(shown[60, 100].astype(int) - (200, 60, 30)).max() < 8
