"""Find the shots of the clips of one source while it is decoded, and hold no picture meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from curation.media.picture import Frame
from curation.media.spans import Span
from curation.media.video import VideoError


class Boundaries(Protocol):
    """A streaming detector: takes what it looks at frame by frame, gives each frame's score in order, some frames late."""

    def push(self, seen: Any, /) -> list[float]: ...

    def finish(self) -> list[float]:
        """No frame follows: the scores known by now. What is owed even then comes out of later calls."""
        ...


class NoBoundaries:
    """Every clip is one shot."""

    def push(self, seen: Any, /) -> list[float]:
        return [0.0]

    def finish(self) -> list[float]:
        return []


class ListedBoundaries:
    """Shots that somebody else has found; looks at the time of a frame."""

    def __init__(self, starts: Sequence[float], tolerance: float):
        """`starts`: seconds, as the frames' times. A shot lasts until the next one starts, so that no frame is lost between."""
        self.starts = deque(sorted(starts))
        self.tolerance = tolerance
        self.owed = False

    def push(self, seconds: float, /) -> list[float]:
        starts = False
        while self.starts and seconds >= self.starts[0] - self.tolerance:
            self.starts.popleft()
            starts = True
        known = [float(starts)] if self.owed else []
        self.owed = True
        return known

    def finish(self) -> list[float]:
        return [0.0] * self.owed


class Moment(NamedTuple):
    """What is kept of a frame: when it is shown, until when, its ticks, its width and height, and whether it is two fields."""

    time: float
    end: float
    ticks: int
    size: tuple[int, int]
    interlaced: bool = False


@dataclass(frozen=True)
class Limits:
    """How long a shot may be, in seconds."""

    least: float
    most: float

    def fault(self, seconds: float) -> str | None:
        """Why a length does not suit, as a reason to reject it."""
        if seconds < self.least:
            return "too_short"
        return "too_long" if seconds > self.most else None


@dataclass
class Shot:
    """Consecutive frames of a clip, counted in the clip, `last` included."""

    first: int
    last: int
    opening: Moment
    closing: Moment

    @property
    def frames(self) -> int:
        return self.last - self.first + 1

    @property
    def seconds(self) -> float:
        return round(self.closing.end - self.opening.time, 4)


class Cutter:
    """Frames of one clip in, its shots out.

    A frame waits until the detector has decided on it (`undecided`, 75 frames for TransNetV2), as a `Moment`: its picture is not
    held. With `lone` only a clip of one shot is wanted: as soon as there are two, or the one is too long, the clip is `over`, and
    `shots`, `decided` and `max_score` say what was known by then, whatever was pushed since.
    """

    def __init__(self, boundaries: Boundaries, threshold: float, limits: Limits, *, lone: bool):
        self.lone = lone
        self.shots: list[Shot] = []
        self.pushed = self.decided = 0
        """Frames taken, and those of them that the detector has decided on."""
        self.whole = self.over = False
        """Whether `shots` is complete; whether the rest of the clip does not matter."""
        self.max_score = 0.0
        self.interlaced = False
        """Whether a frame that was decided on is two fields."""
        self.latest: Moment | None = None
        """The last frame that was decided on."""
        self._boundaries, self._threshold, self._limits = boundaries, threshold, limits
        self._undecided: deque[Moment] = deque()
        self._before = False  # whether the frame before was a boundary's
        self._all_boundary = True  # so far

    @property
    def dropped_frames(self) -> int:
        """Frames that are in no shot: those of gradual transitions."""
        return self.decided - sum(shot.frames for shot in self.shots)

    def push(self, moment: Moment, seen: Any) -> None:
        """Take the next frame and what the detector looks at."""
        self.pushed += 1
        self._undecided.append(moment)
        self._decide(self._boundaries.push(seen))

    def finish(self) -> None:
        """The clip has ended: `shots` is complete if the detector owes no score; else to be called again when it knows more."""
        if not self.whole and not self.over:
            self._decide(self._boundaries.finish())
            self.whole = not self.over and not self._undecided

    def _decide(self, scores: list[float]) -> None:
        for score in scores:
            if self.over:
                return
            self.max_score = max(self.max_score, score)
            self._place(self._undecided.popleft(), score > self._threshold)

    def _place(self, moment: Moment, boundary: bool) -> None:
        """The first boundary frame ends its shot, the rest of its run is dropped; all frames above are one shot (PAPER.md §3)."""
        starts = self.decided == 0 or (self._before and not boundary)
        if starts:
            if self._all_boundary:
                self.shots.clear()  # the clip began with a transition
            self.shots.append(Shot(self.decided, self.decided, moment, moment))
        elif not boundary or not self._before or self._all_boundary:
            self.shots[-1].last += 1
            self.shots[-1].closing = moment
        self.decided += 1
        self.interlaced = self.interlaced or moment.interlaced
        self.latest = moment
        self._before = boundary
        self._all_boundary = self._all_boundary and boundary
        long = self.shots[-1].seconds > self._limits.most and not self._all_boundary
        self.over = self.lone and (len(self.shots) > 1 or long)


class Clip(Span):
    """A stretch of a source to cut, and what came of it."""

    def __init__(self, cutter: Cutter, starts: float, ends: float, most: float = float("inf")):
        """`most`: seconds of video that it may take."""
        super().__init__(starts, ends)
        self.cutter, self._most = cutter, most
        self._begins: float | None = None
        self._reached = float("-inf")  # end of the last frame it took
        self._broken: VideoError | None = None

    def push(self, frame: Frame, seen: Any) -> None:
        self.cutter.push(Moment(frame.time, frame.end, frame.ticks, frame.size, frame.interlaced), seen)
        self._reached = frame.end
        self._begins = frame.time if self._begins is None else self._begins
        self.over = self.cutter.over
        if frame.end - self._begins > self._most and not self.over:
            self.failure, self.over = VideoError("too_long", f"more than {self._most:g} s"), True

    @property
    def settled(self) -> bool:
        """Whether its shots, or why there are none, are known."""
        return self.cutter.whole or self.cutter.over or self.failure is not None

    def close(self, broken: VideoError | None = None) -> None:
        """Called again, it takes the scores that came late. That a cut was seen before the source broke counts for more, however
        late it is known: so the verdict is the same whether windows run one by one or in batches."""
        if broken and self._reached < self.ends:
            self._broken = broken
        if not self.cutter.pushed:
            self.failure = self._broken or VideoError("empty_span", "no frame between start and end")
        elif self._broken and not self.cutter.lone:
            self.failure = self._broken
        else:
            self.cutter.finish()
            if self.cutter.whole:
                self.failure = self._broken
