from __future__ import annotations

from functools import cache
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation.media.members import to_jpeg, to_rle
from curation.sample import Sample
from curation.stage import apply
from curation.stages.score_coverage import ScoreCoverage
from curation.store import store

HEIGHT, WIDTH = 360, 640


@cache
def man() -> np.ndarray:
    """A real man, 264×294, head and shoulders, cut out of the carphone video and enlarged."""
    with av.open(str(store.path("sample-videos") / "carphone_pristine.mp4")) as container:
        frame = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][40]
    return cv2.resize(frame[12:144, 25:172], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def scene(*men: tuple[int, float]) -> np.ndarray:
    """Plain ground with the man at each place, so many times as large."""
    image = np.full((HEIGHT, WIDTH, 3), (120, 140, 130), np.uint8)
    for left, scale in men:
        small = cv2.resize(man(), None, fx=scale, fy=scale)
        image[80 : 80 + small.shape[0], left : left + small.shape[1]] = small
    return image


def written(image: np.ndarray, lines: int) -> np.ndarray:
    image = image.copy()
    for line in range(lines):
        cv2.putText(
            image, "subscribe to see more of this", (20, 40 + 40 * line), cv2.FONT_HERSHEY_DUPLEX, 1.1, (255, 255, 255), 2
        )
    return image


BOX = [30, 80, 30 + 294, 80 + 264]
"""Of the man who is named, at the left."""


def ref(frame: int, box: list[int] = BOX) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return {"frame": frame, "label": "person", "box": box, "score": 0.9, "mask": to_rle(mask), "member": f"ref.0.{frame}.webp"}


def clip(
    *frames: np.ndarray, background: np.ndarray | None = None, misses: list[dict[str, Any]] | None = None, **meta: Any
) -> Sample:
    words = [{"word": "man", "kind": "subject", "span": [0, 3]}]
    found = [{"refs": [ref(n) for n in range(3)], "misses": misses or [], "reason": None}]
    sample = Sample("clip", meta={"source": {"caption": "man"}, "extract_entities": {"entities": words}, **meta})
    sample.meta["segment_entities"] = {"entities": found}
    sample.files = {f"frame{n}.jpg": to_jpeg(image, 95) for n, image in enumerate(frames)}
    if background is not None:
        sample.files["background.jpg"] = to_jpeg(background, 95)
    return sample


@cache
def loaded(**knobs: Any) -> ScoreCoverage:
    stage = ScoreCoverage(**knobs)
    stage.load()
    return stage


def facts(sample: Sample, **knobs: Any) -> tuple[str, dict[str, Any]]:
    """The reason it is rejected for, or "", and what is recorded."""
    (done,) = apply(loaded(**knobs), [sample])
    assert done.verdict.status in ("kept", "rejected"), done.verdict
    return done.verdict.reason, done.meta["score_coverage"]


def test_one_man_who_is_named_passes():
    reason, found = facts(clip(*[scene((30, 1))] * 3, background=scene()))
    assert reason == "" and found == {"text_share": found["text_share"], "unnamed": 0.0, "added": 0.0}
    assert found["text_share"] < 0.002
    assert facts(clip(*[scene((30, 1))] * 3))[1]["added"] is None


def test_a_second_man_whom_no_word_names_rejects():
    both = scene((30, 1), (340, 1))
    reason, found = facts(clip(both, both, both))
    assert reason == "unnamed_subject" and 0.55 < found["unnamed"] < 0.75, "NanoDet sees three quarters of his picture"
    assert facts(clip(both, both, both), max_unnamed=1.5)[0] == ""


def test_who_passes_by_in_one_frame_and_who_is_small_do_not():
    alone, both, small = scene((30, 1)), scene((30, 1), (340, 1)), scene((30, 1), (400, 0.5))
    assert facts(clip(alone, both, alone))[1]["unnamed"] == 0.0
    assert facts(clip(alone, both, both))[0] == "unnamed_subject"
    reason, found = facts(clip(small, small, small))
    assert reason == "" and 0.1 < found["unnamed"] < 0.4


def test_whoever_was_found_for_a_word_is_named_though_not_cut_out():
    both = scene((30, 1), (340, 1))
    other = [340, 80, 340 + 294, 80 + 264]
    misses = [{"frame": n, "box": other, "score": 0.5, "reason": "mask_uncertain"} for n in range(3)]
    assert facts(clip(both, both, both, misses=misses))[1]["unnamed"] == 0.0


def test_much_text_rejects_and_is_not_measured_twice():
    full = written(scene((30, 1)), 6)
    reason, found = facts(clip(full, full, full))
    assert reason == "text" and found["text_share"] > 0.1
    assert facts(clip(full, scene((30, 1)), scene((30, 1))))[0] == "", "the median of three frames"
    known = facts(clip(full, full, full, score_quality={"text_share": 0.01}))
    assert known[0] == "" and known[1]["text_share"] == 0.01


@pytest.mark.parametrize("left, reason", [(30, "painted_in"), (340, "")])
def test_what_is_found_in_the_hole_of_the_background_was_painted_in(left, reason):
    """A man where the man was; beside that he belongs to the background."""
    told, found = facts(clip(*[scene((30, 1))] * 3, background=scene((left, 1))), max_added=0.4)
    assert told == reason and (found["added"] > 0.4) == bool(reason)
