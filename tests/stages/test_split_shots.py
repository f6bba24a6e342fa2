"""Planned clips cut out of their sources: the right frames, one decode, a verdict and its reason for every clip."""

from __future__ import annotations

import copy
import io
import os
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from curation.faults import Infrastructure
from curation.media import video
from curation.media.picture import Turn
from curation.sample import Sample, Verdict
from curation.stage import apply
from curation.stages.sample_frames import SampleFrames
from curation.stages.split_shots import SplitShots
from curation.store import store
from tests import videos
from tests.clips import planned
from tests.sounds import clock, slots


def looked(samples: list[Sample], **knobs: Any) -> tuple[SplitShots, list[Sample]]:
    """What is promised, nothing encoded yet."""
    stage = SplitShots(**{"detector": "none", "min_seconds": 0.0, "preset": "ultrafast"} | knobs)
    stage.load()
    return stage, apply(stage, samples)


def split(samples: list[Sample], **knobs: Any) -> dict[str, Sample]:
    stage, found = looked(samples, **knobs)
    return {sample.key: sample for sample in apply(stage, found, redeem=True)}


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
    assert [(m["first_ticks"], m["last_ticks"]) for m in meta] == [(0, 69 * 512), (70 * 512, 129 * 512), (130 * 512, 179 * 512)]
    assert all(m["encoded"] and m["complete"] and m["dropped_frames"] == 0 and m["shots"] == 3 for m in meta)
    assert all("file" not in m for m in meta), "what is published says nothing of a file's age"


def test_each_source_is_decoded_once_by_each_stage_and_what_is_not_kept_not_at_all(source: Path, decoded: Counter[str]) -> None:
    clips = [planned("a", source), planned("b", source, 0.5, 3.0), planned("c", source, 3.0, 6.0)]
    stage, shots = looked(clips, detector="content", on_boundary="split")
    assert decoded["file"] == 180 and not any(shot.files for shot in shots)
    apply(SampleFrames(), shots)
    assert decoded["file"] == 360
    for shot in shots:
        if shot.meta["split_shots"]["start"] > 1.0:
            shot.drop(Verdict("rejected", "score", "dull"))
    redeemed = apply(SplitShots(preset="ultrafast"), shots, redeem=True)  # on a worker that has loaded nothing
    assert decoded["file"] == 360 + 70
    assert [sample.key for sample in redeemed if "mp4" in sample.files] == ["a_s000", "b_s000"]
    assert sum(m.startswith("frame") for m in redeemed[0].files) == 3
    assert stage.promises == ("mp4",)


def test_redeemed_together_or_one_by_one_the_bytes_are_the_same(source: Path) -> None:
    spans = [(0.0, 2.0), (1.0, 3.0), (4.5, 6.0)]

    def clips() -> tuple[SplitShots, list[Sample]]:
        return looked([planned(str(i), source, *span) for i, span in enumerate(spans)])

    (stage, one), (_, many) = clips(), clips()
    alone = [apply(stage, [sample], redeem=True)[0] for sample in one]
    assert [s.files for s in alone] == [s.files for s in apply(stage, many, redeem=True)]
    assert [says(s) for s in alone] == [list(range(60)), list(range(30, 90)), list(range(135, 180))]


def test_a_source_that_changed_under_the_run_fails_its_clips(tmp_path: Path, source: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(source.read_bytes())
    stage, clips = looked([planned(name + part, tmp_path / f"{name}.mp4", 1.0, 2.0) for name in "ab" for part in "12"])
    clips += looked([planned("whole", tmp_path / "a.mp4")])[1]
    os.utime(tmp_path / "a.mp4", ns=(7, 7))
    for each in (apply(SampleFrames(), copy.deepcopy(clips)), apply(stage, clips, redeem=True)):
        assert [verdict(s)[1] for s in each] == ["source_changed", "source_changed", "", "", "source_changed"]
        assert {verdict(s)[0] for s in each} == {"failed", "kept"}


def test_seconds_are_each_clips_own(tmp_path: Path) -> None:
    videos.numbered(400, path=tmp_path / "a.mp4", gop=20)
    stage, clips = looked([planned("long", tmp_path / "a.mp4", 0.0, 10.0), planned("short", tmp_path / "a.mp4", 12.0, 12.5)])
    first = [s.seconds["split_shots"] for s in clips]
    assert first[0] > first[1] > 0
    apply(stage, clips, redeem=True)
    apply(SampleFrames(), clips)
    later = [s.seconds["split_shots"] - was for s, was in zip(clips, first, strict=True)]
    assert later[0] > later[1] > 0
    assert clips[0].seconds["sample_frames"] > clips[1].seconds["sample_frames"] > 0


def test_what_nobody_foresaw_stays_with_the_clips_of_its_source(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, decoded: Counter[str]
) -> None:
    videos.numbered(40, path=tmp_path / "b.mp4")

    class Odd(video.Reader):
        def __init__(self, path: video.Input, most_pixels: int | None = None):
            if str(path).endswith("b.mp4"):
                raise LookupError("nobody knows")
            super().__init__(path, most_pixels)

    monkeypatch.setattr(video, "Reader", Odd)
    _, clips = looked(
        [planned("a", source, 0.0, 1.0), planned("b", tmp_path / "b.mp4", 0.0, 1.0), planned("c", source, 0.5, 1.0)]
    )
    assert [verdict(s) for s in clips] == [("kept", ""), ("failed", "lookup_error"), ("kept", "")]
    assert decoded["file"] <= 31, "nothing was run twice"


def test_what_is_our_sides_fault_is_no_verdict(tmp_path: Path, source: Path) -> None:
    stage = SplitShots(detector="none")
    clips = [planned("a", source, 0.0, 1.0), planned("b", tmp_path / "unmounted" / "b.mp4")]
    with pytest.raises(Infrastructure):
        apply(stage, clips)
    assert all(s.alive for s in clips)


def test_a_clip_whose_fate_is_known_stops_decoding(tmp_path: Path, decoded: Counter[str]) -> None:
    videos.shots(60, 600, path=tmp_path / "a.mp4", gop=30)
    clip = split([planned("k", tmp_path / "a.mp4")], detector="content")["k"]
    assert verdict(clip) == ("rejected", "shot_boundary") and decoded["file"] < 90
    meta = clip.meta["split_shots"]
    assert (meta["complete"], meta["frames"], meta["cuts"], meta["end"], meta["encoded"]) == (False, 61, [60], 2.0333, False)
    decoded.clear()
    clips = split([planned("k", tmp_path / "a.mp4"), planned("l", tmp_path / "a.mp4", 19.0, 20.0)], detector="content")
    assert decoded["file"] < 250 and says(clips["l"]) == list(range(570, 600))
    decoded.clear()
    long = split([planned("k", tmp_path / "a.mp4", 0.0, 20.0)], max_seconds=5.0)["k"]
    assert verdict(long) == ("rejected", "too_long") and decoded["file"] == 151 and not long.meta["split_shots"]["complete"]


@pytest.mark.slow
def test_windows_run_in_batches_across_clips_change_nothing(source: Path, tmp_path: Path) -> None:
    """As on a GPU: scores come late, after other clips of the source were read, and after other sources were."""
    videos.numbered(40, path=tmp_path / "a.mp4")
    videos.shots(50, 50, path=tmp_path / "b.mp4", options={"movflags": "faststart"})
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
        return {sample.key: sample for sample in apply(stage, apply(stage, clips), redeem=True)}, sizes

    for knobs in ({"on_boundary": "split"}, {"on_boundary": "drop"}):
        try:
            (one, alone), (many, together) = run(1, **knobs), run(4, **knobs)
        except store.StoreError as error:
            pytest.skip(str(error))
        assert set(alone) == {1} and set(together[:-1]) == {4}
        assert knobs["on_boundary"] == "drop" or 0 <= sum(alone) - sum(together) < 4, "a window nobody waits for is not run"
        assert list(one) == list(many) and (verdict(many["c"])[0] == "failed") == (knobs["on_boundary"] == "split")
        for key, sample in one.items():
            assert (many[key].files, many[key].meta, many[key].verdict) == (sample.files, sample.meta, sample.verdict)


def packets(mp4: bytes) -> list[bytes]:
    with av.open(io.BytesIO(mp4)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def test_the_packets_of_a_whole_file_without_a_cut_are_copied_without_sound(tmp_path: Path, decoded: Counter[str]) -> None:
    data = videos.numbered(40, path=tmp_path / "a.mp4", sound=True)
    clip = transnetv2([planned("k", tmp_path / "a.mp4")])["k"]
    assert verdict(clip) == ("kept", "") and packets(clip.files["mp4"]) == packets(data)
    with av.open(io.BytesIO(clip.files["mp4"])) as file:
        assert [stream.type for stream in file.streams] == ["video"]
    assert clip.meta["split_shots"]["encoded"] is False
    assert clip.meta["split_shots"]["max_probability"] < 0.5
    assert decoded == {"file": 40}


def test_sound_is_kept_alike_for_cut_and_uncut_clips(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    videos.numbered(50, rate=25, sound=clock(2.0), path=path)
    samples = [planned("whole", path), planned("cut", path, 0.4, 1.6), planned("end", path, 1.0)]
    found, silent = split(copy.deepcopy(samples), sound="keep"), split(samples)
    begins = {"whole": 0, "cut": 4, "end": 10}
    for key, first in begins.items():
        seconds = found[key].meta["split_shots"]["seconds"]
        assert slots(found[key].files["mp4"])[: round(10 * seconds)] == list(range(first, first + round(10 * seconds)))
        assert found[key].meta["split_shots"].pop("sound_seconds") == pytest.approx(seconds, abs=0.06)
        assert found[key].meta == silent[key].meta and says(found[key]) == says(silent[key])
    assert not [s for s in silent.values() if b"soun" in s.files["mp4"]]


def test_what_a_camera_says_of_place_and_owner_is_not_passed_on(tmp_path: Path) -> None:
    private = {"location": "+48.85+002.35/", "com.apple.quicktime.make": "Telephone", "title": "At home"}
    with av.open(tmp_path / "a.mp4", "w", container_options={"movflags": "use_metadata_tags"}) as output:
        output.metadata.update(private)
        with av.open(io.BytesIO(videos.numbered(20))) as source:
            stream = output.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    output.mux(packet)
    words = [value.encode() for value in private.values()]
    assert all(word in (tmp_path / "a.mp4").read_bytes() for word in words)
    clips = split([planned("whole", tmp_path / "a.mp4"), planned("part", tmp_path / "a.mp4", 0.0, 0.5)])
    assert not any(word in clip.files["mp4"] for clip in clips.values() for word in words)
    assert not clips["whole"].meta["split_shots"]["encoded"] and clips["part"].meta["split_shots"]["encoded"]


@pytest.mark.parametrize("detector", ["none", "content"])
def test_a_stream_copy_that_starts_within_a_group_of_pictures(tmp_path: Path, detector: str) -> None:
    """What stands before its first key frame is no picture: it has 28 frames, not 35."""
    videos.numbered(40, path=tmp_path / "a.mp4", gop=12, bframes=0)
    with av.open(tmp_path / "a.mp4") as source, av.open(tmp_path / "b.mp4", "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][5:]:
            packet.stream = stream
            output.mux(packet)
    clip = split([planned("k", tmp_path / "b.mp4")], detector=detector)["k"]
    assert verdict(clip) == ("kept", "") and says(clip) == list(range(12, 40))
    assert clip.meta["split_shots"]["frames"] == 28 and clip.meta["split_shots"]["encoded"]


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
    assert (meta["shots"], meta["cuts"], meta["frames"], meta["complete"]) == (2, [70], 71, False) and meta[
        "max_probability"
    ] > 0.5
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
    assert decoded["file"] <= 121 + 121, "to find them and to cut them out"


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
    assert clips["whole"].meta["split_shots"]["height"] == 208
    assert (part.meta["split_shots"]["width"], part.meta["split_shots"]["height"]) == (112, 208)
    frame = next(video.frames(io.BytesIO(part.files["mp4"])))
    assert (frame.picture.width, frame.picture.height) == (112, 208)
    assert frame.turn == Turn()
    apply(SampleFrames(), list(clips.values()))
    assert all(clip.meta["sample_frames"]["height"] == 208 for clip in clips.values())


@pytest.mark.parametrize("detector", ["none", "content"])
def test_pixels_become_square(tmp_path: Path, detector: str) -> None:
    """PAL at 16:9; what is not square does not pass as it is."""
    videos.numbered(20, path=tmp_path / "a.mp4", colours={"sample_aspect_ratio": Fraction(64, 45)})
    videos.numbered(20, path=tmp_path / "b.mp4", colours={"sample_aspect_ratio": Fraction(45, 64)}, rotate=90)
    clips = split([planned("wide", tmp_path / "a.mp4"), planned("turned", tmp_path / "b.mp4", 0.0, 0.5)], detector=detector)
    for key, size in (("wide", (296, 112)), ("turned", (158, 208))):  # 112 · 64/45 is 159: an odd row is cut off
        facts, mp4 = clips[key].meta["split_shots"], clips[key].files["mp4"]
        assert facts["encoded"] and (facts["width"], facts["height"]) == size
        with video.Reader(io.BytesIO(mp4)) as reader:
            frame = next(reader.frames())
            assert frame.size == size and reader.pixel == 1
    apply(SampleFrames(), list(clips.values()))
    assert [clip.meta["sample_frames"]["width"] for clip in clips.values()] == [296, 158]


@pytest.mark.parametrize("detector", ["none", "content"])
@pytest.mark.parametrize("span", [(), (0.0, 0.5)])
def test_interlaced_clips_are_not_wanted(tmp_path: Path, span: tuple[float, ...], detector: str) -> None:
    videos.numbered(20, path=tmp_path / "a.mp4", interlaced=True)
    clip = [planned("k", tmp_path / "a.mp4", *span)]
    assert verdict(split(copy.deepcopy(clip), detector=detector)["k"]) == ("rejected", "interlaced")
    assert verdict(split(clip, detector=detector, interlaced="keep")["k"]) == ("kept", "")


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
    assert packets(dropped["one"].files["mp4"]) == packets((tmp_path / "a.mp4").read_bytes())
    assert dropped["one"].meta["split_shots"]["frames"] == 40
    assert decoded == {"file": 1}, "its first frame, for the size"
    assert dropped["one"].meta["split_shots"] | {"width": 208, "height": 112, "end": 1.3333} == dropped["one"].meta["split_shots"]
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
    reasons = {key: sample.verdict.reason for key, sample in ended.items() if not sample.alive}
    detail = ended["cut"].verdict.detail
    assert detail.startswith("decoded ") and detail.endswith(" of 90 frames") and ended["after"].verdict.detail == detail
    assert reasons == {
        "cut": "truncated",
        "after": "truncated",
        "empty": "empty_file",
        "text": "not_a_video",
        "sound": "no_video_stream",
        "gone": "no_such_file",
        "backwards": "empty_span",
        "beyond": "starts_beyond_end",
        "between": "empty_span",
    }
    assert says(ended["good"]) == list(range(60)) and says(ended["before"]) == list(range(6))
    assert {sample.verdict.status for sample in ended.values()} == {"kept", "failed"}


def test_one_frame(tmp_path: Path) -> None:
    data = videos.numbered(1, path=tmp_path / "a.mp4")
    clip = transnetv2([planned("k", tmp_path / "a.mp4")])["k"]
    assert packets(clip.files["mp4"]) == packets(data) and clip.meta["split_shots"]["frames"] == 1


def test_same_input_same_bytes(source: Path) -> None:
    first, second = (split([planned("k", source, 1.0, 3.0)])["k"] for _ in range(2))
    assert first.files == second.files and first.meta == second.meta


def test_real_joins_are_found_and_no_frame_is_lost(panda: Path) -> None:
    """The first ten seconds of a real source: joins at 233, a cut at 268."""
    shots = transnetv2([planned("k", panda / "videos/mini0000000.mp4", 5.0, 10.0)], on_boundary="split")
    assert [shot.meta["split_shots"]["first_frame"] for shot in shots.values()] == [0, 83, 118]
    assert sum(shot.meta["split_shots"]["frames"] for shot in shots.values()) == 150
    assert [video.count_frames(io.BytesIO(shot.files["mp4"])) for shot in shots.values()] == [83, 35, 32]


@pytest.mark.parametrize("gpus", [None, 0.05])
def test_precision_is_decided_once_and_the_device_by_the_share(gpus: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from curation.models import transnetv2

    stage, chosen = SplitShots(gpus=gpus), []
    stage.resolve()
    assert stage.precision == ("fp16" if gpus else transnetv2.fast_on_cpu())
    given = SplitShots(precision="fp32")
    given.resolve()
    assert given.precision == "fp32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(transnetv2, "Detector", lambda weights, precision, device: chosen.append((precision, device)))
    try:
        stage.load()
    except store.StoreError as error:
        pytest.skip(str(error))
    assert chosen == [(stage.precision, "cuda" if gpus else "cpu")]
