"""One planned clip: how readers build it, out of whatever a row holds, so that one bad row is one failed clip."""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from curation.faults import DataError, is_infrastructure, one_line
from curation.inputs import files
from curation.sample import FAILED, REJECTED, SHOT, Sample, Verdict

STAGE = "inputs"
"""Who a clip was dropped by when it never reached a stage."""
LARGEST = 1 << 63
"""Whole numbers are smaller: what reads the plan has 64 bits for them."""
SHOTS = re.compile(r"(_s\d{3,})+$")
"""How the key of a shot of shots ends."""
DEEPEST = 32
"""Lists in lists that an input's metadata may hold."""
LONGEST_DETAIL = 300
T = TypeVar("T")


def planned(
    key: str,
    caption: Any,
    *,
    path: str | None = None,
    video: Any = "",
    url: Any = "",
    start: Any = None,
    end: Any = None,
    reason: str | None = None,
    error: DataError | None = None,
    place: str = "",
    divided: bool = False,
    **extra: Any,
) -> Sample:
    """A planned clip. `start` and `end` are seconds in the file at `path`, both None for the whole file.

    `reason` rejects it at once, `error` fails it; a caption that is missing or no text does so too, and so does any value that
    JSON in UTF-8 does not hold: what is planned can always be written. `place`: where it stands in the input, for what is wrong.
    `divided`: it is a shot of an earlier run, and its key may say so. `extra` goes into the metadata (labels, Panda-70M's
    `shots`, …).
    """
    source: dict[str, Any] = {
        "clip": safe_key(key, divided),
        "path": None,
        "video": "",
        "url": "",
        "start": None,
        "end": None,
        "caption": "",
    }
    sample = Sample(source["clip"], meta={"source": source})
    try:
        source |= {"path": path and files.as_utf8(path), "video": text(video), "url": text(url or "")}
        source["caption"] = " ".join(clean(caption).split()) if isinstance(caption, str) else ""
        source |= {"start": moment("start", start), "end": moment("end", end)}
        source |= {name: _labelled(name, value) for name, value in extra.items() if value is not None}
        _check_order(source)
    except Exception as found:  # noqa: BLE001 whatever a value provokes belongs to this clip
        error = error or as_data(found)
    if error is None and source["path"] != path:
        error = DataError("name_not_utf8", f"{source['path']}: the file name is not UTF-8")
    if error is None and not reason and caption is not None and not isinstance(caption, str):
        error = DataError("bad_caption", f"caption is {type(caption).__name__}, not text")
    if error:
        detail = f"{place}: {error.detail}" if place else error.detail
        sample.verdict = Verdict(FAILED, STAGE, error.reason, " ".join(text(detail).split())[:LONGEST_DETAIL])
    elif reason or not source["caption"]:
        sample.verdict = Verdict(REJECTED, STAGE, reason or "no_caption")
    return sample


def each(
    items: Iterable[T], read: Callable[[T], Iterable[Sample]], name: Callable[[T], tuple[str, str]], **source: Any
) -> Iterator[Sample]:
    """The clips that `read` finds in each item. Whatever it raises is one failed clip: `name` gives its key, and its place in the
    file; `source`, what is known of it. Only what tells of a disk or a network is raised."""
    for item in items:
        try:
            found = list(read(item))
        except Exception as error:  # noqa: BLE001 whatever an item provokes belongs to that item
            found = [failed(*name(item), error, **source)]
        yield from found


def failed(key: str, place: str, error: Exception, **source: Any) -> Sample:
    """A clip of which nothing is known but that its row could not be read. Raises an error that tells of a disk or a network."""
    return planned(key, "", error=as_data(error), place=place, **source)


def as_data(error: Exception) -> DataError:
    """What an error says of the one row or file that brought it about. Raises it when it tells of a disk or a network."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, files.OF_ONE_FILE) or (isinstance(error, OSError) and error.errno in files.ABSENT):
        return DataError("unreadable", f"{error.strerror or one_line(error)}")
    if is_infrastructure(error):
        raise error
    return DataError("bad_row", one_line(error))


def clean(value: Any, depth: int = 0) -> Any:
    """The value as JSON in UTF-8 holds it; half a surrogate pair becomes "?". Raises `DataError`."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -LARGEST <= value < LARGEST:
            raise DataError("bad_number", "a whole number of more than 64 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError("bad_number", f"{value} is no number")
        return value
    if depth == DEEPEST:
        raise DataError("bad_row", f"lists in lists, more than {DEEPEST} deep")
    if isinstance(value, dict):
        return {text(name): clean(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner, depth + 1) for inner in value]
    raise DataError("bad_row", f"{type(value).__name__} is neither text, number, list nor object")


def text(value: Any) -> str:
    """Anything as valid text."""
    return clean(value if isinstance(value, str) else str(value))


def _labelled(name: str, value: Any) -> Any:
    try:
        return clean(value)
    except DataError as error:
        raise DataError(error.reason, f"{name}: {error.detail}") from error


def moment(name: str, value: Any) -> float | None:
    """Seconds, None where nothing stands. Raises `DataError`."""
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise DataError("bad_timestamp", f"{name} is no number: {str(value)[:40]!r}") from error
    except OverflowError as error:
        raise DataError("bad_number", f"{name} is a number of too many digits") from error
    if not math.isfinite(number):
        raise DataError("bad_number", f"{name} is {number}")
    if number < 0:
        raise DataError("bad_timestamp", f"{name} is {number:g} s, before the video begins")
    return number


def _check_order(source: dict[str, Any]) -> None:
    start, end = source["start"], source["end"]
    if end is not None and end <= (start or 0.0):
        raise DataError("bad_timestamp", f"the clip ends at {end} s, before it starts at {start or 0.0} s")


def safe_key(name: str, divided: bool = False) -> str:
    """A WebDataset key out of any name: letters, digits, `_`, `-`; a changed name gets a hash, so that keys stay unique, and so
    does one that a shot of another clip might get, unless it is a shot's."""
    text = files.as_utf8(name)
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    if safe == text and 0 < len(SHOTS.sub("", safe) if divided else safe) <= 96 and (divided or not SHOT.search(safe)):
        return safe
    return f"{safe[:80]}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def seconds(timecode: str | float) -> float:
    """`H:MM:SS.mmm` (or MM:SS, or plain seconds) → seconds, to the millisecond. Raises `DataError` with the text."""
    try:
        parts = [float(p) for p in str(timecode).split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not all(0 <= p < math.inf for p in parts):
        raise DataError("bad_timestamp", f"not a timecode: {str(timecode)[:40]!r}")
    return round(sum(p * 60**i for i, p in enumerate(reversed(parts))), 3)


def literal(text: str, what: str) -> Any:
    """A Python literal in a string, as Panda-70M writes its lists (PAPER.md §2). Raises `DataError` naming `what`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
        raise DataError("bad_list", f"{what} is not a list literal") from error
