"""One decode for many spans: each gets its own frames, nobody waits for what nobody wants, no picture is held."""

from __future__ import annotations

import io
import weakref
from typing import Any

import pytest

from curation.media import spans, video
from curation.media.encode import Encoder
from curation.media.picture import Frame, Painter
from curation.media.video import VideoError
from tests import videos


class Numbers:
    """Takes what the frames say."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.seen: list[int] = []
        self.fails_at, self._paint = fails_at, Painter()

    def add(self, frame: Frame) -> None:
        if len(self.seen) == self.fails_at:
            raise ValueError("of this one")
        self.seen.append(videos.number_of(self._paint(frame)))

    def finish(self) -> list[int]:
        return self.seen


def ticks(data: bytes) -> list[int]:
    return [frame.ticks for frame in video.frames(io.BytesIO(data))]


KINDS: dict[str, dict[str, Any]] = {
    "mp4": {},
    "matroska": {"container": "matroska"},
    "open groups": {"options": {"x264-params": "open-gop=1"}},
    "mpegts": {"container": "mpegts", "codec": "mpeg2video"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_very_frames_are_found_again_and_gaps_are_skipped(kind: str) -> None:
    data = videos.numbered(600, gop=30, **KINDS[kind])
    at = ticks(data)
    assert at[0] == 0 and at == sorted(at)
    wanted = [(500, 520), (40, 60), (50, 70), (599, 599)]
    with video.Reader(io.BytesIO(data)) as reader:
        made = [spans.Stretch(at[a], at[b], b - a + 1, reader, Numbers()) for a, b in wanted]
        spans.decode(reader, made)
        assert [stretch.made for stretch in made] == [list(range(a, b + 1)) for a, b in wanted]
        assert kind == "mpegts" or reader.decoded < 350
    assert all(stretch.seconds > 0 and not stretch.failure for stretch in made)


@pytest.mark.parametrize("kind", KINDS)
def test_encoded_together_or_alone_the_bytes_are_the_same(kind: str) -> None:
    data = videos.numbered(300, gop=30, **KINDS[kind])
    at, wanted = ticks(data), [(5, 30), (20, 45), (200, 230)]

    def encoded(*which: tuple[int, int]) -> list[bytes]:
        with video.Reader(io.BytesIO(data)) as reader:
            made = [spans.Stretch(at[a], at[b], b - a + 1, reader, Encoder(reader.rate, 23, "ultrafast")) for a, b in which]
            spans.decode(reader, made)
        return [stretch.made for stretch in made]

    assert encoded(*wanted) == [encoded(one)[0] for one in wanted]


def test_decoding_ends_with_the_last_frame_wanted() -> None:
    with video.Reader(io.BytesIO(videos.numbered(100, gop=10))) as reader:
        spans.decode(reader, [spans.Stretch(0, 9 * 512, 10, reader, Numbers())])
        assert reader.decoded == 10


def test_an_error_of_one_span_is_its_own_and_other_frames_than_promised_are_one() -> None:
    data = videos.numbered(60)
    at = ticks(data)
    with video.Reader(io.BytesIO(data)) as reader:
        takers = (Numbers(fails_at=3), Numbers(), Numbers(), Numbers())
        spans_of = ((0, at[19], 20), (0, at[19], 20), (0, at[19], 21), (at[50], at[59] + 512, 11))
        made = [spans.Stretch(*span, reader, taker) for span, taker in zip(spans_of, takers, strict=True)]
        spans.decode(reader, made)
    assert [str(stretch.failure) for stretch in made] == [
        "of this one",
        "None",
        "frame_count: decoded 20 of 21 frames",
        "frame_count: decoded 10 of 11 frames",
    ]


class Watcher(spans.Span):
    closed: VideoError | None = None

    def push(self, frame: Frame, seen: Any) -> None: ...

    def close(self, broken: VideoError | None = None) -> None:
        self.closed = broken


def test_no_frame_is_held() -> None:
    alive: list[weakref.ref[Frame]] = []
    most = 0

    def look(frame: Frame) -> None:
        nonlocal most
        alive.append(weakref.ref(frame))
        most = max(most, sum(ref() is not None for ref in alive))

    with video.Reader(io.BytesIO(videos.numbered(80))) as reader:
        spans.decode(reader, [Watcher(0.0), Watcher(0.5)], look)
    assert len(alive) == 80 and most <= 2


def test_a_span_beyond_the_end_says_so() -> None:
    with video.Reader(io.BytesIO(videos.numbered(10))) as reader:
        late = Watcher(5.0)
        spans.decode(reader, [late])
    assert late.closed is not None and late.closed.reason == "starts_beyond_end"
