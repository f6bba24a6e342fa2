"""Find planned clips in their sources and the shot boundaries in them, in one decode of each source; cut them out at last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from curation.faults import DataError
from curation.machine import has_bf16
from curation.sample import REJECTED, Sample, Verdict, shot_key
from curation.stage import IN_HAND, Reject, Resources, Result, Stage
from curation.stages.promise import by_source, found_again, spend, verdict
from curation.store import store

if TYPE_CHECKING:
    from curation.media.cut import Boundaries, Clip, Shot
    from curation.media.encode import Encoder
    from curation.media.picture import Frame
    from curation.media.source import Opened
    from curation.media.video import Reader
    from curation.models.transnetv2 import Gather

RATE_SLACK = 0.02
"""Share by which frames per second of time may differ from the nominal rate: the last frame's duration is often a guess."""
Detector = Literal["transnetv2", "content", "adaptive", "panda70m", "none"]


@dataclass(kw_only=True)
class SplitShots(Stage):
    """Cut each planned clip out of its source, frame by frame exact, and divide or drop it at shot boundaries (PAPER.md §1.3).

    A clip holds the frames with start − h ≤ time < end − h, h half a frame: adjacent clips share no frame and lose none, and
    times rounded to milliseconds mean the same frames. Of a whole file without a cut, H.264 in mp4, the packets are copied. No
    clip has what a camera said of place, device and owner.

    Nothing is encoded but what is kept in the end (`promise`). With `on_boundary: drop` a clip is not looked at beyond its first
    cut, nor a clip of one shot beyond `max_seconds`: its metadata then say `complete: false`, and `frames`, `end`, `shots`,
    `cuts` and `max_probability` are those of the frames up to there.
    """

    resources: ClassVar[Resources] = Resources(batch=256)  # a whole unit: clips of one source share its decode
    reads: ClassVar[tuple[str, ...]] = ("source",)
    writes: ClassVar[tuple[str, ...]] = ("mp4",)
    promises: ClassVar[tuple[str, ...]] = ("mp4",)

    detector: Detector = "transnetv2"
    """What finds boundaries: TransNetV2, PySceneDetect's content or adaptive detector, Panda-70M's own labels, or nothing."""
    threshold: float | None = None
    """Score above which a frame is a boundary; None is the detector's own: 0.5, 27 and 3."""
    on_boundary: Literal["split", "drop"] = "drop"
    """A clip of several shots: make a clip of each, or reject it, as the paper does for training."""
    min_seconds: Annotated[float, Field(ge=0)] = 1.0
    """Shorter shots are rejected; not stated by the paper."""
    max_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longer shots are rejected; Panda-70M's own limit (PAPER.md §2)."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """TransNetV2's arithmetic; auto is fp16 on a GPU and bf16 where the processor has it: within 0.01 of fp32."""
    window_frames: Annotated[int, Field(ge=100)] = 100
    """Frames that TransNetV2 sees at once, 50 of them again in the next window. 100 is as published. 200 spares a third of its
    work: on panda70m-mini scores change by 0.13 at most and no boundary does. Of a clip with a cut up to 100 more are decoded."""
    crf: Annotated[int, Field(ge=0, le=51)] = 18
    """x264's quality of clips that are cut, less is better; not stated by the paper."""
    preset: str = "veryfast"
    """x264's speed of clips that are cut."""

    sound: Literal["drop", "keep"] = "drop"
    """The source's first sound track, of all clips alike: none, or AAC of 48 kHz, with `sound_seconds` in the metadata. The
    paper's training takes no sound."""
    interlaced: Literal["reject", "keep"] = "reject"
    """What becomes of a clip with interlaced frames, by the file's own word: their fields are of two moments, so what moves has
    combed edges. Of a file that passes as it is only the first frame is asked. Not stated by the paper."""

    def models(self) -> tuple[str, ...]:
        return ("transnetv2",) if self.detector == "transnetv2" else ()

    def resolve(self) -> None:
        if self.detector == "transnetv2" and self.precision == "auto":
            self.precision = "fp16" if self.share > 0 else "bf16" if has_bf16() else "fp32"

    def units(self) -> int:
        return IN_HAND if self.share else 1

    def load(self) -> None:
        if self.detector == "transnetv2":
            from curation.models import device, transnetv2

            self._network = transnetv2.Detector(store.path("transnetv2"), self.precision, device.pick(self.share))

    def process_batch(self, samples: Sequence[Sample]) -> list[Result]:
        results: dict[int, Result] = {}
        gather: Gather | None = None
        if self.detector == "transnetv2":
            from curation.models import transnetv2

            gather = transnetv2.Gather(self._network, self._network.batch)  # a new one: nothing of other batches is in it
        unsettled: list[Iterator[None]] = []
        for group in by_source(samples):
            unsettled = _go_on([*unsettled, self._cut_source(group, gather, results)])
        if unsettled and gather:
            gather.flush()
            _go_on(unsettled)
        return [results.get(id(sample)) or RuntimeError("the detector gave no scores") for sample in samples]

    def _cut_source(self, samples: Sequence[Sample], gather: Gather | None, results: dict[int, Result]) -> Iterator[None]:
        """Add a result for each sample of one source, by its id. Stops wherever scores of a clip are still to come."""
        from curation.media import source, spans, video

        clips: list[tuple[Sample, Clip]] = []
        clock = spans.Clock()
        try:
            with ExitStack() as stack:
                with self.watch(samples):
                    opened = source.open_source(samples[0].meta["source"], most=self.limits.megabytes * 1e6)
                    reader = stack.enter_context(video.Reader(opened.input, self.limits.pixels))
                    for sample in samples:
                        early = self._without_decode(sample, opened, reader)
                        if early is not None:
                            results[id(sample)] = early
                        else:
                            clips.append((sample, self._clip(sample, reader, gather)))
                    opening = clock.lap() / len(samples)
                    if clips:
                        spans.decode(reader, [clip for _, clip in clips], self._look())
                while late := [clip for _, clip in clips if not clip.settled]:
                    yield
                    for clip in late:
                        clip.close()
                for sample, clip in clips:
                    spend(sample, self.name, opening + clip.seconds)
                    results[id(sample)] = clip.failure or self._outcome(sample, clip, opened, reader)
        except Exception as error:  # noqa: BLE001 what a source provokes belongs to its clips
            fault = verdict(error)
            for sample in samples:
                results.setdefault(id(sample), fault)

    def redeem_batch(self, samples: Sequence[Sample]) -> list[Result]:
        cut = [sample for sample in samples if sample.meta[self.name]["encoded"]]
        encoded = dict(zip(map(id, cut), found_again(cut, self, self._encoder), strict=True))
        return [self._redeemed(sample, encoded.get(id(sample))) for sample in samples]

    def _encoder(self, sample: Sample, reader: Reader) -> Encoder:
        from curation.media.encode import Encoder

        return Encoder(reader.rate, self.crf, self.preset)

    def _redeemed(self, sample: Sample, mp4: bytes | Exception | None) -> Result:
        """With its mp4, from now on without the version of the source file: what is published does not depend on a file's age."""
        from curation.media import source
        from curation.media.encode import copied
        from curation.media.sound import with_sound

        if isinstance(mp4, Exception):
            return mp4
        try:
            facts = sample.meta[self.name]
            if mp4 is None or self.sound == "keep":
                opened = source.open_source(sample.meta["source"], facts.get("file"))
                mp4 = mp4 or copied(opened.input)
            if self.sound == "keep":
                with self.watch([sample]):
                    mp4, facts["sound_seconds"] = with_sound(mp4, opened.input, facts["start"], facts["end"])
            sample.files["mp4"] = mp4
        except DataError as error:
            return error
        facts.pop("file", None)
        return sample

    def _one_shot(self, source: dict[str, Any]) -> bool:
        """Whether it is known beforehand that the clip is one shot."""
        return self.detector == "none" or (self.detector == "panda70m" and len(source.get("shots") or []) == 1)

    def _without_decode(self, sample: Sample, opened: Opened, reader: Reader) -> Result | None:
        """What comes of a clip whose pictures need not be seen; None for the others."""
        from curation.media.video import VideoError

        source, shots = sample.meta["source"], sample.meta["source"].get("shots") or []
        if source["start"] is not None and source["end"] is not None and source["start"] >= source["end"]:
            return VideoError("empty_span", "start is not before end")
        if source["end"] is not None and source["end"] - (source["start"] or 0.0) > self.limits.seconds:
            return VideoError("too_long", f"{source['end'] - (source['start'] or 0.0):.0f} s")
        if self.detector == "panda70m" and not shots:
            return Reject("no_shot_labels")
        if self.detector == "panda70m" and len(shots) > 1 and self.on_boundary == "drop":
            sample.meta[self.name] = {"shots": len(shots), "encoded": False}
            return Reject("shot_boundary")
        if not (self._one_shot(source) and _is_file(source) and reader.is_plain):
            return None
        try:
            return self._whole(sample, opened, reader)
        except VideoError as error:
            return error

    def _whole(self, sample: Sample, opened: Opened, reader: Reader) -> Result | None:
        """A file whose packets pass: they are counted only, and its first frame is decoded for the size."""
        from curation.media import cut, video
        from curation.media.video import VideoError

        extent = video.extent(opened.input)
        if not extent.clean:
            return None  # of its packets not all are frames: it is decoded to see which
        if extent.seconds > self.limits.seconds:
            return VideoError("too_long", f"{extent.seconds:.0f} s")
        first = next(video.frames(opened.input))
        if first.interlaced and self.interlaced == "reject":
            return Reject("interlaced")
        opening = cut.Moment(0.0, 0.0, 0, first.size)
        closing = cut.Moment(extent.seconds, extent.seconds, extent.last, first.size)
        shot = cut.Shot(0, extent.frames - 1, opening, closing)
        common = {"shots": 1, "dropped_frames": 0, "complete": True, "file": opened.file}
        sample.meta[self.name] = self._facts(reader, shot, passes=True) | common | {"shot": 0}
        fault = cut.Limits(self.min_seconds, self.max_seconds).fault(shot.seconds)
        return Reject(fault) if fault else sample

    def _clip(self, sample: Sample, reader: Reader, gather: Gather | None) -> Clip:
        from curation.media import cut

        source, half = sample.meta["source"], reader.frame_seconds / 2
        cutter = cut.Cutter(
            self._boundaries(source, half, gather),
            self.threshold if self.detector == "transnetv2" and self.threshold is not None else 0.5,
            cut.Limits(self.min_seconds, self.max_seconds),
            lone=self.on_boundary == "drop" or self._one_shot(source),
        )
        ends = float("inf") if source["end"] is None else source["end"] - half
        return cut.Clip(cutter, (source["start"] or 0.0) - half, ends, self.limits.seconds)

    def _boundaries(self, source: dict[str, Any], half_frame: float, gather: Gather | None) -> Boundaries:
        from curation.media import cut

        if self.detector == "transnetv2":
            from curation.models import transnetv2

            assert gather is not None
            return transnetv2.Stream(gather, self.window_frames)
        if self.detector == "panda70m":
            return cut.ListedBoundaries([(source["start"] or 0.0) + start for start, _ in source["shots"]], half_frame)
        if self.detector == "none":
            return cut.NoBoundaries()
        from curation.models import content

        return content.Stream(self.detector, self.threshold)

    def _look(self) -> Callable[[Frame], Any]:
        """What the detector sees of a frame."""
        from curation.media.picture import Painter

        if self.detector == "transnetv2":
            from curation.models.transnetv2 import SIZE

            small = Painter(lambda width, height: SIZE)
        elif self.detector in ("content", "adaptive"):
            from curation.models.content import WIDTH

            small = Painter(lambda width, height: (WIDTH, max(1, round(height * WIDTH / width))))
        else:
            return lambda frame: frame.time
        return small

    def _facts(self, reader: Reader, shot: Shot, passes: bool) -> dict[str, Any]:
        """What is promised of a shot, and how it will look: the encoder cuts off an odd row or column."""
        width, height = shot.opening.size
        return {
            "start": round(shot.opening.time, 4),
            "end": round(shot.closing.end, 4),
            "seconds": shot.seconds,
            "frames": shot.frames,
            "first_frame": shot.first,
            "last_frame": shot.last,
            "first_ticks": shot.opening.ticks,
            "last_ticks": shot.closing.ticks,
            "fps": _rate(shot, float(reader.rate)),
            "width": width if passes else width // 2 * 2,
            "height": height if passes else height // 2 * 2,
            "encoded": not passes,
        }

    def _outcome(self, sample: Sample, clip: Clip, opened: Opened, reader: Reader) -> Result:
        """Verdict and metadata of a clip that was decoded."""
        from curation.media import cut

        cutter, shots = clip.cutter, clip.cutter.shots
        common = {"shots": len(shots), "dropped_frames": cutter.dropped_frames, "cuts": [shot.first for shot in shots[1:]]}
        common |= {"complete": cutter.whole, "file": opened.file}
        if self.detector == "transnetv2":
            common["max_probability"] = round(cutter.max_score, 4)
        if cutter.interlaced and self.interlaced == "reject":
            return Reject("interlaced")
        if len(shots) > 1 and self.on_boundary == "drop":
            seen = cut.Shot(0, cutter.decided - 1, shots[0].opening, cutter.latest or shots[-1].closing)
            sample.meta[self.name] = self._facts(reader, seen, passes=False) | common | {"encoded": False}
            return Reject("shot_boundary")
        if len(shots) > 1:
            return [self._child(sample, number, shot, common, reader) for number, shot in enumerate(shots)]
        passes = _is_file(sample.meta["source"]) and reader.is_plain and reader.clean and not cutter.dropped_frames
        return self._shot(sample, 0, shots[0], common, reader, passes)

    def _child(self, sample: Sample, number: int, shot: Shot, common: dict[str, Any], reader: Reader) -> Sample:
        child = Sample(shot_key(sample.key, number), dict(sample.files), deepcopy(sample.meta), seconds=dict(sample.seconds))
        result = self._shot(child, number, shot, common, reader, passes=False)
        return child.drop(Verdict(REJECTED, self.name, result.reason)) if isinstance(result, Reject) else child

    def _shot(self, sample: Sample, number: int, shot: Shot, common: dict[str, Any], reader: Reader, passes: bool) -> Result:
        from curation.media import cut

        sample.meta[self.name] = facts = self._facts(reader, shot, passes) | common | {"shot": number}
        if fault := cut.Limits(self.min_seconds, self.max_seconds).fault(shot.seconds):
            facts["encoded"] = False
            return Reject(fault)
        return sample


def _rate(shot: Shot, nominal: float) -> float:
    """Frames per second: the nominal figure, unless the frames' own times say that it lies."""
    own = shot.frames / shot.seconds if shot.seconds else nominal
    return round(nominal if abs(own / nominal - 1) < RATE_SLACK else own, 4)


def _go_on(works: Iterable[Iterator[None]]) -> list[Iterator[None]]:
    """Let each run to its next stop; those that have not ended."""
    ended = object()
    return [work for work in works if next(work, ended) is not ended]


def _is_file(source: dict[str, Any]) -> bool:
    return source["start"] is None and source["end"] is None
