"""Frames into shots: the same shots as the definition gives, over as soon as the clip's fate is known, nothing held."""

from __future__ import annotations

import numpy as np
import pytest

from curation.media import cut
from curation.models import transnetv2


class Script:
    """A detector that says what it was told to, some frames late; `owing`: not even at the end, until asked once more."""

    def __init__(self, scores: list[float], delay: int = 0, owing: bool = False):
        self.scores, self.delay, self.owing, self.seen, self.told = scores, delay, owing, 0, 0

    def push(self, seen: object) -> list[float]:
        self.seen += 1
        return self._tell(self.seen - self.delay)

    def finish(self) -> list[float]:
        if self.owing:
            self.owing = False
            return []
        return self._tell(self.seen)

    def _tell(self, until: int) -> list[float]:
        known = self.scores[self.told : max(self.told, until)]
        self.told += len(known)
        return known


def run(scores: list[float], delay: int = 3, limits: cut.Limits | None = None, **how: bool) -> cut.Cutter:
    """Frames at 10 a second."""
    made = cut.Cutter(Script(scores, delay), 0.5, limits or cut.Limits(0.0, 1000.0), **{"lone": False} | how)
    for number in range(len(scores)):
        if made.over:
            break
        made.push(moment(number), None)
    made.finish()
    return made


def moment(number: int) -> cut.Moment:
    return cut.Moment(number / 10, (number + 1) / 10, number * 512, (208, 112))


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_shots_are_the_scenes_of_the_definition(delay: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        count = int(rng.integers(1, 12))
        scores = (rng.random(count) > rng.random()).astype(float).tolist()
        made, expected = run(scores, delay), transnetv2.scenes(scores)
        assert [(shot.first, shot.last) for shot in made.shots] == expected
        assert [(shot.opening.ticks, shot.closing.ticks) for shot in made.shots] == [(a * 512, b * 512) for a, b in expected]
        assert made.dropped_frames == count - sum(last - first + 1 for first, last in expected) and made.whole
        lone = run(scores, delay, lone=True)
        assert (len(lone.shots) > 1) == (len(expected) > 1) and lone.shots[0].first == expected[0][0]
        assert lone.over == (len(expected) > 1) and lone.whole != lone.over


@pytest.mark.parametrize("delay", [0, 7, 50])
def test_a_clip_that_must_be_one_shot_is_over_with_its_first_cut_however_late_that_is_known(delay: int) -> None:
    made = run([0.0] * 20 + [0.9] + [0.0] * 19 + [1.0] + [0.0] * 30, delay, lone=True)
    assert made.over and not made.whole and made.pushed == min(22 + delay, 71)
    assert (made.decided, [shot.first for shot in made.shots], made.max_score) == (22, [0, 21], 0.9)
    assert made.dropped_frames == 0 and made.latest == moment(21)


def test_too_long_ends_a_clip_that_must_be_one_shot_and_no_other() -> None:
    limits, scores = cut.Limits(0.5, 1.0), [0.0] * 30 + [1.0] + [0.0] * 9
    lone, split = run(scores, limits=limits, lone=True), run(scores, limits=limits)
    assert lone.over and lone.decided == 11 and limits.fault(lone.shots[0].seconds) == "too_long"
    assert [(shot.seconds, limits.fault(shot.seconds)) for shot in split.shots] == [(3.1, "too_long"), (0.9, None)]
    exact = run([0.0] * 10, limits=cut.Limits(1.0, 1.0), lone=True)
    assert exact.whole and exact.shots[0].seconds == 1.0


def test_a_transition_at_the_start_is_no_shot_that_is_too_long() -> None:
    made = run([1.0] * 15 + [0.0] * 8, limits=cut.Limits(0.0, 1.0), lone=True)
    assert made.whole and [(shot.first, shot.last) for shot in made.shots] == [(15, 22)] and made.dropped_frames == 15


@pytest.mark.parametrize("owing", [False, True])
def test_of_a_broken_source_a_cut_counts_for_more_if_one_was_seen_before(owing: bool) -> None:
    from curation.media.picture import Frame, Turn
    from curation.media.video import VideoError

    def closed(scores: list[float], lone: bool) -> cut.Clip:
        cutter = cut.Cutter(Script(scores, 30, owing), 0.5, cut.Limits(0.0, 99.0), lone=lone)
        clip = cut.Clip(cutter, 0.0, 99.0)

        class Picture:
            width, height, interlaced_frame = 208, 112, False

        for number in range(len(scores)):
            clip.push(Frame(Picture(), Turn(), number / 10, 0.1, number, 1), None)  # type: ignore[arg-type]
        clip.close(VideoError("truncated"))
        assert clip.settled or (owing and lone)
        clip.close()
        assert clip.settled
        return clip

    assert closed([0.0] * 9 + [1.0] + [0.0] * 5, lone=True).failure is None
    assert closed([0.0] * 15, lone=True).failure is not None
    assert closed([0.0] * 9 + [1.0] + [0.0] * 5, lone=False).failure is not None
