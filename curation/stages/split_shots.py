"""Cut planned clips out of their source videos and look for shot boundaries in them, in one decode of each source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from curation import store
from curation.sample import REJECTED, Sample
from curation.stage import Reject, Resources, Result, Stage

if TYPE_CHECKING:
    from curation.cut import Boundaries, Clip, Shot
    from curation.video import Frame, Input, Reader

Detector = Literal["transnetv2", "content", "adaptive", "panda70m", "none"]


@dataclass(kw_only=True)
class SplitShots(Stage):
    """Cut each planned clip out of its source, frame by frame exact, and divide or drop it at shot boundaries (PAPER.md §1.3).

    A clip holds the frames with start − h ≤ time < end − h, h half a frame: adjacent clips share no frame and lose none, and
    times rounded to milliseconds mean the same frames. A whole file without a cut, H.264 in mp4, passes byte for byte.
    """

    resources: ClassVar[Resources] = Resources(batch=256)  # a whole unit: clips of one source share its decode
    reads: ClassVar[tuple[str, ...]] = ("source",)
    writes: ClassVar[tuple[str, ...]] = ("mp4",)

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
    crf: Annotated[int, Field(ge=0, le=51)] = 18
    """x264's quality of clips that are cut, less is better; not stated by the paper."""
    preset: str = "veryfast"
    """x264's speed of clips that are cut."""
    buffer_mb: Annotated[int, Field(ge=0)] = 512
    """MB of decoded frames held of a clip while it is not known whether it must be encoded; past that it is, to be safe."""

    def models(self) -> tuple[str, ...]:
        return ("transnetv2",) if self.detector == "transnetv2" else ()

    def load(self) -> None:
        if self.detector == "transnetv2":
            import torch

            from curation.models import transnetv2

            torch.set_num_threads(1)
            self._network = transnetv2.Detector(store.path("transnetv2"), self.precision)

    def process_batch(self, samples: Sequence[Sample]) -> list[Result]:
        results: dict[int, Result] = {}
        sources: dict[tuple[Any, ...], list[Sample]] = {}
        for sample in samples:
            source = sample.meta["source"]
            sources.setdefault((source["path"], source.get("member"), source.get("offset")), []).append(sample)
        if self.detector == "transnetv2":
            from curation.models import transnetv2

            self._gather = transnetv2.Gather(self._network, self._network.batch)  # a new one: nothing of other batches is in it
        unsettled: list[Iterator[None]] = []
        for group in sources.values():
            unsettled = _go_on([*unsettled, self._cut_source(group, results)])
        if unsettled:
            self._gather.flush()
            _go_on(unsettled)
        return [results[id(sample)] for sample in samples]

    def _cut_source(self, samples: Sequence[Sample], results: dict[int, Result]) -> Iterator[None]:
        """Add a result for each sample of one source, by its id. Stops wherever scores of a clip are still to come."""
        from curation import cut, video

        clips: list[tuple[Sample, Clip]] = []
        try:
            with video.open_source(samples[0].meta["source"]) as opened, video.Reader(opened) as reader:
                for sample in samples:
                    early = self._without_decode(sample, opened, reader)
                    if early is not None:
                        results[id(sample)] = early
                    else:
                        clips.append((sample, self._clip(sample, reader)))
                if clips:
                    cut.cut_clips(reader, [clip for _, clip in clips], self._look())
                while late := [clip for _, clip in clips if not clip.settled]:
                    yield
                    for clip in late:
                        clip.close()
                for sample, clip in clips:
                    results[id(sample)] = clip.failure or self._outcome(sample, clip, opened, reader)
        except (video.VideoError, OSError) as error:
            results |= {id(sample): error for sample in samples}

    def _without_decode(self, sample: Sample, opened: Input, reader: Reader) -> Result | None:
        """What comes of a clip whose pictures need not be seen; None for the others."""
        from curation import video

        source, shots = sample.meta["source"], sample.meta["source"].get("shots") or []
        if source["start"] is not None and source["end"] is not None and source["start"] >= source["end"]:
            return video.VideoError("start is not before end")
        if self.detector == "panda70m" and not shots:
            return Reject("no_shot_labels")
        if self.detector == "panda70m" and len(shots) > 1 and self.on_boundary == "drop":
            sample.meta[self.name] = {"shots": len(shots), "encoded": False}
            return Reject("shot_boundary")
        one_shot = self.detector == "none" or (self.detector == "panda70m" and len(shots) == 1)
        if not (one_shot and _is_file(source) and reader.is_plain):
            return None
        try:
            frames = video.count_frames(opened)
        except video.VideoError as error:
            return error
        end = round(frames * reader.frame_seconds, 4)
        sample.meta[self.name] = self._facts(reader, 0, frames - 1, 0.0, end) | {"shot": 0, "shots": 1, "dropped_frames": 0}
        if end < self.min_seconds or end > self.max_seconds:
            return Reject("too_short" if end < self.min_seconds else "too_long")
        sample.files["mp4"] = video.read_bytes(opened)
        return sample

    def _clip(self, sample: Sample, reader: Reader) -> Clip:
        from curation import cut, encode

        source, half = sample.meta["source"], reader.frame_seconds / 2
        limits = cut.Limits(self.min_seconds, self.max_seconds, self.buffer_mb * 1_000_000)
        cutter = cut.Cutter(
            self._boundaries(source, half),
            self.threshold if self.detector == "transnetv2" and self.threshold is not None else 0.5,
            limits,
            lambda: encode.Encoder(reader.rate, self.crf, self.preset),
            pass_uncut=_is_file(source) and reader.is_plain,
            drop_cut=self.on_boundary == "drop",
        )
        ends = float("inf") if source["end"] is None else source["end"] - half
        return cut.Clip(cutter, (source["start"] or 0.0) - half, ends)

    def _boundaries(self, source: dict[str, Any], half_frame: float) -> Boundaries:
        from curation import cut

        if self.detector == "transnetv2":
            from curation.models import transnetv2

            return transnetv2.Stream(self._gather)
        if self.detector == "panda70m":
            return cut.ListedBoundaries([(source["start"] or 0.0) + start for start, _ in source["shots"]], half_frame)
        if self.detector == "none":
            return cut.NoBoundaries()
        from curation.models import content

        return content.Stream(self.detector, self.threshold)

    def _look(self) -> Callable[[Frame], Any]:
        """What the detector sees of a frame."""
        from curation.picture import Painter

        if self.detector == "transnetv2":
            from curation.models.transnetv2 import SIZE

            small = Painter(lambda width, height: SIZE)
        elif self.detector in ("content", "adaptive"):
            from curation.models.content import WIDTH

            small = Painter(lambda width, height: (WIDTH, max(1, round(height * WIDTH / width))))
        else:
            return lambda frame: frame.time
        return small

    def _facts(self, reader: Reader, first: int, last: int, start: float, end: float) -> dict[str, Any]:
        return {
            "start": round(start, 4),
            "end": round(end, 4),
            "frames": last - first + 1,
            "first_frame": first,
            "last_frame": last,
            "fps": round(float(reader.rate), 4),
            "encoded": False,
        }

    def _outcome(self, sample: Sample, clip: Clip, opened: Input, reader: Reader) -> Result:
        """Verdict, bytes and metadata of a clip that was decoded."""
        from curation import video

        cutter, shots = clip.cutter, clip.cutter.shots
        common = {"shots": len(shots), "dropped_frames": cutter.dropped_frames, "cuts": [shot.first for shot in shots[1:]]}
        common |= {"width": clip.size[0], "height": clip.size[1]}
        if self.detector == "transnetv2":
            common["max_probability"] = round(cutter.max_score, 4)
        if len(shots) > 1 and self.on_boundary == "drop":
            facts = self._facts(reader, 0, cutter.frames - 1, shots[0].start, clip.reached)
            sample.meta[self.name] = facts | common
            return Reject("shot_boundary")
        if len(shots) > 1:
            return [self._child(sample, number, shot, common, reader) for number, shot in enumerate(shots)]
        shot = shots[0]
        sample.meta[self.name] = self._shot_meta(0, shot, common, reader)
        if shot.fault:
            return Reject(shot.fault)
        sample.files["mp4"] = shot.mp4 or video.read_bytes(opened)
        return sample

    def _child(self, sample: Sample, number: int, shot: Shot, common: dict[str, Any], reader: Reader) -> Sample:
        meta = deepcopy(sample.meta) | {self.name: self._shot_meta(number, shot, common, reader)}
        child = Sample(f"{sample.key}_s{number:03d}", dict(sample.files), meta, seconds=dict(sample.seconds))
        if shot.mp4 is None:
            return child.drop(REJECTED, self.name, shot.fault or "")
        child.files["mp4"] = shot.mp4
        return child

    def _shot_meta(self, number: int, shot: Shot, common: dict[str, Any], reader: Reader) -> dict[str, Any]:
        facts = self._facts(reader, shot.first, shot.last, shot.start, shot.end) | common | {"shot": number}
        if shot.mp4 is not None and shot.size is not None:
            facts |= {"encoded": True, "width": shot.size[0], "height": shot.size[1]}
        return facts


def _go_on(works: Iterable[Iterator[None]]) -> list[Iterator[None]]:
    """Let each run to its next stop; those that have not ended."""
    ended = object()
    return [work for work in works if next(work, ended) is not ended]


def _is_file(source: dict[str, Any]) -> bool:
    return source["start"] is None and source["end"] is None
