from __future__ import annotations

import errno
import math

import pytest

from curation.faults import DataError, Infrastructure
from curation.inputs.rows import LONGEST_DETAIL, each, planned
from tests.inputs.written import checked


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"start": math.nan}, "bad_number"),
        ({"end": math.inf}, "bad_number"),
        ({"start": 10**400}, "bad_number"),
        ({"start": "soon"}, "bad_timestamp"),
        ({"start": b"\x01"}, "bad_timestamp"),
        ({"start": -1.0}, "bad_timestamp"),
        ({"start": 3.0, "end": 2.0}, "bad_timestamp"),
        ({"start": 3.0, "end": 3.0}, "bad_timestamp"),
        ({"score": -math.inf}, "bad_number"),
        ({"labels": [{"a": math.nan}]}, "bad_number"),
        ({"labels": 2**63}, "bad_number"),
        ({"labels": 10**5000}, "bad_number"),
        ({"labels": {"a": {1, 2}}}, "bad_row"),
        ({"path": "/a/\udcff.mp4"}, "name_not_utf8"),
        ({"path": "/a/\ud83d.mp4"}, "name_not_utf8"),
        ({"caption": 7}, "bad_caption"),
        ({"caption": b"A cat."}, "bad_caption"),
        ({"caption": ["A cat."]}, "bad_caption"),
        ({"caption": None}, "no_caption"),
        ({"caption": " \n"}, "no_caption"),
        ({"url": 10**5000}, "bad_row"),
    ],
)
def test_a_value_that_cannot_be_planned_is_the_clips_own_verdict(values, reason):
    (clip,) = checked([planned("k", values.pop("caption", "A cat."), place="row 7", **values)])
    assert clip.verdict.reason == reason and clip.verdict.status == ("rejected" if reason == "no_caption" else "failed")
    assert reason == "no_caption" or clip.verdict.detail.startswith("row 7: ")


def test_half_an_emoji_becomes_a_question_mark():
    half = "\ud83d"
    (clip,) = checked([planned(half, f"A {half} cat.", video=half, url=half, labels={half: [half]})])
    assert clip.alive and clip.caption == "A ? cat."
    assert clip.meta["source"]["labels"] == {"?": ["?"]} and clip.meta["source"]["video"] == clip.meta["source"]["url"] == "?"


def test_deep_lists_end():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    (clip,) = checked([planned("k", "A cat.", labels=nested)])
    assert clip.verdict.reason == "bad_row" and "deep" in clip.verdict.detail
    while nested:  # or Python's own collector would recurse
        nested = nested.pop()


def test_a_detail_is_one_bounded_line():
    (clip,) = checked([planned("k", "A cat.", start="\n\ud83d" * 1000)])
    assert clip.verdict.reason == "bad_timestamp" and len(clip.verdict.detail) <= LONGEST_DETAIL


def test_whatever_an_item_raises_is_one_failed_clip():
    errors = [
        ValueError("odd"),
        RecursionError("deep"),
        KeyError("k"),
        DataError("torn", "in two"),
        PermissionError(13, "Permission denied"),
    ]

    def read(error):
        yield planned("never", "A cat.")
        raise error

    found = checked(each(errors, read, lambda error: (str(errors.index(error)), "place")))
    assert [s.verdict.reason for s in found] == ["bad_row", "bad_row", "bad_row", "torn", "unreadable"]
    assert all(s.verdict.detail.startswith("place: ") and s.verdict.status == "failed" for s in found)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), MemoryError(), Infrastructure("gone"), TimeoutError()])
def test_a_disk_that_breaks_says_nothing_of_a_clip(error):
    def read(item):
        raise error

    with pytest.raises(type(error)):
        list(each([1], read, lambda item: ("k", "place")))
