"""Answers of language models on disk: a question that was asked before is not asked again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from filelock import FileLock


class Answers:
    """Append-only JSON lines under `folder`/ab/cd.jsonl by the key's first digits; one line is {"key", "answer"}.

    Keys are hexadecimal digests of all that decides an answer. The first answer written is the answer: what two processes found
    at once reads the same for both. A line that a dying process left unfinished is passed over. Files are read when asked for
    and not kept: 70 million answers make about a thousand lines a file.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, keys: Iterable[str]) -> dict[str, str]:
        """The answers that are there."""
        wanted = defaultdict(set)
        for key in keys:
            wanted[self._file(key)].add(key)
        found: dict[str, str] = {}
        for file, some in wanted.items():
            for key, answer in _lines(file):
                if key in some:
                    found.setdefault(key, answer)
        return found

    def add(self, answers: Mapping[str, str]) -> dict[str, str]:
        """Keep these answers, and give those that count: another process may have been first."""
        if not answers:
            return {}
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            there = self.find(answers)
            for key in answers.keys() - there.keys():
                self._append(key, answers[key])
        return {**answers, **there}

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:4]}.jsonl"

    def _append(self, key: str, answer: str) -> None:
        file = self._file(key)
        file.parent.mkdir(exist_ok=True)
        with file.open("a+b") as stream:
            torn = stream.tell() > 0 and _last(file) != b"\n"
            stream.write(b"\n" * torn + json.dumps({"key": key, "answer": answer}).encode() + b"\n")


def _last(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1)


def _lines(file: Path) -> Iterable[tuple[str, str]]:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return
    for line in content.splitlines():
        try:
            entry = json.loads(line)
            yield entry["key"], entry["answer"]
        except (ValueError, TypeError, KeyError):
            continue
