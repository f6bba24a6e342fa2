"""One decode of a source for all spans of it that are wanted; what lies between them is skipped where the file's index allows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from curation.media.picture import Frame
from curation.media.video import Reader, VideoError


class Clock:
    """Seconds since it was last asked."""

    def __init__(self) -> None:
        self._at = time.perf_counter()

    def lap(self) -> float:
        before, self._at = self._at, time.perf_counter()
        return self._at - before


class Span:
    """Frames of a source with starts ≤ time < ends, or fewer: it wants none after it says that it is `over`."""

    def __init__(self, starts: float, ends: float = float("inf")):
        self.starts, self.ends = starts, ends
        self.over = False
        self.failure: Exception | None = None
        self.seconds = 0.0
        """Spent on it; what several spans needed is shared alike."""

    def push(self, frame: Frame, seen: Any) -> None:
        raise NotImplementedError

    def close(self, broken: VideoError | None = None) -> None:
        """No frame follows; not called once it is over. `broken`: why the source ended early, if it did."""
        raise NotImplementedError


def decode(reader: Reader, spans: Iterable[Span], look: Callable[[Frame], Any] = lambda frame: None) -> None:
    """Decode a source once and push to each span its frames, with what `look` makes of them, once a frame.

    Where the source breaks, spans that are whole by then stay good. Ends with the last frame that anybody wants.
    """
    waiting = deque(sorted(spans, key=lambda span: span.starts))
    active: list[Span] = []
    broken: VideoError | None = None
    clock = Clock()
    try:
        for frame in reader.frames():
            while waiting and frame.time >= waiting[0].starts:
                active.append(waiting.popleft())
            for span in [span for span in active if frame.time >= span.ends]:
                span.close()
                active.remove(span)
            seen = look(frame) if active else None
            shared = clock.lap()
            for span in active:
                span.push(frame, seen)
                span.seconds += shared / len(active) + clock.lap()
            active = [span for span in active if not span.over]
            if not active and not waiting:
                return
            if not active:
                waiting[0].seconds += shared
                reader.skip_to(waiting[0].starts)
    except VideoError as error:
        broken = error
    for span in active:
        span.close(broken)
    for span in waiting:
        span.close(broken or VideoError("starts_beyond_end"))


class Taker(Protocol):
    """Makes something of consecutive frames: `encode.Encoder` is one."""

    def add(self, frame: Frame) -> None: ...

    def finish(self) -> Any: ...


class Stretch(Span):
    """The very frames that an earlier decode has found: from tick `first` to tick `last`, so many."""

    def __init__(self, first: int, last: int, frames: int, reader: Reader, taker: Taker):
        super().__init__(float(first * reader.time_base))
        self.first, self.last, self.frames = first, last, frames
        self.made: Any = None
        """What the taker made, in the end."""
        self._taker, self._taken = taker, 0

    def push(self, frame: Frame, seen: Any) -> None:
        try:
            self._taken += 1
            self._taker.add(frame)
            if frame.ticks >= self.last:
                self.over = True
                if (self._taken, frame.ticks) != (self.frames, self.last):
                    raise VideoError("frame_count", f"decoded {self._taken} of {self.frames} frames")
                self.made = self._taker.finish()
        except Exception as error:  # noqa: BLE001 what becomes of it is the stage's to say, and other spans go on
            self.failure, self.over = error, True

    def close(self, broken: VideoError | None = None) -> None:
        self.failure = broken or VideoError("frame_count", f"decoded {self._taken} of {self.frames} frames")
