"""Take the reference frames out of a clip, and a window of small ones for later stages, from its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from curation.media.members import to_jpeg
from curation.sample import Sample
from curation.stage import Resources, Result, Stage, Window
from curation.stages.promise import PROMISE, found_again

if TYPE_CHECKING:
    from curation.media.picture import Frame
    from curation.media.video import Reader

POSITIONS = (0.05, 0.5, 0.95)  # PAPER.md §1.6
QUALITY, WINDOW_QUALITY = 95, 92  # JPEG; not stated by the paper


@dataclass(kw_only=True)
class SampleFrames(Stage):
    """Write the frames at 5, 50 and 95 % of a clip, and evenly spaced smaller ones as scratch for background recovery.

    They come from the source, where split_shots has found the clip, and are as large as its mp4 will be.
    """

    resources: ClassVar[Resources] = Resources(batch=256)  # a whole unit: clips of one source share its decode
    reads: ClassVar[tuple[str, ...]] = ("split_shots", "source")
    writes: ClassVar[tuple[str, ...]] = ("frame?.jpg", "_window.*.jpg")

    wanted = Window()

    def serve(self, window: Window) -> None:
        self.wanted = window

    def process_batch(self, samples: Sequence[Sample]) -> list[Result]:
        made = found_again(samples, self, self._pictures)
        return [self._with(sample, result) for sample, result in zip(samples, made, strict=True)]

    def _pictures(self, sample: Sample, reader: Reader) -> Pictures:
        return Pictures(sample.meta[PROMISE], self.wanted)

    def _with(self, sample: Sample, made: Pictures | Exception) -> Result:
        if isinstance(made, Exception):
            return made
        sample.files |= made.files
        facts = {name: sample.meta[PROMISE][name] for name in ("width", "height", "fps", "frames")}
        sample.meta[self.name] = facts | {"indices": made.indices, "window": made.window}
        return sample


class Pictures:
    """Takes the frames of a clip and keeps JPEGs of those that are wanted; no other is converted."""

    def __init__(self, facts: dict[str, Any], wanted: Window):
        """`facts`: what split_shots says of the clip."""
        from curation.media.picture import Painter

        last = facts["frames"] - 1
        self.indices = [round(position * last) for position in POSITIONS]
        self.window = sorted({round(i * last / max(1, wanted.frames - 1)) for i in range(wanted.frames)})
        self.files: dict[str, bytes] = {}
        self._size = width, height = facts["width"], facts["height"]
        scale = min(1.0, wanted.side / max(width, height))
        small = max(1, round(width * scale)), max(1, round(height * scale))
        self._whole = Painter(self._whole_size, tone=facts["encoded"])
        self._small = Painter(lambda *_: small, tone=facts["encoded"])
        self._seen = 0

    def add(self, frame: Frame) -> None:
        number, self._seen = self._seen, self._seen + 1
        if number in self.indices:
            width, height = self._size
            jpeg = to_jpeg(self._whole(frame)[:height, :width], QUALITY)
            self.files |= {f"frame{place}.jpg": jpeg for place, index in enumerate(self.indices) if index == number}
        if number in self.window:
            self.files[f"_window.{self.window.index(number):02d}.jpg"] = to_jpeg(self._small(frame), WINDOW_QUALITY)

    def finish(self) -> Pictures:
        return self

    def _whole_size(self, width: int, height: int) -> tuple[int, int]:
        """Its own when the encoder cuts off no more than an odd row or column, else the clip's: later frames may differ."""
        wanted_width, wanted_height = self._size
        fits = 0 <= width - wanted_width <= 1 and 0 <= height - wanted_height <= 1
        return (width, height) if fits else self._size
