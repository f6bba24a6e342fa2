"""Planned clips cut out of their sources: the right frames, one decode, a verdict and its reason for every clip."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation import store, video
from curation.picture import Turn
from curation.sample import Sample
from curation.stage import apply
from curation.stages.sample_frames import SampleFrames
from curation.stages.split_shots import SplitShots
from tests import videos


def planned(key: str, path: Path | str, start: float | None = None, end: float | None = None, **more: Any) -> Sample:
    return Sample(key, meta={"source": {"video": "v", "path": str(path), "start": start, "end": end, "caption": "", **more}})


def split(samples: list[Sample], **knobs: Any) -> dict[str, Sample]:
    stage = SplitShots(**{"detector": "none", "min_seconds": 0.0, "preset": "ultrafast"} | knobs)
    stage.load()
    return {sample.key: sample for sample in apply(stage, samples)}


def transnetv2(samples: list[Sample], **knobs: Any) -> dict[str, Sample]:
    try:
        store.path("transnetv2")
    except store.StoreError as error:
        pytest.skip(str(error))
    return split(samples, **{"detector": "transnetv2"} | knobs)


def verdict(sample: Sample) -> tuple[str, str]:
    return sample.verdict.status, sample.verdict.reason


def says(sample: Sample) -> list[int]:
    return videos.numbers(sample.files["mp4"])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shots of 70, 60 and 50 frames at 30 frames/s."""
    path = tmp_path_factory.mktemp("source") / "video.mp4"
    videos.shots(70, 60, 50, path=path, gop=15)
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Frames decoded, by the name of what was read ("file" or "memory")."""
    counts: Counter[str] = Counter()

    def count(reader: video.Reader) -> None:
        counts["memory" if reader.name == "<none>" else "file"] += 1

    monkeypatch.setattr(video, "on_decode", count)
    return counts


@pytest.mark.parametrize("detector", ["transnetv2", "content", "adaptive"])
def test_shots_tile_the_source(source: Path, detector: str) -> None:
    shots = (transnetv2 if detector == "transnetv2" else split)([planned("k", source)], on_boundary="split", detector=detector)
    assert list(shots) == ["k_s000", "k_s001", "k_s002"]
    assert [says(shot) for shot in shots.values()] == [list(range(70)), list(range(70, 130)), list(range(130, 180))]
    meta = [shot.meta["split_shots"] for shot in shots.values()]
    assert [(m["shot"], m["first_frame"], m["last_frame"], m["frames"]) for m in meta] == [
        (0, 0, 69, 70),
        (1, 70, 129, 60),
        (2, 130, 179, 50),
    ]
    assert [(m["start"], m["end"]) for m in meta] == [(0.0, 2.3333), (2.3333, 4.3333), (4.3333, 6.0)]
    assert all(m["encoded"] and m["dropped_frames"] == 0 and m["shots"] == 3 for m in meta)


def test_each_source_frame_is_decoded_once_and_each_clip_once_after_that(source: Path, decoded: Counter[str]) -> None:
    clips = [planned("a", source), planned("b", source, 0.5, 3.0), planned("c", source, 3.0, 6.0)]
    shots = transnetv2(clips, on_boundary="split")
    assert decoded == {"file": 180}
    apply(SampleFrames(), list(shots.values()))
    assert decoded == {"file": 180, "memory": sum(shot.meta["split_shots"]["frames"] for shot in shots.values())}
    assert decoded["memory"] == 180 + 75 + 90


def test_windows_run_in_batches_across_clips_change_nothing(source: Path, tmp_path: Path) -> None:
    """As on a GPU: scores come late, after other clips of the source were read, and after other sources were."""
    videos.numbered(40, path=tmp_path / "a.mp4")
    videos.shots(50, 50, path=tmp_path / "b.mp4")
    (tmp_path / "c.mp4").write_bytes((tmp_path / "b.mp4").read_bytes()[:-900])

    seen: dict[bytes, np.ndarray] = {}  # each window is computed once

    def run(batch: int, **knobs: Any) -> tuple[dict[str, Sample], list[int]]:
        spans = {"0": (None, 2.3), "1": (1.0, 4.0), "2": (4.5, 5.5)}
        clips = [planned(key, source, *span) for key, span in spans.items()]
        clips += [planned(name, tmp_path / f"{name}.mp4") for name in "abc"]
        stage = SplitShots(min_seconds=0.0, preset="ultrafast", **knobs)
        stage.load()
        sizes, network = [], stage._network

        def counted(windows: np.ndarray) -> np.ndarray:
            sizes.append(len(windows))
            for window in windows:
                if window.tobytes() not in seen:
                    seen[window.tobytes()] = network(window[None])
            return np.concatenate([seen[window.tobytes()] for window in windows])

        counted.batch = batch  # type: ignore[attr-defined]
        stage._network = counted  # type: ignore[assignment]
        return {sample.key: sample for sample in apply(stage, clips)}, sizes

    for knobs in ({"on_boundary": "split"}, {"on_boundary": "drop", "buffer_mb": 0}):
        try:
            (one, alone), (many, together) = run(1, **knobs), run(4, **knobs)
        except store.StoreError as error:
            pytest.skip(str(error))
        assert set(alone) == {1} and set(together[:-1]) == {4} and sum(alone) == sum(together)
        assert list(one) == list(many) and verdict(many["c"])[0] == "failed"
        for key, sample in one.items():
            assert (many[key].files, many[key].meta, many[key].verdict) == (sample.files, sample.meta, sample.verdict)


def test_a_whole_file_without_a_cut_passes_byte_for_byte_with_its_sound(tmp_path: Path, decoded: Counter[str]) -> None:
    data = videos.numbered(40, path=tmp_path / "a.mp4", sound=True)
    clip = transnetv2([planned("k", tmp_path / "a.mp4")])["k"]
    assert verdict(clip) == ("kept", "") and clip.files["mp4"] == data
    assert clip.meta["split_shots"]["encoded"] is False
    assert clip.meta["split_shots"]["max_probability"] < 0.5
    assert decoded == {"file": 40}


@pytest.mark.parametrize("kind", [{"codec": "mpeg4"}, {"container": "matroska"}, {"pix_fmt": "yuv444p"}], ids=str)
def test_a_whole_file_of_another_kind_is_encoded(tmp_path: Path, kind: dict[str, str]) -> None:
    videos.numbered(40, path=tmp_path / "a", **kind)
    clip = split([planned("k", tmp_path / "a")])["k"]
    assert says(clip) == list(range(40)) and clip.meta["split_shots"]["encoded"] is True
    with video.Reader(io.BytesIO(clip.files["mp4"])) as reader:
        assert reader.is_plain


def test_dropping_keeps_the_scores(source: Path) -> None:
    clips = transnetv2([planned("cut", source), planned("uncut", source, 0.0, 2.333)])
    assert verdict(clips["cut"]) == ("rejected", "shot_boundary")
    meta = clips["cut"].meta["split_shots"]
    assert (meta["shots"], meta["cuts"], meta["frames"]) == (3, [70, 130], 180) and meta["max_probability"] > 0.5
    assert verdict(clips["uncut"]) == ("kept", "") and says(clips["uncut"]) == list(range(70))


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)], ids=str)
def test_adjacent_clips_share_no_frame_and_lose_none(tmp_path: Path, rate: Fraction) -> None:
    """Times rounded to milliseconds, as Panda-70M's are."""
    videos.numbered(100, path=tmp_path / "a.mp4", rate=rate)
    edges = [0, 1, 17, 18, 50, 83, 100]
    spans = [(round(float(a / rate), 3), round(float(b / rate), 3)) for a, b in zip(edges, edges[1:], strict=False)]
    clips = split([planned(str(i), tmp_path / "a.mp4", *span) for i, span in enumerate(spans)])
    assert [says(clip) for clip in clips.values()] == [list(range(a, b)) for a, b in zip(edges, edges[1:], strict=False)]


def test_clips_may_overlap_and_come_in_any_order(source: Path, decoded: Counter[str]) -> None:
    clips = split([planned("b", source, 2.0, 4.0), planned("a", source, 0.0, 3.0), planned("c", source, 2.5, 3.5)])
    assert [says(clips[key]) for key in "abc"] == [list(range(90)), list(range(60, 120)), list(range(75, 105))]
    assert decoded["file"] <= 121


def test_long_gaps_are_skipped_exactly(tmp_path: Path, decoded: Counter[str]) -> None:
    videos.numbered(900, path=tmp_path / "a.mp4", gop=30)
    clips = split([planned("a", tmp_path / "a.mp4", 1.0, 2.0), planned("b", tmp_path / "a.mp4", 25.1, 26.0)])
    assert says(clips["a"]) == list(range(30, 60)) and says(clips["b"]) == list(range(753, 780))
    assert decoded["file"] < 250


def test_variable_rate_keeps_the_times(tmp_path: Path) -> None:
    ticks = [0, 3, 4, 5, 9, 10, 20, 21, 24, 30]
    videos.numbered(10, path=tmp_path / "a.mkv", container="matroska", ticks=ticks)
    clip = split([planned("k", tmp_path / "a.mkv")])["k"]
    times = [frame.time for frame in video.frames(io.BytesIO(clip.files["mp4"]))]
    assert times == pytest.approx([tick / 30 for tick in ticks], abs=0.002) and says(clip) == list(range(10))


def test_rotated_video_is_cut_upright(tmp_path: Path) -> None:
    videos.numbered(20, path=tmp_path / "a.mp4", rotate=90)
    clips = split([planned("whole", tmp_path / "a.mp4"), planned("part", tmp_path / "a.mp4", 0.0, 0.5)])
    part = clips["part"]
    assert (part.meta["split_shots"]["width"], part.meta["split_shots"]["height"]) == (112, 208)
    frame = next(video.frames(io.BytesIO(part.files["mp4"])))
    assert (frame.picture.width, frame.picture.height) == (112, 208)
    assert frame.turn == Turn()
    apply(SampleFrames(window=2), list(clips.values()))
    assert all(clip.meta["sample_frames"]["height"] == 208 for clip in clips.values())


def test_every_shot_has_a_row(source: Path) -> None:
    shots = split([planned("k", source)], detector="content", on_boundary="split", min_seconds=1.8, max_seconds=2.1)
    assert [verdict(shot) for shot in shots.values()] == [("rejected", "too_long"), ("kept", ""), ("rejected", "too_short")]
    assert [shot.meta["split_shots"]["frames"] for shot in shots.values()] == [70, 60, 50]
    assert [bool(shot.files) for shot in shots.values()] == [False, True, False]
    lone = split([planned("k", source, 0.0, 1.0)], min_seconds=1.8)["k"]
    assert verdict(lone) == ("rejected", "too_short") and lone.meta["split_shots"]["frames"] == 30


def test_panda70m_labels_replace_detection(source: Path, tmp_path: Path, decoded: Counter[str]) -> None:
    one = [[0.0, 1.3]]
    three = [[0.0, 2.3], [2.334, 4.3], [4.334, 5.967]]
    videos.numbered(40, path=tmp_path / "a.mp4")
    clips = [planned("one", tmp_path / "a.mp4", shots=one), planned("three", source, shots=three), planned("none", source)]
    dropped = split(clips, detector="panda70m")
    assert [verdict(clip)[1] for clip in dropped.values()] == ["", "shot_boundary", "no_shot_labels"]
    assert dropped["one"].files["mp4"] == (tmp_path / "a.mp4").read_bytes()
    assert dropped["one"].meta["split_shots"]["frames"] == 40
    assert not decoded
    shots = split([planned("k", source, shots=three)], detector="panda70m", on_boundary="split")
    assert [says(shot) for shot in shots.values()] == [list(range(70)), list(range(70, 130)), list(range(130, 180))]
    inside = split([planned("k", source, 1.0, 5.0, shots=[[0.0, 1.3], [1.333, 4.0]])], detector="panda70m", on_boundary="split")
    assert [says(shot) for shot in inside.values()] == [list(range(30, 70)), list(range(70, 150))]


def test_bad_sources_fail_with_their_reason_and_harm_nobody(tmp_path: Path, source: Path) -> None:
    good = videos.numbered(90, options={"movflags": "faststart"}, gop=30)
    files = {"cut.mp4": good[: len(good) * 6 // 10], "empty.mp4": b"", "text.mp4": b"words " * 99}
    files["sound.mp4"] = videos.sound_only()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    clips = [planned(name.split(".")[0], tmp_path / name) for name in files]
    clips += [planned("gone", tmp_path / "gone.mp4"), planned("good", source, 0.0, 2.0)]
    clips += [planned("before", tmp_path / "cut.mp4", 0.0, 0.2), planned("after", tmp_path / "cut.mp4", 0.1, 2.0)]
    clips += [planned("backwards", source, 3.0, 2.0), planned("beyond", source, 60.0, 70.0)]
    clips += [planned("between", source, 1.001, 1.002)]
    ended = split(clips)
    reasons = {key: sample.verdict.reason.removeprefix("VideoError: ") for key, sample in ended.items() if not sample.alive}
    cut = reasons.pop("cut")
    assert cut.startswith("truncated: decoded ") and cut.endswith(" of 90 frames") and reasons.pop("after") == cut
    assert reasons == {
        "empty": "empty file",
        "text": "not a video",
        "sound": "no video stream",
        "gone": "no such file",
        "backwards": "start is not before end",
        "beyond": "starts beyond the end of the video",
        "between": "no frame between start and end",
    }
    assert says(ended["good"]) == list(range(60)) and says(ended["before"]) == list(range(6))
    assert {sample.verdict.status for sample in ended.values()} == {"kept", "failed"}


def test_one_frame(tmp_path: Path) -> None:
    data = videos.numbered(1, path=tmp_path / "a.mp4")
    clip = transnetv2([planned("k", tmp_path / "a.mp4")])["k"]
    assert clip.files["mp4"] == data and clip.meta["split_shots"]["frames"] == 1


def test_same_input_same_bytes(source: Path) -> None:
    first, second = (split([planned("k", source, 1.0, 3.0)])["k"] for _ in range(2))
    assert first.files == second.files and first.meta == second.meta


def test_real_joins_are_found_and_no_frame_is_lost(panda: Path) -> None:
    """The first ten seconds of a real source: joins at 233, a cut at 268."""
    shots = transnetv2([planned("k", panda / "videos/mini0000000.mp4", 5.0, 10.0)], on_boundary="split")
    assert [shot.meta["split_shots"]["first_frame"] for shot in shots.values()] == [0, 83, 118]
    assert sum(shot.meta["split_shots"]["frames"] for shot in shots.values()) == 150
    assert [video.count_frames(io.BytesIO(shot.files["mp4"])) for shot in shots.values()] == [83, 35, 32]
