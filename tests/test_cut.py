"""Frames into shots: the same shots as the definition gives, few frames held, nothing encoded without need."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest

from curation import cut, video
from curation.encode import Encoder
from curation.models import transnetv2
from tests import videos


class Script:
    """A detector that says what it was told to, some frames late."""

    def __init__(self, scores: list[float], delay: int = 0):
        self.scores, self.delay, self.seen, self.told = scores, delay, 0, 0

    def push(self, seen: object) -> list[float]:
        self.seen += 1
        return self._tell(self.seen - self.delay)

    def finish(self) -> list[float]:
        return self._tell(self.seen)

    def _tell(self, until: int) -> list[float]:
        known = self.scores[self.told : max(self.told, until)]
        self.told += len(known)
        return known


@pytest.fixture(scope="module")
def frames() -> list[video.Frame]:
    return list(video.frames(io.BytesIO(videos.numbered(60))))


class Encoders:
    """Makes encoders and counts them and the frames they get."""

    def __init__(self) -> None:
        self.made = self.frames = 0

    def __call__(self) -> Encoder:
        self.made += 1
        counter = self

        class Counting(Encoder):
            def add(self, frame: video.Frame) -> None:
                counter.frames += 1
                super().add(frame)

        return Counting(Fraction(30), 30, "ultrafast")


def cutter(scores: list[float], encoders: Encoders, hold: int = 10**9, delay: int = 3, **how: bool) -> cut.Cutter:
    limits = cut.Limits(0.0, 1000.0, hold)
    return cut.Cutter(Script(scores, delay), 0.5, limits, encoders, **{"pass_uncut": False, "drop_cut": False} | how)


def run(made: cut.Cutter, frames: list[video.Frame]) -> list[cut.Shot]:
    for frame in frames:
        made.push(frame, None)
    made.finish()
    return made.shots


@pytest.mark.parametrize("how", [{}, {"pass_uncut": True}, {"drop_cut": True}, {"pass_uncut": True, "drop_cut": True}], ids=str)
def test_shots_are_the_scenes_of_the_definition(how: dict[str, bool], frames: list[video.Frame]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        count = int(rng.integers(1, 12))
        scores = (rng.random(count) > rng.random()).astype(float).tolist()
        made = cutter(scores, Encoders(), delay=int(rng.integers(0, 5)), **how)
        shots = run(made, frames[:count])
        expected = transnetv2.scenes(scores)
        assert [(shot.first, shot.last) for shot in shots] == expected
        assert made.dropped_frames == count - sum(last - first + 1 for first, last in expected)
        for shot in shots:
            useless = (how.get("drop_cut") and len(shots) > 1) or (how.get("pass_uncut") and expected == [(0, count - 1)])
            assert (shot.mp4 is None) == bool(useless)
            if shot.mp4:
                assert videos.numbers(shot.mp4) == list(range(shot.first, shot.last + 1))


def test_a_file_that_passes_is_never_encoded_and_a_clip_that_is_dropped_neither(frames: list[video.Frame]) -> None:
    encoders = Encoders()
    run(cutter([0.0] * 60, encoders, pass_uncut=True), frames)
    run(cutter([0.0] * 30 + [1.0] + [0.0] * 29, encoders, drop_cut=True), frames)
    assert (encoders.made, encoders.frames) == (0, 0)


def test_each_frame_is_encoded_once_when_a_cut_shows_up_late(frames: list[video.Frame]) -> None:
    encoders = Encoders()
    shots = run(cutter([0.0] * 50 + [1.0] + [0.0] * 9, encoders, pass_uncut=True), frames)
    assert (encoders.made, encoders.frames, len(shots)) == (2, 60, 2)


def test_no_more_is_held_than_allowed(frames: list[video.Frame]) -> None:
    each = sum(plane.buffer_size for plane in frames[0].picture.planes)
    encoders = Encoders()
    made = cutter([0.0] * 60, encoders, hold=10 * each, delay=5, drop_cut=True)
    for number, frame in enumerate(frames):
        made.push(frame, None)
        decided = max(0, number + 1 - 5)
        assert encoders.frames == (decided if decided > 10 else 0)
    made.finish()
    assert videos.numbers(made.shots[0].mp4 or b"") == list(range(60))


def test_lengths_are_judged_without_encoding_in_vain(frames: list[video.Frame]) -> None:
    encoders = Encoders()
    limits = cut.Limits(0.5, 1.0, 10**9)
    made = cut.Cutter(Script([0.0] * 9 + [1.0] + [0.0] * 50), 0.5, limits, encoders, pass_uncut=False, drop_cut=False)
    shots = run(made, frames)
    assert [(shot.seconds, shot.fault, shot.mp4) for shot in shots] == [(0.3333, "too_short", None), (1.6667, "too_long", None)]
    assert encoders.frames < 50
    made = cut.Cutter(Script([0.0] * 30), 0.5, cut.Limits(1.0, 1.0, 10**9), encoders, pass_uncut=False, drop_cut=False)
    exact = run(made, frames[:30])
    assert exact[0].fault is None and exact[0].mp4
