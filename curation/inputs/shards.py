"""Shards as input: one's own by their ledgers, other WebDataset tars by walking through them. Clips are read by offset later."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from curation.faults import DataError
from curation.inputs import files, finished
from curation.inputs.rows import each, failed, planned
from curation.ledger import SIDECAR
from curation.sample import SHOT, Sample
from curation.storage import Storage

LARGEST_TEXT = 1 << 26
"""Bytes of a caption or of metadata that are read."""


def read_shards(folder: str, names: list[str]) -> Iterator[Sample]:
    """Clips of the tars among the files of a folder: `KEY.mp4` or another video, a caption in `KEY.json` (ours) or `KEY.txt`.

    A tar with a ledger of ours beside it is read by that. Keys of somebody else's are named after their tar, for they may begin
    anew in each. A tar that cannot be read is one failed clip, and the next one follows. Sidecars have no clips of their own.
    """
    tars = {files.stem(name) for name in names if files.suffix(name) == ".tar"}
    tars = {stem for stem in tars if not SIDECAR.fullmatch(stem)}
    tables = {files.stem(name) for name in names if files.suffix(name) == ".parquet"}
    storage = Storage.at(folder)
    for stem in sorted(tars | {name for name in tables if finished.SHARD.fullmatch(name)}):
        path = files.join(folder, f"{stem}.tar")
        try:
            rows = finished.kept_rows(storage, stem) if stem in tables else None
            clips = _Tar(path, stem).clips() if rows is None else finished.read_rows(storage, path, stem, rows)
            yield from clips
        except Exception as error:  # noqa: BLE001 whatever a tar provokes belongs to it
            yield failed(f"{stem}.tar", path, error, path=path, member=finished.IN_A_TAR)


class _Video(NamedTuple):
    """A member of a tar."""

    name: str
    offset: int
    size: int


@dataclass
class _Tar:
    """Somebody's shard: what was found in it, by key (WebDataset's: a member's path up to the first dot of its name)."""

    path: str
    stem: str
    videos: dict[str, list[_Video]] = field(default_factory=dict)
    """Of each key those called KEY.mp4 or with another suffix of a video."""
    texts: dict[str, dict[str, Any] | DataError] = field(default_factory=dict)
    further: dict[str, list[_Video]] = field(default_factory=dict)
    """Of each key those called KEY.something.mp4: other views of it, unless there is none called KEY.mp4."""
    nameless: list[str] = field(default_factory=list)
    """Videos without a key."""

    def clips(self) -> Iterator[Sample]:
        """Of one that is damaged what stands before the damage; then it raises `DataError`."""
        damage = self._walk()
        videos = self.further | self.videos
        found = [(key, video) for key, own in videos.items() for video in own]
        lone: dict[str, Any] = {"path": self.path, "member": finished.IN_A_TAR}
        yield from each(
            found, lambda clip: [self._clip(*clip)], lambda clip: (self._key(clip[0]), f"{self.path}: {clip[1].name}"), **lone
        )
        if damage:
            raise DataError("bad_tar", damage)
        for key in self.texts:
            if key not in videos:
                yield planned(self._key(key), "", reason="no_video", **lone)
        if self.nameless:
            raise DataError("bad_member_name", f"{len(self.nameless)} videos have no key; the first is {self.nameless[0]}")
        if not videos and not self.texts:
            raise DataError("no_clips", "holds no video")

    def _walk(self) -> str:
        """Take down what the tar holds, and say what is wrong with it."""
        with files.open_bytes(self.path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    for member in tar:
                        if member.isfile() and member.offset_data + member.size <= size:
                            self._take(tar, member)
                    return _damage(file, tar.offset)
            except tarfile.TarError as error:
                return f"not a readable tar: {error}"

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        stem, _, ending = name.partition(".")
        key, ending = f"{folder}/{stem}".lstrip("/"), ending.lower()
        video = _Video(member.name, member.offset_data, member.size)
        if files.is_video(member.name):
            if not stem:
                self.nameless.append(member.name)
            else:
                (self.further if "." in ending else self.videos).setdefault(key, []).append(video)
        elif stem and (ending == "json" or (ending == "txt" and key not in self.texts)):
            self.texts[key] = _text(tar, member)

    def _key(self, key: str) -> str:
        """Ours are told apart already."""
        return key if finished.SHARD.fullmatch(self.stem) else f"{self.stem}_{key}"

    def _clip(self, key: str, video: _Video) -> Sample:
        place: dict[str, Any] = {"path": self.path, "member": video.name, "offset": video.offset, "size": video.size}
        place["place"] = f"{self.path}: {video.name}"
        info = self.texts.get(key, {})
        if isinstance(info, DataError):
            return planned(self._key(key), "", error=info, **place)
        known: dict[str, Any] = {}
        source = info.get("source")
        if isinstance(source, dict):
            scores = {name: values for name, values in info.items() if name not in finished.JOINED and isinstance(values, dict)}
            known = finished.known_of(source, source.get("start"), source.get("end"), scores, SHOT.search(key) is not None)
        return planned(self._key(key), info.get("caption"), **place, **known)


def _damage(file: IO[bytes], offset: int) -> str:
    """What is wrong where tarfile stopped to read, which takes any garbage for the end."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if not block.strip(b"\0"):
        return ""
    return f"it ends within a header, at byte {offset}" if len(block) < tarfile.BLOCKSIZE else f"garbage at byte {offset}"


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any] | DataError:
    if member.size > LARGEST_TEXT:
        return DataError("bad_json", f"{member.name} is larger than {LARGEST_TEXT} bytes")
    file = tar.extractfile(member)
    content = file.read() if file else b""
    if member.name.endswith(".txt"):
        return {"caption": content.decode("utf-8", "replace")}
    try:
        return files.json_object(content)
    except DataError as error:
        return DataError(error.reason, f"{member.name}: {error.detail}")
