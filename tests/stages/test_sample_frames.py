"""The reference frames are the ones PAPER.md §1.6 names, and the window spans the clip."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.media import video
from curation.media.picture import Painter
from curation.sample import Sample
from curation.stage import Window, apply
from curation.stages.sample_frames import SampleFrames
from curation.stages.split_shots import SplitShots
from tests import videos
from tests.clips import promised


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "neighbour").touch()
    yield tmp_path


def sampled(folder: Path, mp4: bytes, window: int = 24, span: tuple[float, float] = (None, None), **promise: Any) -> Sample:  # type: ignore[assignment]
    (folder / "v.mp4").write_bytes(mp4)
    sample = promised("k", folder / "v.mp4", *span)
    sample.meta["split_shots"] |= promise
    stage = SampleFrames()
    stage.serve(Window(window, 640))
    return apply(stage, [sample])[0]


def image(sample: Sample, member: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(sample.files[member], np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


INDICES = {1: [0, 0, 0], 2: [0, 0, 1], 3: [0, 1, 2], 40: [2, 20, 37], 101: [5, 50, 95]}


@pytest.mark.parametrize("count", INDICES)
def test_the_frames_at_5_50_and_95_per_cent(folder: Path, count: int) -> None:
    indices = INDICES[count]
    sample = sampled(folder, videos.numbered(count))
    meta = sample.meta["sample_frames"]
    assert (meta["frames"], meta["indices"], meta["fps"]) == (count, indices, 30.0)
    assert [videos.number_of(image(sample, f"frame{i}.jpg")) for i in range(3)] == indices
    assert image(sample, "frame0.jpg").shape == (meta["height"], meta["width"], 3) == (112, 208, 3)


def test_the_window_is_even_and_within_640_pixels(folder: Path) -> None:
    sample = sampled(folder, videos.write([videos.picture(i, 960, 540) for i in range(50)]))
    window = sample.meta["sample_frames"]["window"]
    assert (len(window), window[0], window[-1]) == (24, 0, 49)
    assert {b - a for a, b in zip(window, window[1:], strict=False)} == {2, 3}
    members = [f"_window.{i:02d}.jpg" for i in range(24)]
    assert sorted(name for name in sample.files if name.startswith("_")) == members
    assert image(sample, members[0]).shape == (360, 640, 3) and image(sample, "frame1.jpg").shape == (540, 960, 3)
    large = [cv2.resize(image(sample, member), (960, 540)) for member in members]
    assert [videos.number_of(picture) for picture in large] == window


def test_a_short_clip_has_each_frame_once_in_its_window(folder: Path) -> None:
    assert sampled(folder, videos.numbered(5)).meta["sample_frames"]["window"] == [0, 1, 2, 3, 4]
    assert sampled(folder, videos.numbered(5), window=0).meta["sample_frames"]["window"] == []


def test_no_more_is_decoded_than_the_clip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[video.Reader] = []
    data = videos.numbered(900, gop=30)
    monkeypatch.setattr(video, "on_decode", seen.append)
    sample = sampled(folder, data, span=(20.0, 21.0))
    assert [videos.number_of(image(sample, f"frame{i}.jpg")) for i in range(3)] == [601, 614, 628]
    seen_by_both = len(seen)
    assert seen_by_both < 2 * 150


@pytest.mark.parametrize("announced", [29, 31])
def test_another_number_of_frames_than_announced_is_an_error(folder: Path, announced: int) -> None:
    sample = sampled(folder, videos.numbered(30), frames=announced)
    assert (sample.verdict.status, sample.verdict.reason) == ("failed", "frame_count")
    assert sample.verdict.detail == f"decoded 30 of {announced} frames"


def test_pictures_are_as_large_as_the_mp4_will_be(folder: Path) -> None:
    sample = sampled(folder, videos.write([videos.picture(i, 211, 117) for i in range(5)], pix_fmt="yuv444p"))
    assert image(sample, "frame1.jpg").shape == (116, 210, 3) and videos.number_of(image(sample, "frame1.jpg")) == 2
    assert (sample.meta["sample_frames"]["width"], sample.meta["sample_frames"]["height"]) == (210, 116)
    redeemed = apply(SplitShots(), [sample], redeem=True)[0]
    frame = next(video.frames(io.BytesIO(redeemed.files["mp4"])))
    assert frame.size == (210, 116)


def test_hdr_is_shown_as_the_mp4_will_show_it(folder: Path) -> None:
    pq = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}
    data = videos.write([videos.picture(4095)] * 3, codec="libx265", pix_fmt="yuv420p10le", colours=pq)
    sample = apply(SplitShots(), [sampled(folder, data)], redeem=True)[0]
    shown = Painter()(next(video.frames(io.BytesIO(sample.files["mp4"]))))
    assert np.abs(image(sample, "frame0.jpg").astype(int) - shown.astype(int)).mean() < 3


def test_a_display_matrix_is_applied(folder: Path) -> None:
    sample = sampled(folder, videos.numbered(10, rotate=-90))
    assert (sample.meta["sample_frames"]["width"], sample.meta["sample_frames"]["height"]) == (112, 208)
    upright = np.rot90(image(sample, "frame2.jpg"))
    assert videos.number_of(upright) == sample.meta["sample_frames"]["indices"][2] == 9


def test_colours_are_right(folder: Path) -> None:
    shown = image(sampled(folder, videos.write([videos.picture(0, colour=(200, 60, 30))] * 3)), "frame0.jpg")
    assert np.abs(shown[60, 100].astype(int) - (200, 60, 30)).max() < 8
