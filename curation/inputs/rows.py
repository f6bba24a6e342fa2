"""One planned clip: how readers build it, and the table files (CSV, Parquet, JSONL) it may come from."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from curation.inputs import files
from curation.sample import FAILED, REJECTED, Sample, Verdict

STAGE = "inputs"
"""Who a clip was dropped by when it never reached a stage."""


def planned(
    key: str,
    caption: Any,
    *,
    path: str | None = None,
    video: str = "",
    url: str = "",
    start: float | None = None,
    end: float | None = None,
    reason: str | None = None,
    error: str | None = None,
    **extra: Any,
) -> Sample:
    """A planned clip. `start` and `end` are seconds in the file at `path`, both None for the whole file.

    `reason` rejects it at once, `error` fails it; a caption that is missing or no text does so too. `extra` goes into the
    metadata (labels, Panda-70M's `shots`, …).
    """
    path_ok = path is None or files.as_utf8(path) == path
    source = {
        "clip": safe_key(key),
        "path": path if path_ok else files.as_utf8(path or ""),
        "video": files.as_utf8(str(video)),
        "url": str(url or ""),
        "start": start,
        "end": end,
        "caption": " ".join(caption.split()) if isinstance(caption, str) else "",
        **{k: v for k, v in extra.items() if v is not None},
    }
    sample = Sample(source["clip"], meta={"source": source})
    if error:
        sample.verdict = Verdict(FAILED, STAGE, error)
    elif not path_ok:
        sample.verdict = Verdict(FAILED, STAGE, "file name is not UTF-8")
    elif reason:
        sample.verdict = Verdict(REJECTED, STAGE, reason)
    elif caption is not None and not isinstance(caption, str):
        sample.verdict = Verdict(FAILED, STAGE, f"caption is {type(caption).__name__}, not text")
    elif not source["caption"]:
        sample.verdict = Verdict(REJECTED, STAGE, "no_caption")
    return sample


def safe_key(name: str) -> str:
    """A WebDataset key out of any name: letters, digits, `_`, `-`; a changed name gets a hash, so that keys stay unique."""
    text = files.as_utf8(name)
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    if safe == text and 0 < len(safe) <= 96:
        return safe
    return f"{safe[:80]}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def seconds(timecode: str | float) -> float:
    """`H:MM:SS.mmm` (or MM:SS, or plain seconds) → seconds, to the millisecond. Raises ValueError with the text."""
    try:
        parts = [float(p) for p in str(timecode).split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or any(p < 0 for p in parts) or parts != parts:
        raise ValueError(f"not a timecode: {timecode!r}")
    return round(sum(p * 60**i for i, p in enumerate(reversed(parts))), 3)


def literal(text: str, what: str) -> Any:
    """A Python literal in a string, as Panda-70M writes its lists (PAPER.md §2). Raises ValueError naming `what`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise ValueError(f"{what} is not a list literal") from error


def table(path: str) -> Iterator[dict[str, Any]]:
    """Rows of a CSV, Parquet, JSON or JSONL file, streamed. A row that cannot be read is `{"_error": why}`."""
    kind = files.suffix(path)
    if kind == ".parquet":
        with files.open_bytes(path) as file:
            for batch in pq.ParquetFile(file).iter_batches(1024):
                yield from batch.to_pylist()
    elif kind in (".jsonl", ".ndjson"):
        with files.open_text(path) as file:
            for line in file:
                if line.strip():
                    yield _json_row(line)
    else:
        csv.field_size_limit(1 << 30)
        with files.open_text(path) as file:
            reader = csv.DictReader(line.replace("\0", "") for line in file)
            for row in reader:
                short = None in row or None in row.values()
                yield {**row, "_error": "the row has another number of columns than the header"} if short else row


def columns(path: str) -> list[str]:
    """Column names of a table file, from its header or first row; empty when it has none."""
    if files.suffix(path) == ".parquet":
        with files.open_bytes(path) as file:
            return list(pq.ParquetFile(file).schema_arrow.names)
    if files.suffix(path) in (".jsonl", ".ndjson"):
        return list(next(table(path), {}))
    with files.open_text(path) as file:
        return next(csv.reader(file), [])


def _json_row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        return {"_error": f"the line is not JSON: {error}"}
    return row if isinstance(row, dict) else {"_error": "the line is no JSON object"}
