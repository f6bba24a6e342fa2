"""Rows of table files: CSV, Parquet, JSONL. A row that cannot be read is one with an error, and the next one follows."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.faults import DataError, one_line
from curation.inputs import files

LINES, CHARACTERS = 64, 1 << 20
"""What a quoted field of a CSV may span; one that is longer has lost its end."""
AT_ONCE = 1024
"""Rows of a Parquet file that are turned into Python's own values together."""
LOOKED_AT = 1000
"""Lines of a JSONL file among which one must be readable."""


@dataclass(frozen=True)
class Row:
    """`number`: from 1, the header of a CSV not counted; `line`: where it begins in the file, 0 in one without lines."""

    number: int
    line: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    error: DataError | None = None

    def place(self, header: int = 0) -> str:
        """For errors; `header`: how many rows to count for it."""
        return f"row {self.number + header}" + (f" (line {self.line})" if self.line else "")

    def checked(self) -> dict[str, Any]:
        """Its values. Raises its error."""
        if self.error:
            raise self.error
        return self.values


def table(path: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows of a CSV, Parquet or JSONL file, streamed. `columns`: those that are read, where the file allows to read some."""
    kind = files.suffix(path)
    if kind == ".parquet":
        yield from _parquet(path, columns)
    elif kind in (".jsonl", ".ndjson"):
        yield from _jsonl(path)
    else:
        yield from _csv(path)


def columns(path: str) -> list[str]:
    """Column names of a table file, from its header or first readable row; empty when it has none. Raises `InputError`."""
    if files.suffix(path) == ".parquet":
        try:
            with files.open_bytes(path) as file:
                return list(pq.ParquetFile(file).schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise files.InputError(f"--input {path}: not a readable Parquet file: {_damage(error)}") from error
    if files.suffix(path) in (".jsonl", ".ndjson"):
        return list(next((row.values for row in islice(table(path), LOOKED_AT) if not row.error), {}))
    with files.open_text(path) as file:
        return next((record for _, record in _records(file) if record and isinstance(record, list)), [])


def _damage(error: Exception) -> str:
    """What Arrow says of a file's content. Raises an error of the disk: Arrow's own have no number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    return one_line(error)


def _jsonl(path: str) -> Iterator[Row]:
    number = 0
    with files.open_text(path) as file:
        for line, content in enumerate(file, start=1):
            if content.strip():
                number += 1
                yield _json_row(number, line, content)


def _json_row(number: int, line: int, content: str) -> Row:
    try:
        return Row(number, line, files.json_object(content))
    except DataError as error:
        return Row(number, line, error=error)


def _parquet(path: str, columns: Sequence[str] | None) -> Iterator[Row]:
    """A damaged row group ends in one row with the error; what stands before the damage is read, and the other groups are."""
    number = 0
    with files.open_bytes(path) as file:
        parquet = pq.ParquetFile(file)
        for group in range(parquet.num_row_groups):
            end = number + parquet.metadata.row_group(group).num_rows
            try:
                for batch in parquet.iter_batches(AT_ONCE, row_groups=[group], columns=columns):
                    for found in _values(batch):
                        number += 1
                        yield Row(number, error=found) if isinstance(found, DataError) else Row(number, values=found)
            except (pa.ArrowException, OSError) as error:
                why = f"rows {number + 1} to {end} cannot be read: {_damage(error)}"
                yield Row(number + 1, error=DataError("bad_parquet", why))
            number = end


def _values(batch: pa.RecordBatch) -> list[dict[str, Any] | DataError]:
    try:
        return batch.to_pylist()
    except Exception:  # noqa: BLE001 one value that Python does not hold must not take the others along
        return [_value(batch.slice(i, 1)) for i in range(len(batch))]


def _value(row: pa.RecordBatch) -> dict[str, Any] | DataError:
    try:
        return row.to_pylist()[0]
    except Exception as error:  # noqa: BLE001 the same
        return DataError("bad_row", one_line(error))


def _csv(path: str) -> Iterator[Row]:
    with files.open_text(path) as file:
        header: list[str] = []
        number = 0
        for line, record in _records(file):
            if isinstance(record, DataError):
                number += 1
                yield Row(number, line, error=record)
            elif not header:
                header = record
            elif record:
                number += 1
                short = DataError("bad_csv", "the row has another number of columns than the header")
                values = dict(zip(header, record, strict=False))
                yield Row(number, line, values, None if len(record) == len(header) else short)


def _records(file: Iterable[str]) -> Iterator[tuple[int, list[str] | DataError]]:
    """Each record of a CSV with the number of its first line. One whose quotes do not end is an error, and reading goes on with
    the line after: the reader of the standard library would take all rows that follow for one field."""
    csv.field_size_limit(1 << 30)
    lines = _Lines(file)
    while True:
        lines.record, first = [], lines.number + 1
        try:
            record = next(csv.reader(lines), None)
            if record is None:
                return
            if len(lines.record) > 1:
                _check_one_row(record, lines.record)
        except (_Unclosed, csv.Error) as error:
            lines.go_back()
            yield first, DataError("bad_csv", f"a quote is not closed: {error}")
        else:
            yield first, record


def _check_one_row(record: list[str], lines: list[str]) -> None:
    """Raise `_Unclosed` or `csv.Error` when a record over several lines has swallowed the rows after it: a quote ends within a
    field, or one of the lines has a video or a URL where the record has one."""
    list(csv.reader(lines, strict=True))
    places = [i for i, cell in enumerate(record) if _names_video(cell)]
    for number, line in enumerate(lines[1:], start=1):
        cells = next(csv.reader([line]), [])
        if places and len(cells) == len(record) and all(_names_video(cells[i]) for i in places):
            raise _Unclosed(f"it would swallow a row, {number} lines on")


def _names_video(cell: str) -> bool:
    return "\n" not in cell and (files.is_url(cell) or files.is_video(cell))


class _Unclosed(Exception):
    """A quoted field that does not end."""


class _Lines:
    """The lines of a file for `csv.reader`; those of the record at hand can be given back."""

    def __init__(self, lines: Iterable[str]):
        self.lines, self.back, self.record, self.number = iter(lines), deque[str](), list[str](), 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.record) >= LINES or sum(map(len, self.record)) > CHARACTERS:
            raise _Unclosed(f"not within {len(self.record)} lines")
        line = self.back.popleft() if self.back else next(self.lines, None)
        if line is None:
            if self.record:
                raise _Unclosed("not before the end of the file")
            raise StopIteration
        self.record.append(line.replace("\0", ""))
        self.number += 1
        return self.record[-1]

    def go_back(self) -> None:
        """All but the record's first line come again."""
        rest = self.record[1:]
        self.back.extendleft(reversed(rest))
        self.number -= len(rest)
