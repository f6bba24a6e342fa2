"""Whether an mp4's index claims what its file cannot hold: FFmpeg believes it, and 2 kB cost 4 GB and a minute."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import IO

MOST_UNPACKED = 64 << 20
"""Bytes that a packed index (QuickTime's `cmov`) may have; one of two hours has about ten million."""
PIECE, OVERLAP = 1 << 20, 16
OUTERMOST = (b"ftyp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"junk", b"pnot", b"udta", b"uuid", b"pict", b"prfl")
"""Boxes one of which stands outermost in what FFmpeg takes for an mp4."""
CLAIMS = re.compile(rb"stsz.{4}(.{8})|trun.{4}(.{4})|cmvd(.{4})", re.DOTALL)


def overclaims(file: IO[bytes]) -> str:
    """What is wrong with the index, "" when nothing is. Looks at all that is in no `mdat`, wherever FFmpeg may find an index, and
    leaves the file at its beginning. A frame has a byte at least."""
    size = file.seek(0, 2)
    frames = 0
    for found in _claims(file, size):
        sizes, run, unpacked = found.groups()
        if sizes and (each := struct.unpack(">II", sizes))[0]:  # else their sizes stand in a table
            frames += each[1]
        elif run:
            frames += struct.unpack(">I", run)[0]
        elif unpacked and (length := struct.unpack(">I", unpacked)[0]) > MOST_UNPACKED:
            return f"it unpacks to {length >> 20} MB"
        if frames > size:
            return f"{frames} frames in {size} bytes"
    file.seek(0)
    return ""


def _claims(file: IO[bytes], size: int) -> Iterator[re.Match[bytes]]:
    boxes = list(_boxes(file, size))
    if not any(kind in OUTERMOST for kind, _, _ in boxes):
        return
    for kind, start, end in boxes:
        for at in range(start, end if kind != b"mdat" else start, PIECE):
            file.seek(at)
            for found in CLAIMS.finditer(file.read(min(PIECE + OVERLAP, end - at))):
                if found.start() < PIECE:
                    yield found


def _boxes(file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of the outermost boxes, as far as they follow each other."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        end = min(size, at + length) if length else size
        if end < at + 8:
            return
        yield kind, at, end
        at = end
