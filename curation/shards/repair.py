"""What `curation verify` found damaged, for the next run to make anew: whole shards, from their clips, to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from curation import ledger
from curation.storage import Storage

NOTE = "damaged.json"
"""{files: ledgers that are damaged, or whose tars are; groups: those of which shards are missing}."""


@dataclass(frozen=True)
class Hole:
    """Units of a group, both included, that are in no sound shard, and the number of the first shard that they made."""

    first: int
    last: int
    number: int


def note(storage: Storage, files: Collection[str], groups: Collection[int]) -> None:
    """Ask the next run to rebuild. `files`: ledgers, by name; `groups`: those with a hole. Only under the claim."""
    before = _noted(storage)
    found = {"files": sorted({*before["files"], *files}), "groups": sorted({*before["groups"], *groups})}
    storage.write(NOTE, json.dumps(found, indent=1))


def clear(storage: Storage, sizes: Iterable[tuple[int, int]]) -> dict[int, list[Hole]]:
    """Take away what was noted as damaged; the holes that are before the newest shard of a group (what follows it is not done
    yet, as in any run). `sizes`: number and units of each group. Only under the claim."""
    noted = _noted(storage)
    groups = {*noted["groups"], *map(ledger.group_of, noted["files"])}
    if not groups:
        return {}
    storage.write(NOTE, json.dumps({"files": noted["files"], "groups": sorted(groups)}))
    storage.remove(*noted["files"], *(f"{name.removesuffix('.parquet')}.tar" for name in noted["files"]))
    storage.write(NOTE, json.dumps({"files": [], "groups": sorted(groups)}))  # a second start takes nothing that is new
    names = [f"shards/{name}" for name in storage.names("shards") if name.endswith(".parquet")]
    holes: dict[int, list[Hole]] = {}
    for group, _ in sizes:
        if group in groups and (found := _holes(storage, [name for name in names if ledger.group_of(name) == group])):
            holes[group] = found
    return holes


def done(storage: Storage) -> None:
    """All is whole again."""
    storage.remove(NOTE)


def _holes(storage: Storage, names: list[str]) -> list[Hole]:
    following = number = 0
    holes = []
    for facts in sorted((ledger.facts(storage, name) for name in names), key=lambda facts: facts["first"]):
        if facts["first"] > following:
            holes.append(Hole(following, facts["first"] - 1, number))
        following, number = facts["last"] + 1, facts["number"] + 1
    return holes


def _noted(storage: Storage) -> dict[str, list]:
    return json.loads(storage.read(NOTE)) if storage.exists(NOTE) else {"files": [], "groups": []}
