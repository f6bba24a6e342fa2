"""A thousand files that are no good videos, the same ones every time: what strangers send, by accident and on purpose.

Each family is a generator of `Bad` files. They are small, and the bombs among them claim to be large.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import struct
import tarfile
import wave
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests import videos
from tests.faults.bombs import bombs

COUNT = 1000
CAPTION = b"A cat walks over a red carpet."

EXACT = {"fflags": "bitexact"}  # no numbers by chance
SOURCES: dict[str, dict[str, object]] = {
    "h264.mp4": {},
    "h264-index-first.mp4": {"options": {"movflags": "faststart"}},
    "h264-fragments.mp4": {"options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264-sound.mov": {"container": "mov", "sound": True},
    "h264.mkv": {"container": "matroska", "options": EXACT},
    "h264.ts": {"container": "mpegts"},
    "hevc.mp4": {"codec": "libx265", "options": {"movflags": "faststart"}},
    "av1.mp4": {"codec": "libsvtav1"},
    "vp9.webm": {"codec": "libvpx-vp9", "container": "webm", "options": EXACT},
    "vp9.mkv": {"codec": "libvpx-vp9", "container": "matroska", "options": EXACT},
    "vp8.webm": {"codec": "libvpx", "container": "webm", "options": EXACT},
    "mpeg4.avi": {"codec": "mpeg4", "container": "avi"},
    "mpeg2.ts": {"codec": "mpeg2video", "container": "mpegts"},
    "mpeg2.mpg": {"codec": "mpeg2video", "container": "mpeg"},
    "h263.flv": {"codec": "flv", "container": "flv"},
    "vp8.ogv": {"codec": "libvpx", "container": "ogg", "options": EXACT},
    "gif.gif": {"codec": "gif", "container": "gif", "pix_fmt": "rgb8"},
    "wmv2.wmv": {"codec": "wmv2", "container": "asf"},
    "png.mov": {"codec": "png", "container": "mov", "pix_fmt": "rgb24"},
}


@dataclass(frozen=True)
class Bad:
    """A file below the input: its family (a folder), its name, its bytes, and what lies beside it as a caption."""

    family: str
    name: bytes
    data: bytes
    caption: bytes | None = CAPTION
    caption_suffix: bytes = b".txt"

    @property
    def path(self) -> bytes:
        return os.fsencode(self.family) + b"/" + self.name

    def write(self, folder: Path) -> None:
        path = os.path.join(os.fsencode(folder), self.path)  # noqa: PTH118 a name that is not UTF-8 is no Path
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
        with open(path, "xb") as file:  # noqa: PTH123
            file.write(self.data)
        if self.caption is not None:
            with open(os.path.splitext(path)[0] + self.caption_suffix, "wb") as file:  # noqa: PTH122, PTH123
                file.write(self.caption)


@dataclass(frozen=True)
class Lures:
    """What a file might lead to, and must not: a video outside the input, and a port of this machine that listens."""

    secret: Path
    port: int


@functools.cache
def source(name: str) -> bytes:
    """A sound video of two seconds and two kinds of key frames: textured, so that most of its bytes are pictures."""
    before = os.sched_getscheduler(0)
    try:
        return videos.shots(24, rate=12, **SOURCES[name])
    finally:  # SVT-AV1 makes who calls it a real-time process when it is root's, and whatever that one starts
        os.sched_setscheduler(0, before, os.sched_param(0))


def generate(lures: Lures) -> list[Bad]:
    """All of them, in a fixed order."""
    rng = np.random.default_rng(9)
    families = (truncated, overwritten, spliced, renamed, foreign, named, captioned)
    made = [bad for family in families for bad in family(rng)]
    made += [*polyglots(rng, lures), *playlists(lures), *bombed()]
    return made + list(flipped(rng, COUNT - len(made)))


def some(bads: list[Bad], count: int) -> list[Bad]:
    """About so many, spread evenly over every family; of bombs each one."""
    families: dict[str, list[Bad]] = {}
    for bad in bads:
        families.setdefault(bad.family, []).append(bad)
    share = max(1, (count - len(families["bombs"])) // (len(families) - 1))
    spread = {name: len(found) if name == "bombs" else min(share, len(found)) for name, found in families.items()}
    return [found[i * len(found) // spread[name]] for name, found in families.items() for i in range(spread[name])]


def _numbered(family: str, name: str, number: int, data: bytes) -> Bad:
    return Bad(family, f"{family}-{number:04d}-{name}".encode(), data)


def truncated(rng: np.random.Generator) -> Iterator[Bad]:
    """Downloads that broke off: after a few bytes, in the header, anywhere, before the last byte."""
    for name in SOURCES:
        data = source(name)
        cuts = [1, 40, 300, len(data) * 3 // 4, len(data) - 400, len(data) - 1]
        for number, cut in enumerate([*cuts, int(rng.integers(400, len(data)))]):
            yield _numbered("truncated", name, number, data[:cut])


def flipped(rng: np.random.Generator, count: int) -> Iterator[Bad]:
    """Single bits: one of them or a hundred, in the header or anywhere."""
    names = list(SOURCES)
    for number in range(count):
        name = names[number % len(names)]
        data = bytearray(source(name))
        within = len(data) if number % 3 else 512
        for place in rng.integers(0, within, (1, 4, 20, 100)[number // len(names) % 4]):
            data[place] ^= 1 << int(rng.integers(0, 8))
        yield _numbered("flipped", name, number, bytes(data))


def overwritten(rng: np.random.Generator) -> Iterator[Bad]:
    """Bad sectors: runs of zeros, of ones, of noise."""
    for name in SOURCES:
        for number in range(6):
            data = bytearray(source(name))
            length = (16, 512, len(data) // 4)[number // 2]
            start = int(rng.integers(0, len(data) - length)) if number % 2 else len(data) // 2 - length // 2
            data[start : start + length] = (bytes(length), b"\xff" * length, rng.bytes(length))[number % 3]
            yield _numbered("overwritten", name, number, bytes(data))


def spliced(rng: np.random.Generator) -> Iterator[Bad]:
    """Pieces that are missing, doubled, swapped, or of another file."""
    names = list(SOURCES)
    for number, name in enumerate(names):
        data, other = source(name), source(names[(number + 1) % len(names)])
        a, b = sorted(int(place) for place in rng.integers(64, len(data), 2))
        made = [data[:a] + data[b:], data[b:] + data[:a], data[:a] + other[-len(other) // 2 :]]
        for variant, content in enumerate([*made, data[:a] + rng.bytes(33) + data[a:], data + data]):
            yield _numbered("spliced", name, variant, content)


def renamed(rng: np.random.Generator) -> Iterator[Bad]:
    """Sound videos by other containers' names."""
    suffixes = (".mp4", ".webm", ".mkv", ".avi", ".gif", ".MPG", ".ts", ".flv", ".wmv", ".3gp")
    for number, name in enumerate(SOURCES):
        for suffix in (suffixes[number % 10], suffixes[(number + 3) % 10]):
            yield _numbered("renamed", name.replace(".", "-") + suffix, number, source(name))


def foreign(rng: np.random.Generator) -> Iterator[Bad]:
    """What is no video at all."""
    for number, (name, data) in enumerate(_foreign(rng).items()):
        for suffix in (".mp4", ".mkv"):
            yield _numbered("foreign", f"{name}{suffix}", number, data)


def _foreign(rng: np.random.Generator) -> dict[str, bytes]:
    picture = videos.picture(77)
    packed, sound, tar = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(zipfile.ZipInfo("other.mp4"), source("h264.mp4"))
    with wave.open(sound, "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(rng.bytes(16000))
    with tarfile.open(fileobj=tar, mode="w") as file:
        info = tarfile.TarInfo("other.mp4")
        info.size = len(source("h264.mp4"))
        file.addfile(info, io.BytesIO(source("h264.mp4")))
    still = {kind: videos.write([picture], codec=kind, container="image2pipe", pix_fmt=fmt) for kind, fmt in STILLS.items()}
    return still | {
        "empty": b"",
        "a-byte": b"\0",
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "noise": rng.bytes(20_000),
        "a-text": b"once upon a time\n" * 300,
        "utf16": "once upon a time\n".encode("utf-16") * 200,
        "ansi": b"\x1b[31mred\x1b[0m\r\n" * 400,
        "html": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body></body></html>\n",
        "json": json.dumps({"error": "video unavailable"}).encode(),
        "xml-error": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n" * 20,
        "zip": packed.getvalue(),
        "tar": tar.getvalue(),
        "gzip": gzip.compress(source("h264.mp4"), mtime=0),
        "wav": sound.getvalue(),
        "elf": b"\x7fELF\x02\x01\x01" + rng.bytes(4000),
        "aac-only": videos.sound_only(),
        "ftyp-only": struct.pack(">I", 20) + b"ftypisom\0\0\0\0isom",
        "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n",
        "mpeg-syncs": (b"\x47\x40\x00\x10" + bytes(184)) * 200,
        "start-codes": b"\0\0\1\xb3" * 2000,
        "ebml": b"\x1a\x45\xdf\xa3" + b"\x01" + b"\xff" * 8,
        "riff": b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffhdrl",
        "oggs": b"OggS\0\2" + bytes(20) + b"\1\xff",
        "flv-header": b"FLV\1\5\0\0\0\x09\0\0\0\0",
    }


STILLS = {"png": "rgb24", "mjpeg": "yuvj420p", "bmp": "bgr24"}


def polyglots(rng: np.random.Generator, lures: Lures) -> Iterator[Bad]:
    """Two kinds of file in one."""
    mp4, mkv, gif, ts = (source(name) for name in ("h264.mp4", "h264.mkv", "gif.gif", "mpeg2.ts"))
    jpeg = videos.write([videos.picture(1)], codec="mjpeg", container="image2pipe", pix_fmt="yuvj420p")
    archive = _foreign(rng)["zip"]
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{lures.secret}\n".encode()
    free = struct.pack(">I", 8 + len(mkv)) + b"free" + mkv
    made = {
        "mp4-zip.mp4": mp4 + archive,
        "zip-mp4.mp4": archive + mp4,
        "gif-mp4.gif": gif + mp4,
        "mp4-gif.mp4": mp4 + gif,
        "mkv-in-mp4.mp4": mp4 + free,
        "mkv-first-in-mp4.mp4": free + mp4,
        "mp4-mkv.mkv": mp4 + mkv,
        "mkv-mp4.mkv": mkv + mp4,
        "mkv-mkv.webm": mkv + mkv,
        "motion-photo.mp4": jpeg + mp4,
        "html-mp4.mp4": b"<html><script>alert(1)</script>\n" + mp4,
        "script-mp4.mp4": b"#!/bin/sh\necho boo\nexit\n" + mp4,
        "id3-mp4.mp4": b"ID3\3\0\0\0\0\0\x20" + bytes(32) + mp4,
        "bom-mp4.mp4": b"\xef\xbb\xbf" + mp4,
        "newlines-mp4.mp4": b"\r\n" * 100 + mp4,
        "zeros-mp4.mp4": bytes(4096) + mp4,
        "playlist-mp4.mp4": playlist + mp4,
        "ftyp-playlist.mp4": struct.pack(">I", 20) + b"ftyp" + playlist,
        "ts-mp4.ts": ts + mp4,
        "mp4-ts.ts": mp4 + ts,
        "avi-mp4.avi": source("mpeg4.avi") + mp4,
        "flv-flv.flv": source("h263.flv") + source("h263.flv"),
        "two-sizes.ts": source("h264.ts") + videos.numbered(12, codec="libx264", container="mpegts", rate=12),
        "webm-gif.webm": source("vp9.webm") + gif,
        "ogg-ogg.ogv": source("vp8.ogv") + source("vp8.ogv"),
        "pdf-mp4.mp4": b"%PDF-1.7\n" + mp4,
        "doc-mp4.mp4": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + mp4,
        "utf7-mp4.mp4": b"+ADw-script+AD4-" + mp4,
        "mp4-text.mp4": mp4 + playlist * 50,
        "gif-header-mkv.gif": b"GIF89a" + mkv,
    }
    for number, (name, data) in enumerate(made.items()):
        yield _numbered("polyglots", name, number, data)


def playlists(lures: Lures) -> Iterator[Bad]:
    """Texts and boxes that name other files, or a place in a network; each under the name of a video."""
    number = 0
    for target in _targets(lures):
        for name, data in _leading_to(target).items():
            yield _numbered("playlists", name, number, data)
            number += 1
    port = lures.port
    sdp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    tcp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:rtsp://127.0.0.1:{port}/x\nm=video 0 RTP/AVP 32\n"
    for name, text in {"sdp": sdp, "sdp-rtsp": tcp, "rtsptext": f"rtsptext\nrtsp://127.0.0.1:{port}/\n"}.items():
        for suffix in (".mp4", ".ts"):
            yield _numbered("playlists", name + suffix, number, text.encode())
            number += 1


def _targets(lures: Lures) -> list[str]:
    secret, here = str(lures.secret), f"127.0.0.1:{lures.port}"
    near = "../../" + lures.secret.parent.name + "/" + lures.secret.name
    wrapped = [f"file:{secret}", f"concat:{secret}|{secret}", f"subfile,,start,0,end,900,,:{secret}", f"crypto+file:{secret}"]
    return [secret, near, *wrapped, f"http://{here}/x.mp4", f"tcp://{here}"]


def _leading_to(target: str) -> dict[str, bytes]:
    hls = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:9\n"
    dash = (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" '
    )
    dash += f'type="static"><Period><AdaptationSet><Representation mimeType="video/mp4"><BaseURL>{target}</BaseURL>'
    texts = {
        "ffconcat.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "ffconcat-unsafe.mkv": f"ffconcat version 1.0\noption safe 0\nfile '{target}'\nduration 2\n",
        "hls.mp4": f"{hls}#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n",
        "hls.ts": f'{hls}#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXT-X-MAP:URI="{target}"\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n',
        "hls-master.mp4": f'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="{target}"\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{target}\n',
        "dash.mp4": f"{dash}</Representation></AdaptationSet></Period></MPD>\n",
        "asx.wmv": f'<asx version="3.0"><entry><ref href="{target}"/></entry></asx>\n',
        "reference.wmv": f"[Reference]\nRef1={target}\n",
        "avisynth.avi": f'DirectShowSource("{target}")\n',
        "smil.mp4": f'<smil><body><video src="{target}"/></body></smil>\n',
        "lavfi.mp4": f"movie=filename='{target}'\n",
    }
    mov = source("h264-sound.mov")
    return {name: text.encode() for name, text in texts.items()} | {
        "alias.mov": with_reference(mov, alias(target)),
        "url.mov": with_reference(mov, struct.pack(">I4sI", 13 + len(target), b"url ", 0) + target.encode() + b"\0"),
        "moved.mov": _moved(target) + mov,
    }


def with_reference(mov: bytes, entry: bytes) -> bytes:
    """A mov (index at the end) whose pictures lie, so it says, in another file: the entry takes the place of `url ` in `dref`."""
    old = struct.pack(">I4sI", 12, b"url ", 1)
    place = mov.index(old, mov.index(b"vide"))
    made = bytearray(mov[:place] + entry + mov[place + len(old) :])
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = mov.rindex(box, 0, place) - 4
        made[at : at + 4] = struct.pack(">I", struct.unpack_from(">I", made, at)[0] + len(entry) - len(old))
    return bytes(made)


def alias(target: str) -> bytes:
    """A Macintosh alias record in a `dref`: volume, file name, and the path as Unix has it."""
    path = target.encode()
    record = (
        bytes(10) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12) + bytes([min(63, len(path))]) + path[-63:].ljust(63, b"\0")
    )
    record += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    for kind in (2, 18):
        record += struct.pack(">HH", kind, len(path)) + path + b"\0" * (len(path) % 2)
    record += struct.pack(">HH", 0xFFFF, 0)
    return struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record


def _moved(target: str) -> bytes:
    """QuickTime's reference movie: the film is elsewhere."""
    link = b"url " + struct.pack(">I", len(target) + 1) + target.encode() + b"\0"
    inner = struct.pack(">I4sI", 12 + len(link), b"rdrf", 0) + link
    for box in (b"rmda", b"rmra", b"moov"):
        inner = struct.pack(">I4s", 8 + len(inner), box) + inner
    return inner


def bombed() -> Iterator[Bad]:
    for bomb in bombs():
        yield Bad("bombs", f"bomb-{bomb.name}".encode(), bomb.data)


def named(rng: np.random.Generator) -> Iterator[Bad]:
    """Good and bad content by names that some program somewhere stumbles over."""
    mp4, short = source("h264.mp4"), source("h264.mp4")[:900]
    for number, stem in enumerate(STEMS):
        yield Bad("names", stem + b".mp4", mp4 if number % 3 else short)
    for kind in (b".MP4", b".Mp4", b".webm", b".mP4.mkv"):
        yield Bad("names", b"twin" + kind, mp4)
    for folder in (
        b"-rf",
        b"a b",
        b"caf\xc3\xa9",
        b"x.mp4",
        b"\xff\xfe",
        b"c:",
        b"http:",
        b"~",
        b"$(id)",
        b"{a,b}",
        b"n\nl",
        b"%2e%2e",
        b"s3:",
    ):
        yield Bad("names", folder + b"/inside.mp4", mp4)
    deep = b"/".join([b"d" * 200] * 15)
    yield Bad("names", deep + b"/deep.mp4", mp4)


STEMS = [
    *(
        b" ",
        b"  lead",
        b"trail  ",
        b"a b  c",
        b"\t",
        b"a\tb",
        b"n\nl",
        b"\n",
        b"\r\n",
        b"a\rb",
        b"\x0b\x0c",
        b"\x01\x02\x7f",
        b"\x1b[31mred",
    ),
    *(
        b"'",
        b'"',
        b"'; DROP TABLE clips; --",
        b'a"b',
        b"`id`",
        b"$(id)",
        b"$HOME",
        b"%HOME%",
        b"~",
        b"a;b",
        b"a|b",
        b"a&b",
        b"a>b",
        b"a<b",
    ),
    *(
        b"*",
        b"?",
        b"[a-z]",
        b"{a,b}",
        b"!",
        b"#",
        b"a#b",
        b"%",
        b"%00",
        b"%2e%2e%2f",
        b"%s%s%n",
        b"img%03d",
        b"{0.__class__}",
        b"a\\b",
        b"\\",
    ),
    *(
        b"-",
        b"--",
        b"-rf",
        b"--output",
        b"-i",
        b"@file",
        b"+",
        b"=",
        b"=1+1",
        b",",
        b"a,b",
        b":",
        b"a:b",
        b"c:\\x",
        b"::",
        b"http:x",
        b"file:x",
    ),
    *(
        b"a.b",
        b"a..b",
        b"a...",
        b"a.txt",
        b"a.mp4",
        b"a.tar.gz",
        b"a_s000",
        b"a_s001",
        b"a_duplicate3",
        b"CON",
        b"NUL",
        b"aux",
        b"con.txt",
    ),
    *(
        b"0",
        b"00000",
        b"-0",
        b"1e309",
        b"NaN",
        b"None",
        b"null",
        b"true",
        b"__proto__",
        b"key",
        b"mp4",
        b"json",
        b"concat:a|b",
        b"pipe:0",
    ),
    *(
        "\u00e9".encode(),
        "e\u0301".encode(),
        "\u00c5".encode(),
        "A\u030a".encode(),
        "\u212b".encode(),
        "\u732b".encode(),
        "\u00df".encode(),
    ),
    *("\u0130".encode(), "\U0001f408\u200d\u2b1b".encode(), "\u202egnp.exe".encode(), "\u200b".encode(), "\ufeffbom".encode()),
    *(
        "\u2028line".encode(),
        "\x85next".encode(),
        "\u05d0 \u05d1".encode(),
        "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f".encode(),
    ),
    *(
        "\U0010ffff".encode(),
        "\ufffd".encode(),
        "\uff4d\uff50\uff14".encode(),
        "\uff0e\uff0e\uff0f".encode(),
        ("a" + "\u0301" * 100).encode(),
    ),
    *(b"\xff\xfe", b"\x80", b"caf\xe9", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xae", b"a\xffb"),
    *(
        b"x" * 251,
        b"y" * 96,
        b"y" * 97,
        ("\u00fc" * 125).encode(),
        "\u732b".encode() * 83,
        b"\xff" * 251,
        b" " * 251,
        b"-" * 251,
        b"case",
        b"CASE",
    ),
]


def captioned(rng: np.random.Generator) -> Iterator[Bad]:
    """A good video each, and odd captions beside them."""
    for number, (suffix, caption) in enumerate([(".txt", text) for text in TEXTS] + [(".json", text) for text in JSONS]):
        yield Bad("captions", f"caption-{number:03d}.mp4".encode(), source("h264.mp4"), caption, suffix.encode())


TEXTS = [
    *(
        None,
        b"",
        b" \n\t\r\n ",
        b"\0",
        b"\0\0a cat\0",
        b"\xff\xfe\xfd",
        "a cat".encode("utf-16"),
        b"\xef\xbb\xbfA cat.",
        b"\xef\xbb\xbf",
    ),
    *(
        b"A cat.\r\nA dog.\rA cow.\n",
        b"A cat. " * 200_000,
        b"a" * 5000,
        b"\xed\xa0\x80",
        "\u202eA cat".encode(),
        b"<script>alert(1)</script>",
    ),
    *(
        b"${jndi:ldap://127.0.0.1/x}",
        b"{{7*7}}",
        b"%s%s%n",
        b"'; DROP TABLE clips; --",
        b"\x1b[2J",
        "\U0001f408".encode() * 2000,
        b'{"caption": 1}',
    ),
]
JSONS = [
    *(
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b'"A cat."',
        b"7",
        b'{"caption": null}',
        b'{"caption": 7}',
        b'{"caption": ["A cat."]}',
        b'{"caption": {}}',
    ),
    *(
        b'{"caption": ""}',
        b'{"caption": "\\ud83d"}',
        b'{"caption": "\\u0000"}',
        b'{"caption": "A cat.", "url": 7}',
        b'{"caption": NaN}',
    ),
    *(
        b'{"caption": "A cat.", "url": {"a": [1]}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"caption": "A", "caption": "B"}',
        b'{"caption": 1e999}',
    ),
    *(
        b'{"caption": ' + b"9" * 5000 + b"}",
        b'\xef\xbb\xbf{"caption": "A cat."}',
        '{"caption": "A cat."}'.encode("utf-16"),
        b'{"caption": "A \xff cat."}',
    ),
    *(b'{"Caption": "A cat."}', b"{'caption': 'A cat.'}", b'{"caption": "A cat."} trailing', b"\0" * 100),
]
