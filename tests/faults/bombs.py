"""Small files that cost much: they claim enormous pictures, hours of film, or millions of frames that are not there."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av

from tests import videos

LARGE = 15360
"""Pixels of a side, as many as FFmpeg takes of most codecs: 350 MB a frame in 4:2:0."""


@dataclass(frozen=True)
class Bomb:
    """`costs`: what it would: pixels, seconds (of film), frames (in the index), bytes (once unpacked) or work."""

    name: str
    data: bytes
    costs: str


def bombs() -> Iterator[Bomb]:
    side = LARGE // 16
    large = h264(side, side, 3)
    yield Bomb("h264-15k.mp4", boxed(large, "mp4", side=LARGE), "pixels")
    yield Bomb("h264-15k-lies.mp4", boxed(large, "mp4"), "pixels")
    yield Bomb("h264-15k.mkv", boxed(large, "matroska", side=LARGE), "pixels")
    yield Bomb("h264-15k.ts", boxed(large, "mpegts"), "pixels")
    yield Bomb("h264-15k-no-picture.mp4", boxed([large[0][:60]] * 3, "mp4", side=LARGE), "pixels")
    yield Bomb("h264-long-line.mp4", boxed(h264(side, 2, 30), "mp4"), "")
    yield Bomb("h264-grows.ts", boxed([*h264(16, 8, 10), *large[:2]], "mpegts"), "pixels")
    yield Bomb("h264-grows.mp4", boxed([*h264(16, 8, 10), *large[:2]], "mp4"), "pixels")
    yield Bomb("vp8-15k.webm", patched("libvpx", "webm", _vp8), "pixels")
    yield Bomb("vp9-15k.webm", patched("libvpx-vp9", "webm", _vp9), "pixels")
    yield Bomb("mjpeg-15k.avi", patched("mjpeg", "avi", _jpeg), "pixels")
    yield Bomb("mpeg2-15k.ts", patched("mpeg2video", "mpegts", _mpeg2), "pixels")
    yield Bomb("png-32k.mov", boxed([png(32767)] * 3, "mov", "png"), "pixels")
    yield Bomb("png-15k.avi", boxed([png(LARGE)] * 3, "avi", "png"), "pixels")
    yield Bomb("gif-64k.gif", gif(65535), "pixels")
    yield Bomb("gif-15k.gif", gif(LARGE), "pixels")
    yield Bomb("10-hours.mp4", boxed(h264(13, 7, 10), "mp4", step=3600), "seconds")
    yield Bomb("10-hours.mkv", boxed(h264(13, 7, 10), "matroska", step=3600), "seconds")
    yield Bomb("11-days.mp4", boxed(h264(13, 7, 10), "mp4", step=100_000), "seconds")
    yield Bomb("26-hours.ts", boxed(h264(13, 7, 10), "mpegts", step=9000), "seconds")
    yield Bomb("a-million-shown.webm", shown_again(50_000), "work")
    yield Bomb("4k-unchanged.mp4", boxed(h264(256, 135, 1500), "mp4", step=Fraction(1, 30)), "work")
    yield Bomb("sizes-of-frames.mp4", _claimed(b"stsz", 1), "frames")
    yield Bomb("durations-of-frames.mp4", _claimed(b"stts", 0), "frames")
    yield Bomb("a-run-of-frames.mp4", run_of_frames(), "frames")
    yield Bomb("packed-index.mov", packed_index(), "bytes")
    yield Bomb("packed-frames.mkv", packed_frames(), "bytes")


CLAIM = 60_000_000
"""Frames that an index claims: 1.4 GB of it in memory, if it is believed; FFmpeg asks for 2 GB at most."""


class Bits:
    """H.264's bit stream, written."""

    def __init__(self) -> None:
        self.text = ""

    def u(self, value: int, bits: int) -> Bits:
        self.text += f"{value:0{bits}b}"
        return self

    def ue(self, *values: int) -> Bits:
        for value in values:
            code = f"{value + 1:b}"
            self.text += "0" * (len(code) - 1) + code
        return self

    def nal(self, header: int) -> bytes:
        """With its stop bit, start code, and no three bytes that look like a start code."""
        text = self.text + "1"
        text += "0" * (-len(text) % 8)
        payload, zeros = bytearray([header]), 0
        for byte in int(text, 2).to_bytes(len(text) // 8, "big"):
            if zeros == 2 and byte <= 3:
                payload.append(3)
                zeros = 0
            payload.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes(payload)


def h264(wide: int, high: int, frames: int) -> list[bytes]:
    """Valid H.264 of so many macroblocks: a grey frame, one byte a macroblock, then frames of ten bytes that change nothing."""
    sps = Bits().u(66, 8).u(0xC0, 8).u(62, 8).ue(0, 0, 2, 1).u(0, 1).ue(wide - 1, high - 1).u(0b1100, 4)
    pps = Bits().ue(0, 0).u(0, 2).ue(0, 0, 0).u(0, 3).ue(0, 0, 0).u(0b100, 3)
    first = Bits().ue(0, 7, 0).u(0, 4).ue(0).u(0, 2).ue(0, 1)
    first.text += "00100111" * (wide * high)  # I16x16 predicted by its neighbours' mean, no coefficients
    packets = [sps.nal(0x67) + pps.nal(0x68) + first.nal(0x65)]
    for number in range(1, frames):
        packets.append(Bits().ue(0, 5, 0).u(number % 16, 4).u(0, 3).ue(0, 1, wide * high).nal(0x41))
    return packets


def boxed(
    packets: list[bytes], container: str, codec: str = "h264", step: int | Fraction = Fraction(1, 12), side: int = 0
) -> bytes:
    """Packets, the first of them a key frame, in a container, `step` seconds apart. `side`: what the container says of it."""
    file = io.BytesIO()
    base = Fraction(1, 90000) if step < 20_000 else Fraction(1, 16384)
    with av.open(file, "w", format=container, container_options={"fflags": "bitexact"}) as output:
        if codec == "h264":
            small = av.open(io.BytesIO(b"".join(h264(13, 7, 3))), format="h264")
            stream = output.add_stream_from_template(small.streams.video[0])
            _, sps, pps, *_ = packets[0].split(b"\0\0\0\1")
            stream.codec_context.extradata = b"\0\0\0\1" + sps + b"\0\0\0\1" + pps
            if side:
                stream.width = stream.height = side
        else:
            stream = output.add_stream(codec, rate=12)
            stream.width, stream.height, stream.pix_fmt = 208, 112, "rgb24"
        stream.time_base = base
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, base
            packet.pts = packet.dts = round(number * step / base)
            packet.duration = round(step / base)
            packet.is_keyframe = number == 0 or codec != "h264"
            output.mux(packet)
    return file.getvalue()


def patched(codec: str, container: str, patch: object) -> bytes:
    """A small video whose packets say that their pictures are larger."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options={"fflags": "bitexact"}) as output:
        stream = output.add_stream(codec, rate=12)
        stream.width, stream.height = 208, 112
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        pictures = [av.VideoFrame.from_ndarray(videos.picture(i), "rgb24") for i in range(6)]
        for picture in [*pictures, None]:
            for packet in stream.encode(picture):
                data = bytearray(bytes(packet))
                if packet.is_keyframe:
                    patch(data)
                large = av.Packet(bytes(data))
                large.stream, large.time_base = stream, packet.time_base
                large.pts, large.dts, large.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
                output.mux(large)
    return file.getvalue()


def _vp8(frame: bytearray) -> None:
    struct.pack_into("<HH", frame, 6, LARGE - 1, LARGE - 1)


def _vp9(frame: bytearray) -> None:
    """36 bits of header stand before the sides, less 1, in 16 bits each."""
    bits = int.from_bytes(frame, "big")
    below = 8 * len(frame) - 36 - 32
    bits = bits & ~(0xFFFFFFFF << below) | ((LARGE - 1) << 16 | LARGE - 1) << below
    frame[:] = bits.to_bytes(len(frame), "big")


def _jpeg(frame: bytearray) -> None:
    struct.pack_into(">HH", frame, frame.index(b"\xff\xc0") + 5, LARGE, LARGE)


def _mpeg2(frame: bytearray) -> None:
    """12 bits a side in the sequence header, two more in its extension."""
    at = frame.index(b"\0\0\1\xb3") + 4
    low, high = LARGE & 0xFFF, LARGE >> 12
    frame[at : at + 3] = (low << 12 | low).to_bytes(3, "big")
    at = frame.index(b"\0\0\1\xb5") + 5
    sides = int.from_bytes(frame[at : at + 2], "big") & ~(0b1111 << 5) | high << 7 | high << 5
    frame[at : at + 2] = sides.to_bytes(2, "big")


def zeros(count: int) -> bytes:
    """What so many zeros are under zlib: a thousandth, and made at once."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count % (1 << 20))) + packer.flush()
    return b"\x78\xda" + block * (count >> 20) + rest + struct.pack(">HH", count % 65521, 1)


def png(side: int) -> bytes:
    """One bit a pixel, all of them black, packed a thousandfold."""
    packed = zeros(side * (1 + (side + 7) // 8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def gif(side: int) -> bytes:
    """A screen of such sides, and three pictures of one pixel."""
    picture = b"\x21\xf9\4\0\x32\0\0\0" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + picture * 3 + b";"


def shown_again(count: int) -> bytes:
    """VP9 frames of two bytes that show the one before once more, a thousand a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm", container_options={"fflags": "bitexact"}) as output:
        stream = output.add_stream("libvpx-vp9", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 208, 112, "yuv420p"
        picture = av.VideoFrame.from_ndarray(videos.picture(7), "rgb24")
        (key,) = [packet for frame in (picture, None) for packet in stream.encode(frame)]
        for number in range(count):
            packet = av.Packet(bytes(key) if number == 0 else b"\x88")
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 1000), number, number
            packet.is_keyframe = number == 0
            output.mux(packet)
    return file.getvalue()


def _claimed(box: bytes, size: int) -> bytes:
    """The index of a small mp4 says that there are `CLAIM` frames: of one byte each, or of one duration."""
    data = bytearray(boxed(h264(13, 7, 10), "mp4"))
    at = data.index(b"stsz")
    struct.pack_into(">II", data, at + 8, 1, CLAIM)
    at = data.index(b"stsc")
    struct.pack_into(">III", data, at + 12, 1, CLAIM, 1)
    if box == b"stts":
        struct.pack_into(">II", data, data.index(b"stts") + 12, CLAIM, 1)
    return bytes(data)


def run_of_frames() -> bytes:
    """A fragment whose table of frames has no bytes a frame, and so many frames."""
    good = videos.numbered(12, rate=12, options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    data = bytearray(good[: good.index(b"mfra") - 4] if b"mfra" in good else good)
    at = data.index(b"trun")
    (size,) = struct.unpack_from(">I", data, at - 4)
    data[at + 4 : at + 16] = struct.pack(">III", 1, CLAIM, struct.unpack_from(">I", data, at + 12)[0])
    data[at + 16 : at - 4 + size] = bytes(size - 20)
    struct.pack_into(">I", data, at - 4, 20)
    struct.pack_into(">I4s", data, at + 16, size - 20, b"free")
    return bytes(data)


def packed_index(unpacked: int = 1 << 30) -> bytes:
    """QuickTime's index under zlib: a megabyte that unpacks to a gigabyte."""
    packed = zeros(unpacked)
    inner = struct.pack(">I4sI", 12, b"dcom", 0x7A6C6962) + struct.pack(">I4sI", 12 + len(packed), b"cmvd", unpacked) + packed
    moov = struct.pack(">I4s", 8 + len(inner), b"cmov") + inner
    return struct.pack(">I4s4sI", 16, b"ftyp", b"qt  ", 0) + struct.pack(">I4s", 8 + len(moov), b"moov") + moov


def packed_frames(unpacked: int = 1 << 28) -> bytes:
    """Matroska whose track says that its frames are under zlib, and each of them is zeros without end."""

    def element(name: int, data: bytes) -> bytes:
        return bytes.fromhex(f"{name:x}") + (0x0100000000000000 | len(data)).to_bytes(8, "big") + data

    packed = zeros(unpacked)
    encoding = element(0x6D80, element(0x6240, element(0x5034, element(0x4254, b"\0"))))
    size = element(0xE0, element(0xB0, b"\xd0") + element(0xBA, b"\x70"))
    track = element(0xD7, b"\1") + element(0x73C5, b"\1") + element(0x83, b"\1") + element(0x86, b"V_VP8") + size + encoding
    blocks = b"".join(element(0xA3, b"\x81" + struct.pack(">hB", 80 * i, 0x80) + packed) for i in range(4))
    segment = element(0x1549A966, element(0x2AD7B1, b"\x0f\x42\x40")) + element(0x1654AE6B, element(0xAE, track))
    segment += element(0x1F43B675, element(0xE7, b"\0") + blocks)
    return element(0x1A45DFA3, element(0x4282, b"matroska")) + element(0x18538067, segment)
