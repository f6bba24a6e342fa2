"""Where videos lie: what is the clip's fault, what is ours, and what is fetched how often."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from curation.faults import Infrastructure, is_infrastructure
from curation.media import source, video
from curation.media.source import open_source
from curation.media.video import VideoError
from tests import videos


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(source, "_at_hand", type(source._at_hand)())
    yield f"memory://bucket{uuid.uuid4().hex}"


def put(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)


def reason(of: dict[str, object], file: dict[str, object] | None = None) -> str:
    with pytest.raises(VideoError) as caught:
        open_source(of, file)
    return caught.value.reason


def test_a_member_of_a_shard_is_read_by_its_offset(tmp_path: Path, bucket: str) -> None:
    data = videos.numbered(4)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for name, content in {"a.txt": b"x", "b.mp4": data}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with tarfile.open(tmp_path / "shard.tar") as tar:
        offset = tar.getmember("b.mp4").offset_data
    put(f"{bucket}/shard.tar", (tmp_path / "shard.tar").read_bytes())
    for path in (str(tmp_path / "shard.tar"), f"{bucket}/shard.tar"):
        member = {"path": path, "member": "b.mp4", "offset": offset, "size": len(data)}
        assert open_source(member).read() == data
        assert reason(member | {"size": 10**6}) == "truncated" and reason(member | {"size": 0}) == "empty_file"


def test_a_remote_file_is_fetched_once_and_leaves_nothing_behind(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, fetched = videos.numbered(4), []
    init = source.Download.__init__
    monkeypatch.setattr(source.Download, "__init__", lambda self, *args: (fetched.append(args[1]), init(self, *args))[1])
    for name in "ab":
        put(f"{bucket}/{name}.mp4", data)
    for name in "aab":
        opened = open_source({"path": f"{bucket}/{name}.mp4"})
        assert isinstance(opened.input, str) and opened.read() == data and videos.numbers(data) == [0, 1, 2, 3]
        assert video.count_frames(opened.input) == 4
    assert len(fetched) == 2
    monkeypatch.setattr(source, "AT_HAND", len(data))
    open_source({"path": f"{bucket}/a.mp4"})
    assert len(source._at_hand) == 1 and len(fetched) == 2, "the one used last stays, however large"
    again = open_source({"path": f"{bucket}/b.mp4"})
    assert len(fetched) == 3
    path = again.input
    del again, opened
    source._at_hand.clear()
    assert isinstance(path, str) and not Path(path).exists()


def test_what_changed_meanwhile_is_another_source(tmp_path: Path, bucket: str) -> None:
    path = tmp_path / "a.mp4"
    videos.numbered(4, path=path)
    was = open_source({"path": str(path)}).file
    assert open_source({"path": str(path)}, was).file == was
    os.utime(path, ns=(1, 1))
    assert reason({"path": str(path)}, was) == "source_changed"
    put(f"{bucket}/a.mp4", b"12345")
    was = open_source({"path": f"{bucket}/a.mp4"}).file
    put(f"{bucket}/a.mp4", b"123456")
    assert open_source({"path": f"{bucket}/a.mp4"}, was).read() == b"12345", "the right one is still at hand"
    source._at_hand.clear()
    assert reason({"path": f"{bucket}/a.mp4"}, was) == "source_changed"


def test_a_missing_file_is_the_clips_fault_only_while_its_folder_is_there(tmp_path: Path, bucket: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "mount").mkdir()
    assert reason({"path": str(tmp_path / "empty.mp4")}) == "empty_file"
    for name in ("none.mp4", "mount"):
        assert reason({"path": str(tmp_path / name)}) == "no_such_file"
    for gone in (tmp_path / "mount" / "a.mp4", tmp_path / "unmounted" / "a.mp4"):
        with pytest.raises(Infrastructure):
            open_source({"path": str(gone)})
    with pytest.raises(Infrastructure):
        open_source({"path": f"{bucket}/a.mp4"})
    put(f"{bucket}/b.mp4", b"x")
    assert reason({"path": f"{bucket}/a.mp4"}) == "no_such_file"


@pytest.mark.parametrize("sector", [0, 50_000])
@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_an_error_of_the_disk_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sector: int, container: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (112, 208, 3)).astype(np.uint8)
    codec = "mpeg4" if container == "avi" else "libx264"
    videos.write([np.roll(noise, i, axis=0) for i in range(120)], path=tmp_path / "a", container=container, codec=codec)
    assert (tmp_path / "a").stat().st_size > 80_000

    class Failing(io.FileIO):
        def read(self, size: int = -1, /) -> bytes:
            if self.tell() <= sector < self.tell() + size:
                raise OSError(errno.EIO, "the disk")
            return super().read(size) or b""

    monkeypatch.setattr(video, "_bytes_of", Failing)
    with pytest.raises(OSError, match="the disk") as caught:
        for _ in video.frames(str(tmp_path / "a")):
            pass
    assert is_infrastructure(caught.value)
