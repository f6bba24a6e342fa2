"""What a page of `curation view` asks for, as SQL: names come from lists here, values are bound."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curation.columns import COLUMNS

NUMBERS = tuple(name for name, column in COLUMNS.items() if column.type in (pa.int32(), pa.float64()))
"""Scores that rows are filtered and sorted by."""
SORTED = ("key", "caption", "video", "start", "verdict", "reason", *NUMBERS)
EXACT = ("verdict", "stage", "reason", "quality", "background_method", "background_reason")
"""Columns of which one value is asked for."""
KINDS = {
    "subject": "subjects_found > 0",
    "object": "objects_found > 0",
    "person": "persons > 0",
    "face": "faces > 0",
    "background": "background_method <> 'none' AND background_reason IS NULL",
}
"""What is to be seen in a sample."""
DECIDED = {
    "keep": "said.decision = 'keep'",
    "drop": "said.decision = 'drop'",
    "open": "coalesce(said.decision, '') = ''",
    "note": "said.note <> ''",
}
TERMS = 20
"""Words of a search that are heeded."""


class Wrong(ValueError):
    """What cannot be asked for: one line."""


def condition(query: Mapping[str, str]) -> tuple[str, list[Any]]:
    """What a query string asks for, and the values to bind. `q`: words that all stand in caption, key or video; `word`: an
    entity's word; a column of `EXACT`; `kind`, `decision`; `min.SCORE` and `max.SCORE`. What is empty asks for nothing.

    Raises `Wrong` for a name or a value that there is not.
    """
    parts: list[str] = ["true"]
    values: list[Any] = []
    for name, value in query.items():
        if not value or name in ("page", "sort"):
            continue
        if name == "q":
            for term in value.lower().split()[:TERMS]:
                parts.append("(contains(lower(caption), ?) OR contains(lower(key), ?) OR contains(lower(video), ?))")
                values += [term] * 3
        elif name == "word":
            parts.append("(list_contains(subject_words, ?) OR list_contains(object_words, ?))")
            values += [value] * 2
        elif name in EXACT:
            parts.append(f'"{name}" = ?')
            values.append(value)
        elif name in ("kind", "decision"):
            known = KINDS if name == "kind" else DECIDED
            parts.append(f"({_of(known, name, value)})")
        elif (bound := name.partition("."))[0] in ("min", "max") and bound[2] in NUMBERS:
            parts.append(f'"{bound[2]}" {">=" if bound[0] == "min" else "<="} ?')
            values.append(_float(name, value))
        else:
            raise Wrong(f"{name!r} is nothing to ask for")
    return " AND ".join(parts), values


def order(query: Mapping[str, str]) -> str:
    """`sort`: a column, with a minus the greatest first; what has no value comes last. Without it rows stand as planned."""
    asked = query.get("sort", "")
    if not asked:
        return "id"
    name = asked.removeprefix("-")
    if name not in SORTED:
        raise Wrong(f"rows are not sorted by {name!r}")
    return f'"{name}" {"DESC" if asked.startswith("-") else "ASC"} NULLS LAST, id'


def number(query: Mapping[str, str]) -> int:
    """`page`, from 0 on."""
    value = query.get("page", "0")
    if not re.fullmatch(r"[0-9]{1,7}", value):
        raise Wrong("page is a number from 0 on")
    return int(value)


def _of(known: Mapping[str, str], name: str, value: str) -> str:
    if value not in known:
        raise Wrong(f"{name} is one of {', '.join(known)}")
    return known[value]


def _float(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Wrong(f"{name} is a number")
    return number
