"""Take the reference frames out of a clip, and a window of small ones for later stages, in the clip's one decode."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from curation.members import to_jpeg
from curation.sample import Sample
from curation.stage import Stage

if TYPE_CHECKING:
    pass

POSITIONS = (0.05, 0.5, 0.95)  # PAPER.md §1.6
WINDOW_SIDE = 640  # pixels of the long side of a window's frames; not stated by the paper
QUALITY, WINDOW_QUALITY = 95, 92  # JPEG; not stated by the paper


@dataclass(kw_only=True)
class SampleFrames(Stage):
    """Write the frames at 5, 50 and 95 % of a clip, and evenly spaced smaller ones as scratch for background recovery."""

    reads: ClassVar[tuple[str, ...]] = ("mp4",)
    writes: ClassVar[tuple[str, ...]] = ("frame?.jpg", "_window.*.jpg")

    window: Annotated[int, Field(ge=0, le=100)] = 24
    """Frames in the window; not stated by the paper."""

    def process(self, sample: Sample) -> Sample:
        from curation import video
        from curation.picture import Painter

        mp4 = io.BytesIO(sample.files["mp4"])
        count = sample.meta.get("split_shots", {}).get("frames") or video.count_frames(mp4)
        indices = [round(position * (count - 1)) for position in POSITIONS]
        window = sorted({round(i * (count - 1) / max(1, self.window - 1)) for i in range(self.window)})
        whole, small = Painter(), Painter(_within_side)
        with video.Reader(mp4) as reader:
            for number, frame in enumerate(reader.frames()):
                if number in indices:
                    image = whole(frame)
                    jpeg = to_jpeg(image, QUALITY)
                    sample.files |= {f"frame{place}.jpg": jpeg for place, index in enumerate(indices) if index == number}
                if number in window:
                    sample.files[f"_window.{window.index(number):02d}.jpg"] = to_jpeg(small(frame), WINDOW_QUALITY)
            if reader.decoded != count:
                raise video.VideoError(f"decoded {reader.decoded} of {count} frames")
        sample.meta[self.name] = {
            "width": image.shape[1],
            "height": image.shape[0],
            "fps": round(float(reader.rate), 4),
            "frames": count,
            "indices": indices,
            "window": window,
        }
        return sample


def _within_side(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, WINDOW_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
