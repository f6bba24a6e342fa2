"""The sound of a clip, as AAC beside its pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from itertools import chain

import av
import av.error
import numpy as np
from av.codec.context import Flags

from curation.media.encode import mp4_of
from curation.media.video import Input, Reader

RATE = 48_000
"""Samples a second of what is written."""
BIT_RATE = 128_000
LAYOUTS = {1: "mono", 2: "stereo"}
SLACK = RATE // 50
"""Samples by which times of a track may be out of step before silence is put in: files round them."""


def with_sound(mp4: bytes, source: Input, start: float, end: float) -> tuple[bytes, float]:
    """The mp4 with the sound of its source from second `start` to `end` (0: the first frame), and how many seconds of
    that hold any.

    One track, of the source's first one, mono or stereo, always encoded anew, so that cut and uncut clips are alike. Where the
    source's track has a gap, or cannot be decoded, there is silence; where there is nothing else the mp4 comes back as it is, and
    0.0. The pictures' packets stay as they are. Raises `VideoError` as `Reader`.
    """
    with Reader(source) as reader:
        zero = reader.zero()
    with Reader(source) as reader:
        pieces = _cut(reader.sounds(zero + start), round((zero + start) * RATE), round((end - start) * RATE))
        first = next(pieces, None)
        if first is None:
            return mp4, 0.0
        return _muxed(mp4, first, pieces)


def _cut(frames: Iterator[av.AudioFrame], begins: int, length: int) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces float32 [channels, samples] with the sample at which each begins; they do not overlap, nor leave the span."""
    at, resampler, expected = 0, None, None
    try:
        for frame in frames:
            if resampler is None:
                resampler = av.AudioResampler("fltp", LAYOUTS[min(frame.layout.nb_channels, 2)], RATE)
            for piece in resampler.resample(frame):
                place = round(piece.pts * piece.time_base * RATE) - begins
                if expected is not None and abs(place - expected) <= SLACK:
                    place = expected
                samples = piece.to_ndarray()
                expected = place + samples.shape[1]
                left, right = max(at - place, 0), min(length - place, samples.shape[1])
                if left < right:
                    yield place + left, samples[:, left:right]
                    at = place + right
                if place >= length:
                    return
    except (av.error.FFmpegError, ValueError):  # a track that turns into another one halfway
        return


def _muxed(mp4: bytes, first: tuple[int, np.ndarray], pieces: Iterator[tuple[int, np.ndarray]]) -> tuple[bytes, float]:
    file, at, heard = io.BytesIO(), 0, 0
    channels = len(first[1])
    with Reader(io.BytesIO(mp4)) as pictures, mp4_of(file) as output:
        stream = output.add_stream_from_template(pictures.stream)
        stream.time_base = pictures.time_base
        track = output.add_stream("aac", rate=RATE, layout=LAYOUTS[channels])
        track.bit_rate = BIT_RATE
        track.codec_context.thread_count = 1
        track.codec_context.flags |= Flags.bitexact
        shown = ((float(p.dts * p.time_base), p) for p in pictures.packets() if p.size)
        sounds = ((begins / RATE, (begins, samples)) for begins, samples in chain([first], pieces))
        for _, item in merge(shown, sounds, key=lambda item: item[0]):
            if isinstance(item, av.Packet):
                item.stream = stream
                output.mux(item)
                continue
            begins, samples = item
            heard += samples.shape[1]
            silence = (np.zeros((channels, min(RATE, begins - now)), np.float32) for now in range(at, begins, RATE))
            for part in chain(silence, [samples]):
                output.mux(track.encode(_frame(part, at)))
                at += part.shape[1]
        output.mux(track.encode())
    return file.getvalue(), round(heard / RATE, 4)


def _frame(samples: np.ndarray, at: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", LAYOUTS[len(samples)])
    frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
    return frame
