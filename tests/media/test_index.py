"""What an mp4's index claims, before FFmpeg believes it."""

from __future__ import annotations

import io
import struct

import pytest

from curation.media.index import PIECE, overclaims
from tests import videos
from tests.faults import bombs
from tests.faults.bad_files import SOURCES, source


@pytest.mark.parametrize("name", SOURCES)
def test_sound_files_claim_what_they_hold(name: str) -> None:
    file = io.BytesIO(source(name))
    assert overclaims(file) == "" and file.tell() == 0


@pytest.mark.parametrize("name", ["sizes-of-frames.mp4", "durations-of-frames.mp4", "a-run-of-frames.mp4"])
def test_more_frames_than_bytes(name: str) -> None:
    (data,) = [bomb.data for bomb in bombs.bombs() if bomb.name == name]
    assert overclaims(io.BytesIO(data)).startswith("60000000 frames in ")
    assert overclaims(io.BytesIO(data + bytes(61_000_000))) == "", "so large a file might hold them"


def test_an_index_that_unpacks_to_a_gigabyte() -> None:
    assert overclaims(io.BytesIO(bombs.packed_index())) == "it unpacks to 1024 MB"
    assert overclaims(io.BytesIO(bombs.packed_index(1 << 20))) == ""


@pytest.mark.parametrize("shift", range(-20, 4, 4))
def test_a_claim_is_found_where_two_pieces_meet_and_counted_once(shift: int) -> None:
    claim = struct.pack(">4sIII", b"stsz", 0, 1, 900_000)
    before = PIECE + shift - 8
    data = struct.pack(">I4s", 8 + before + len(claim) + 600_000, b"moov") + bytes(before) + claim + bytes(600_000)
    assert overclaims(io.BytesIO(data)) == "", "once it is possible, twice it would not be"
    assert overclaims(io.BytesIO(data.replace(claim, claim[:8] + struct.pack(">II", 1, 10**8)))) != ""


def test_pictures_are_no_index() -> None:
    good = videos.numbered(4)
    claim = struct.pack(">I4s4sIII", 24, b"mdat", b"stsz", 0, 1, 10**9)
    assert overclaims(io.BytesIO(claim + good)) == ""
    assert overclaims(io.BytesIO(claim.replace(b"mdat", b"free") + good)) != ""
