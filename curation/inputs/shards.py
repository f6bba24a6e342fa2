"""Shards as input: one's own by their ledgers, other WebDataset tars by walking through them. Clips are read by offset later."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from curation.faults import DataError
from curation.inputs import files, finished
from curation.inputs.rows import each, failed, planned
from curation.sample import Sample
from curation.storage import Storage

LARGEST_TEXT = 1 << 26
"""Bytes of a caption or of metadata that are read."""


def read_shards(folder: str, names: list[str]) -> Iterator[Sample]:
    """Clips of the tars among the files of a folder: `KEY.mp4`, and a caption in `KEY.json` (ours) or `KEY.txt`.

    A tar with a ledger of ours beside it is read by that. One that cannot be read is one failed clip, and the next one follows.
    """
    tars = {files.stem(name) for name in names if files.suffix(name) == ".tar"}
    tables = {files.stem(name) for name in names if files.suffix(name) == ".parquet"}
    storage = Storage.at(folder)
    for stem in sorted(tars | {name for name in tables if finished.SHARD.fullmatch(name)}):
        path = files.join(folder, f"{stem}.tar")
        try:
            rows = finished.kept_rows(storage, stem) if stem in tables else None
            clips = _Tar(path).clips() if rows is None else finished.read_rows(storage, path, stem, rows)
            yield from clips
        except Exception as error:  # noqa: BLE001 whatever a tar provokes belongs to it
            yield failed(f"{stem}.tar", path, error, path=path, member=finished.IN_A_TAR)


@dataclass
class _Tar:
    """Somebody's shard: what was found in it, by key."""

    path: str
    videos: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Offset and size of each `KEY.mp4`."""
    texts: dict[str, dict[str, Any] | DataError] = field(default_factory=dict)
    strange: dict[str, str] = field(default_factory=dict)
    """Key → a video that is not named as a sample's."""

    def clips(self) -> Iterator[Sample]:
        """Of one that is damaged what stands before the damage; then it raises `DataError`."""
        damage = self._walk()
        found = [(key, *place) for key, places in self.videos.items() for place in places]
        lone: dict[str, Any] = {"path": self.path, "member": finished.IN_A_TAR}
        yield from each(found, lambda clip: [self._clip(*clip)], lambda clip: (clip[0], f"{self.path}: {clip[0]}"), **lone)
        if damage:
            raise DataError("bad_tar", damage)
        for key in self.texts:
            if key not in self.videos:
                yield planned(key, "", reason="no_video", **lone)
        odd = [name for key, name in self.strange.items() if key not in self.videos]
        if odd:
            raise DataError("bad_member_name", f"{len(odd)} videos are not named KEY.mp4; the first is {odd[0]}")
        if not self.videos and not self.texts:
            raise DataError("no_clips", "holds no KEY.mp4")

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
        key, _, ending = member.name.partition(".")
        if key and ending == "mp4":
            self.videos.setdefault(key, []).append((member.offset_data, member.size))
        elif key and (ending == "json" or (ending == "txt" and key not in self.texts)):
            self.texts[key] = _text(tar, member)
        elif files.is_video(member.name):
            self.strange[key] = member.name

    def _clip(self, key: str, offset: int, size: int) -> Sample:
        place: dict[str, Any] = {
            "path": self.path,
            "member": f"{key}.mp4",
            "offset": offset,
            "size": size,
            "place": f"{self.path}: {key}",
        }
        info = self.texts.get(key, {})
        if isinstance(info, DataError):
            return planned(key, "", error=info, **place)
        known: dict[str, Any] = {}
        source = info.get("source")
        if isinstance(source, dict):
            scores = {name: values for name, values in info.items() if name not in finished.JOINED and isinstance(values, dict)}
            known = finished.known_of(source, source.get("start"), source.get("end"), scores, bool(source.get("shot")))
        return planned(key, info.get("caption"), **place, **known)


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
