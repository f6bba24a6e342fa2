"""Cut the clips of one source, each divided into its shots, out of one decode, while holding few frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from curation.encode import Encoder
from curation.video import Frame, Reader, VideoError


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


@dataclass(frozen=True)
class Limits:
    """What is worth encoding, and how many bytes of decoded frames may wait for that to be known."""

    min_seconds: float
    max_seconds: float
    hold: int


class Shot:
    """Consecutive frames of a clip: first held as they were decoded, then, once it is known that they are wanted, encoded."""

    def __init__(self, first: int, start: float, limits: Limits, encoder: Callable[[], Encoder]):
        self.first, self.last = first, first - 1
        self.start, self.end = start, start
        self.mp4: bytes | None = None
        self.size: tuple[int, int] | None = None
        self._limits, self._new_encoder = limits, encoder
        self._held: list[Frame] = []
        self._held_bytes = 0
        self._encoder: Encoder | None = None
        self._dropped = False

    @property
    def seconds(self) -> float:
        return round(self.end - self.start, 4)

    @property
    def fault(self) -> str | None:
        """Why its length does not suit, as a reason to reject it."""
        if self.seconds < self._limits.min_seconds:
            return "too_short"
        return "too_long" if self.seconds > self._limits.max_seconds else None

    def add(self, frame: Frame) -> None:
        self.last += 1
        self.end = frame.end
        if self.seconds > self._limits.max_seconds:
            self.drop()
        if self._encoder:
            self._encoder.add(frame)
        elif not self._dropped:
            self._held.append(frame)
            self._held_bytes += sum(plane.buffer_size for plane in frame.picture.planes)
            if self._held_bytes > self._limits.hold:
                self.encode()

    def encode(self) -> None:
        """Its frames are wanted: encode those held, and from now on each as it comes."""
        if self._encoder or self._dropped:
            return
        self._encoder = self._new_encoder()
        for frame in self._held:
            self._encoder.add(frame)
        self._held = []

    def drop(self) -> None:
        """Its pictures are not wanted; only its extent is."""
        self._held, self._encoder, self._dropped = [], None, True

    def close(self) -> None:
        """No frame follows: make `mp4` if it suits."""
        if self.fault:
            self.drop()
        self.encode()
        if self._encoder:
            self.mp4, self.size = self._encoder.finish(), self._encoder.size
        self.drop()


class Cutter:
    """Frames of one clip in, its shots out.

    A frame waits until the detector has decided on it (`undecided`, 75 frames for TransNetV2). Where one shot alone may need no
    encoding (`uncut` is "pass": the file itself will do) or a second one makes all of them useless (`cut` is "drop"), the first
    shot's frames are held up to `limits.hold` bytes, and encoded only when it is known that they are needed.
    """

    def __init__(
        self,
        boundaries: Boundaries,
        threshold: float,
        limits: Limits,
        encoder: Callable[[], Encoder],
        *,
        pass_uncut: bool,
        drop_cut: bool,
    ):
        self.shots: list[Shot] = []
        self.frames = 0
        """Frames taken."""
        self.whole = False
        """Whether `shots` is complete."""
        self.max_score = 0.0
        self._boundaries, self._threshold = boundaries, threshold
        self._limits, self._encoder = limits, encoder
        self._pass_uncut, self._drop_cut = pass_uncut, drop_cut
        self._undecided: deque[Frame] = deque()
        self._decided = 0
        self._before = False  # whether the frame before was a boundary's
        self._all_boundary = True  # so far

    def push(self, frame: Frame, seen: Any) -> None:
        """Take the next frame and what the detector looks at."""
        self.frames += 1
        self._undecided.append(frame)
        self._decide(self._boundaries.push(seen))

    def finish(self) -> None:
        """The clip has ended: `shots` is complete if the detector owes no score; else to be called again when it knows more."""
        if self.whole:
            return
        self._decide(self._boundaries.finish())
        if self._undecided:
            return
        self.whole = True
        if len(self.shots) == 1 and self._pass_uncut and not self.dropped_frames:
            self.shots[0].drop()
        if self.shots:
            self.shots[-1].close()

    @property
    def dropped_frames(self) -> int:
        """Frames that are in no shot: those of gradual transitions."""
        return self.frames - sum(shot.last - shot.first + 1 for shot in self.shots)

    def _decide(self, scores: list[float]) -> None:
        for score in scores:
            self.max_score = max(self.max_score, score)
            self._place(self._undecided.popleft(), score > self._threshold)

    def _place(self, frame: Frame, boundary: bool) -> None:
        """The first boundary frame ends its shot, the rest of its run is dropped; all frames above are one shot (PAPER.md §3)."""
        starts = self._decided == 0 or (self._before and not boundary)
        if starts:
            self._open(frame)
        if starts or not boundary or not self._before or self._all_boundary:
            self.shots[-1].add(frame)
        self._decided += 1
        self._before = boundary
        self._all_boundary = self._all_boundary and boundary

    def _open(self, frame: Frame) -> None:
        if self.shots and self._all_boundary:
            self.shots.clear()  # the clip began with a transition
        shot = Shot(self._decided, frame.time, self._limits, self._encoder)
        self.shots.append(shot)
        if self._drop_cut and len(self.shots) > 1:
            for useless in self.shots[-2:]:
                useless.drop()
        elif len(self.shots) > 1 or not (self._pass_uncut or self._drop_cut):
            for ended in self.shots[-2:-1]:
                ended.close()
            shot.encode()


@dataclass
class Clip:
    """A stretch of a source to cut: frames with starts ≤ time < ends, and what came of it."""

    cutter: Cutter
    starts: float
    ends: float
    size: tuple[int, int] = (0, 0)
    """Width and height of its first frame, upright."""
    reached: float = float("-inf")
    """End of the last frame it took."""
    failure: VideoError | None = None

    def push(self, frame: Frame, seen: Any) -> None:
        if not self.cutter.frames:
            self.size = frame.size
        self.cutter.push(frame, seen)
        self.reached = frame.end

    @property
    def settled(self) -> bool:
        """Whether its shots, or why there are none, are known."""
        return self.cutter.whole or self.failure is not None

    def close(self, failure: VideoError | None = None) -> None:
        """No frame follows, because it is whole or because of `failure`. Called again, it takes the scores that came late."""
        if not failure and not self.cutter.frames:
            failure = VideoError("no frame between start and end")
        self.failure = self.failure or failure
        if not self.failure:
            self.cutter.finish()


def cut_clips(reader: Reader, clips: Iterable[Clip], look: Callable[[Frame], Any]) -> None:
    """Decode a source once and finish all its clips. `look` makes of a frame what the detector wants to see.

    Gaps between clips are skipped where that saves decoding. Where the source breaks, clips that are whole by then stay good.
    Those whose scores come late are not settled yet.
    """
    waiting = deque(sorted(clips, key=lambda clip: clip.starts))
    active: list[Clip] = []
    late: list[Clip] = []
    broken: VideoError | None = None
    try:
        for frame in reader.frames():
            while waiting and frame.time >= waiting[0].starts:
                active.append(waiting.popleft())
            if over := [clip for clip in active if frame.time >= clip.ends]:
                late = _unsettled([*late, *over])
                active = [clip for clip in active if frame.time < clip.ends]
            if active:
                seen = look(frame)
                for clip in active:
                    clip.push(frame, seen)
            elif waiting:
                reader.skip_to(waiting[0].starts)
            else:
                return
    except VideoError as error:
        broken = error
    for clip in active:
        clip.close(broken if clip.reached < clip.ends else None)
    for clip in waiting:
        clip.close(broken or VideoError("starts beyond the end of the video"))


def _unsettled(clips: Iterable[Clip]) -> list[Clip]:
    """Close clips that have ended; those that wait for scores."""
    clips = list(clips)
    for clip in clips:
        clip.close()
    return [clip for clip in clips if not clip.settled]
