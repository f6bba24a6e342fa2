"""The source of a clip that was dropped: what of it is played, and what is not, whatever a plan says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.look import source
from curation.look.source import Lost, source_of
from curation.sample import Sample
from curation.shards import planned
from curation.storage import Storage
from tests.look.serving import serving
from tests.shards import made
from tests.shards.made import rejected

MP4 = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 8
WEBM = b"\x1a\x45\xdf\xa3" + bytes(100)


def planned_run(folder: Path | str, path: Path | str, input: Path | str, videos: str | None = None, **more: Any) -> Storage:
    """A run with one dropped clip, "a", whose plan and input are as given."""
    storage = made.run(folder, [[rejected("a")]])
    facts = {"clip": "a", "video": "v", "start": 1.0, "end": 3.0, "caption": "", "path": str(path), **more}
    with storage.writing(planned.part(0)) as file:
        pq.write_table(pa.Table.from_pylist([planned.row_of(0, Sample("a", meta={"source": facts}))], planned.SCHEMA), file)
    storage.write(planned.INFO, json.dumps({"made_from": {"input": str(input)}, "videos": videos}))
    return storage


@pytest.fixture
def videos(tmp_path) -> Path:
    """A folder of videos, and beside it another that is nobody's business."""
    for folder in ("videos", "private"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "v.mp4").write_bytes(MP4)
    found = tmp_path / "videos"
    (found / "v.webm").write_bytes(WEBM)
    (found / "v.mkv").write_bytes(WEBM)
    (found / "text.mp4").write_text("root:x:0:0")
    (found / "empty.mp4").touch()
    (found / "folder.mp4").mkdir()
    os.mkfifo(found / "pipe.mp4")
    (found / "inside.mp4").symlink_to("v.mp4")
    (found / "out.mp4").symlink_to("../private/v.mp4")
    (found / "passwd.mp4").symlink_to("/etc/passwd")
    (found / "shard.tar").write_bytes(bytes(512) + MP4 + bytes(512))
    return found


@pytest.mark.parametrize(
    "name, kind, data", [("v.mp4", "video/mp4", MP4), ("inside.mp4", "video/mp4", MP4), ("v.webm", "video/webm", WEBM)]
)
def test_a_source_is_played_by_range(videos, tmp_path, name, kind, data):
    with serving(planned_run(tmp_path / "run", videos / name, videos)) as site:
        assert site.get("clip", key="a").told["plays"] is True
        whole = site.get("source", key="a")
        assert (whole.status, whole.headers["Content-Type"], whole.body) == (200, kind, data)
        assert whole.headers["X-Content-Type-Options"] == "nosniff"
        part = site.get("source", {"Range": "bytes=4-7"}, key="a")
        assert (part.status, part.body, part.headers["Content-Range"]) == (206, data[4:8], f"bytes 4-7/{len(data)}")


OUTSIDE: dict[str, Callable[[Path], Any]] = {
    "elsewhere": lambda videos: videos.parent / "private/v.mp4",
    "up and away": lambda videos: videos / "../private/v.mp4",
    "a name that begins alike": lambda videos: f"{videos}2/v.mp4",
    "a link that leads out": lambda videos: videos / "out.mp4",
    "a link to another file": lambda videos: videos / "passwd.mp4",
    "passwd": lambda videos: "/etc/passwd",
    "no container": lambda videos: videos / "text.mp4",
    "empty": lambda videos: videos / "empty.mp4",
    "a folder": lambda videos: videos / "folder.mp4",
    "a pipe": lambda videos: videos / "pipe.mp4",
    "not for browsers": lambda videos: videos / "v.mkv",
    "gone": lambda videos: videos / "gone.mp4",
    "a NUL": lambda videos: f"{videos}/v\0.mp4",
    "a chain": lambda videos: f"filecache::file://{videos}/v.mp4",
    "a URL of a disk": lambda videos: f"file://{videos}/v.mp4",
}


@pytest.mark.parametrize("path", OUTSIDE.values(), ids=OUTSIDE)
def test_nothing_else_is_played(videos, tmp_path, path):
    (tmp_path / "videos2").mkdir()
    (tmp_path / "videos2/v.mp4").write_bytes(MP4)
    with serving(planned_run(tmp_path / "run", path(videos), videos)) as site:
        answer = site.get("source", key="a")
        assert answer.status == 410 and b"root:" not in answer.body and "error" in answer.told
        assert site.get("source", key="b").status == 404


@pytest.mark.parametrize("input", ["http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_no_stranger_is_asked_for_anything(tmp_path, input):
    row = {"group": 0, "clip": "a"}
    found = source_of(planned_run(tmp_path / "run", f"{input}/v.mp4", input), row)
    assert found and found.type is None and not found.is_here
    with pytest.raises(Lost, match="not to be played"):
        found.video()


def test_where_videos_lay_by_the_users_word(videos, tmp_path):
    storage = planned_run(tmp_path / "run", videos / "v.mp4", tmp_path / "private/table.csv")
    with serving(storage) as site:
        assert site.get("source", key="a").status == 410 and site.get("clip", key="a").told["stills"] == 0
    with serving(planned_run(tmp_path / "run2", videos / "v.mp4", tmp_path / "private/table.csv", str(videos))) as site:
        assert site.get("source", key="a").body == MP4 and site.get("clip", key="a").told["stills"] == source.STILLS


@pytest.mark.parametrize(
    "offset, size, name, is_played",
    [
        (512, len(MP4), "a.mp4", True),
        (512, len(MP4), "a.mkv", False),
        (0, len(MP4), "a.mp4", False),
        (512, 1 << 30, "a.mp4", False),
        (-512, len(MP4), "a.mp4", False),
        (512, -1, "a.mp4", False),
        ("512", len(MP4), "a.mp4", False),
    ],
)
def test_a_member_of_a_shard(videos, tmp_path, offset, size, name, is_played):
    storage = planned_run(tmp_path / "run", videos / "shard.tar", videos, member=name, offset=offset, size=size)
    with serving(storage) as site:
        answer = site.get("source", key="a")
        assert (answer.status, answer.body == MP4) == ((200, True) if is_played else (410, False))


def test_a_member_of_what_is_no_shard(videos, tmp_path):
    storage = planned_run(tmp_path / "run", "/etc/passwd", "/etc", member="a.mp4", offset=0, size=30)
    with serving(storage) as site:
        assert site.get("clip", key="a").told["plays"] is False and site.get("source", key="a").status == 410


def test_a_source_in_a_bucket(s3):
    Storage.at(f"{s3}/in").write("v.mp4", MP4)
    with serving(planned_run(f"{s3}/run", f"{s3}/in/v.mp4", f"{s3}/in")) as site:
        assert site.get("clip", key="a").told["plays"] is True and site.get("clip", key="a").told["stills"] == 0
        assert site.get("source", {"Range": "bytes=4-7"}, key="a").body == b"ftyp"
    with serving(planned_run(f"{s3}/run2", f"{s3}/in/v.mp4", f"{s3}/other")) as site:
        assert site.get("source", key="a").status == 410
