"""What tests of readers share: that whatever was planned can be written, and inputs of every form, made of given captions."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fsspec

from curation.sample import Sample


def checked(samples: Iterable[Sample]) -> list[Sample]:
    """The clips of a reader, each proved to be JSON in UTF-8, with a reason that can be counted."""
    found = list(samples)
    for sample in found:
        json.dumps(sample.meta, ensure_ascii=False, allow_nan=False).encode()
        sample.verdict.detail.encode()
        sample.key.encode("ascii")
        assert "." not in sample.key and "\n" not in sample.verdict.detail
        assert sample.alive or sample.verdict.reason.replace("_", "a").isalnum(), sample.verdict
    return found


def tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, caption: str = "A cat.", **info: Any) -> list[tuple[str, bytes]]:
    """Members of one sample, as tars of other people have them."""
    return [(f"{key}.mp4", key.encode() * 10), (f"{key}.json", json.dumps({"caption": caption, **info}).encode())]


def stored(clip: Sample) -> bytes:
    """The bytes that a clip in a tar says are its own."""
    source = clip.meta["source"]
    with fsspec.open(source["path"], "rb") as file:
        file.seek(source["offset"])
        return file.read(source["size"])


def verdicts(samples: Iterable[Sample]) -> Mapping[str, str]:
    return {s.key: s.verdict.reason for s in checked(samples)}
