"""One's own finished shards as input: every kept clip again, read by offset out of its tar."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import Any

from curation.inputs import files
from curation.inputs.rows import planned
from curation.sample import Sample


def read_shards(tars: list[str]) -> Iterator[Sample]:
    """Clips of WebDataset tars that hold `KEY.mp4` and a caption in `KEY.json` (ours) or `KEY.txt`."""
    for tar in tars:
        yield from _read(tar)


def _read(path: str) -> Iterator[Sample]:
    mp4: dict[str, tuple[int, int]] = {}
    texts: dict[str, dict] = {}
    try:
        with files.open_bytes(path) as file, tarfile.open(fileobj=file) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                if ending == "mp4":
                    mp4[key] = (member.offset_data, member.size)
                elif ending == "txt":
                    texts.setdefault(key, {"caption": _bytes(tar, member).decode("utf-8", "replace")})
                elif ending == "json":
                    texts[key] = json.loads(_bytes(tar, member))
    except (tarfile.TarError, ValueError, OSError) as error:
        raise files.InputError(f"{path}: not a readable shard: {error}") from error
    for key, (offset, size) in mp4.items():
        info = texts.get(key, {})
        source = info.get("source") or {}
        extra: dict[str, Any] = {"member": f"{key}.mp4", "offset": offset, "size": size, "origin": _span(source)}
        yield planned(key, info.get("caption"), path=path, video=source.get("video", ""), url=source.get("url", ""), **extra)


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read() if file else b""


def _span(source: dict) -> list[float] | None:
    return [source["start"], source["end"]] if source.get("end") is not None else None
