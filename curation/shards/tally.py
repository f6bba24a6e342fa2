"""What the ledgers of a run add up to, by Arrow, some files at a time: time grows with the rows, memory does not."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import ledger
from curation.inputs.rows import STAGE as INPUTS
from curation.sample import FAILED, KEPT, REJECTED
from curation.storage import Storage

RANKS = pa.array([REJECTED, FAILED, KEPT])
"""A clip of several shots is what the last of these among them says."""
PAIRS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.float32())]))
NOTE = "summary.json"
"""What the shards of a run add up to, and which they are: a reader counts what has come since alone. It may be thrown away."""
KINDS = ("subjects", "objects", "backgrounds", "refs", "persons", "faces")
"""Columns that are summed up over the kept samples."""
CHUNK = 1 << 26
"""Bytes of ledgers, as they lie on the disk, that are read together."""


@dataclass
class Tally:
    """What became of the planned clips: counts by verdict, and the reasons."""

    planned: int = 0
    kept: int = 0
    rejected: int = 0
    failed: int = 0
    samples: int = 0
    video_seconds: float = 0.0
    reasons: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(verdict, stage, reason) → clips and shots that were dropped so."""
    stage_seconds: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    """Of the kept samples in their tars."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Words by kind, references, persons and faces of the kept samples (`KINDS`)."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "reasons": [[*why, count] for why, count in self.reasons.items()]}

    @staticmethod
    def of(values: Mapping[str, Any]) -> Tally:
        reasons = Counter({(verdict, stage, reason): count for verdict, stage, reason, count in values["reasons"]})
        counted = {name: Counter(values[name]) for name in ("stage_seconds", "kinds")}
        return Tally(**{**values, "reasons": reasons, **counted})

    def __add__(self, other: Tally) -> Tally:
        """Of two lots of clips together."""
        return Tally(**{name: mine + getattr(other, name) for name, mine in vars(self).items()})

    @property
    def accounted(self) -> bool:
        return self.planned == self.kept + self.rejected + self.failed

    def add(self, table: pa.Table) -> None:
        """Count the rows of whole clips. A clip with several shots is kept if one of them is, else failed if one failed."""
        ranks = pc.index_in(table["verdict"], value_set=RANKS)
        clips = table.select(["clip"]).append_column("rank", ranks).group_by("clip").aggregate([("rank", "max")])
        verdicts = {RANKS[n["values"]].as_py(): n["counts"] for n in pc.value_counts(clips["rank_max"]).to_pylist()}
        self.planned += len(clips)
        self.kept += verdicts.get(KEPT, 0)
        self.rejected += verdicts.get(REJECTED, 0)
        self.failed += verdicts.get(FAILED, 0)
        why = table.group_by(["verdict", "stage", "reason"]).aggregate([([], "count_all")])
        for verdict, stage, reason, count in zip(*(column.to_pylist() for column in why.columns), strict=True):
            if verdict == KEPT:
                self.samples += count
            else:
                self.reasons[verdict, stage, reason] += count
        kept = table.filter(pc.equal(table["verdict"], KEPT))
        self.bytes += pc.sum(kept["size"]).as_py() or 0
        self.kinds.update({name: pc.sum(kept[name]).as_py() or 0 for name in KINDS})
        self.video_seconds += pc.sum(pc.subtract(table["end"], table["start"])).as_py() or 0.0
        spent = pc.list_flatten(table["seconds"].cast(PAIRS))
        pairs = pa.table({"stage": pc.struct_field(spent, "key"), "seconds": pc.struct_field(spent, "value")})
        for found in pairs.group_by("stage").aggregate([("seconds", "sum")]).to_pylist():
            self.stage_seconds[found["stage"]] += found["seconds_sum"]


COLUMNS = ["clip", "attempt", "verdict", "stage", "reason", "start", "end", "seconds", "size", *KINDS]


def tally(storage: Storage, keep: bool = False) -> Tally:
    """Count a run. `keep`: and note what its shards add up to, see `note`."""
    names = ledger.files(storage)
    shards = _shards(names)
    waiting = {name: size for name, size in names.items() if name not in shards}
    total = _of_shards(storage, shards, keep)
    if not waiting:
        return total
    return count(storage, names) if attempts(storage, names)[1] else total + count(storage, waiting)


def note(storage: Storage) -> None:
    """Note what a run's shards add up to in `summary.json`, so that nobody counts those again; for who holds the claim."""
    _of_shards(storage, _shards(ledger.files(storage)), keep=True)


def _shards(names: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in names.items() if name.startswith("shards/")}


def _of_shards(storage: Storage, shards: Mapping[str, int], keep: bool) -> Tally:
    known, more = _noted(storage, shards)
    total = known + count(storage, more) if more else known
    if keep and more:
        storage.write(NOTE, json.dumps({"shards": _identities(shards), "tally": total.as_dict()}, indent=1))
    return total


def _noted(storage: Storage, shards: Mapping[str, int]) -> tuple[Tally, Mapping[str, int]]:
    """What is noted, and the shards that have come since; nothing and all of them when those noted are no longer the same, or
    when a retry may have changed what they say."""
    noted = json.loads(storage.read(NOTE)) if storage.exists(NOTE) else {"shards": {}}
    counts = {int(group): count for group, (count, _) in noted["shards"].items()}
    seen: Counter[int] = Counter()
    before: dict[str, int] = {}
    for name, size in shards.items():
        group = ledger.group_of(name)
        if seen[group] < counts.get(group, 0):
            before[name] = size
        seen[group] += 1
    if not before or _identities(before) != noted["shards"]:
        return Tally(), shards
    more = {name: size for name, size in shards.items() if name not in before}
    if more and attempts(storage, shards)[1]:
        return Tally(), shards
    return Tally.of(noted["tally"]), more


def _identities(shards: Mapping[str, int]) -> dict[str, list[Any]]:
    """Group → how many shards of it these are, and a hash of their ledgers' names and sizes."""
    groups: dict[int, list[tuple[str, int]]] = {}
    for name, size in shards.items():
        groups.setdefault(ledger.group_of(name), []).append((name, size))
    return {str(g): [len(found), hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]] for g, found in groups.items()}


def count(storage: Storage, names: Mapping[str, int]) -> Tally:
    """Count some ledgers (name → size); all of a clip's must be among them."""
    first, again = attempts(storage, names)
    retried = ledger.dataset(storage, again).to_table(columns=COLUMNS)
    clips = pc.unique(retried["clip"])
    total, held = Tally(), [retried]
    for some in chunks(first):
        table = ledger.dataset(storage, some).to_table(columns=COLUMNS)
        if len(clips):
            is_retried = pc.is_in(table["clip"], value_set=clips)
            held.append(table.filter(is_retried))
            table = table.filter(pc.invert(is_retried))
        total.add(table)
    total.add(counted(pa.concat_tables(held)))
    return total


def failed_clips(storage: Storage) -> pa.Array:
    """Keys of the planned clips that have failed at a stage, or a shot of theirs, as far as no later attempt changed it."""
    first, again = attempts(storage, ledger.files(storage))
    retried = ledger.dataset(storage, again).to_table(columns=COLUMNS[:5])
    failed = (pc.field("verdict") == FAILED) & (pc.field("stage") != INPUTS)
    superseded = pc.field("clip").isin(pc.unique(retried["clip"]))
    old = ledger.dataset(storage, first).to_table(columns=["clip"], filter=failed & ~superseded)
    new = counted(retried).filter(failed).select(["clip"])
    return pc.unique(pa.concat_tables([old, new])["clip"])


def kept_keys(storage: Storage, clips: Iterable[str]) -> frozenset[str]:
    """Keys of the samples that are kept of these planned clips: what a retry must not write again."""
    wanted = (pc.field("verdict") == KEPT) & pc.field("clip").isin(pa.array(clips, pa.string()))
    return frozenset(ledger.dataset(storage).to_table(columns=["key"], filter=wanted)["key"].to_pylist())


def counted(table: pa.Table) -> pa.Table:
    """Of clips that were tried again, the rows that count: all that is kept, and what the newest attempt says beside that."""
    last = table.group_by("clip").aggregate([("attempt", "max")])
    newest = last["attempt_max"].take(pc.index_in(table["clip"], value_set=last["clip"].combine_chunks()))
    says = pc.and_(pc.equal(table["attempt"], newest), pc.not_equal(table["reason"], ledger.TAKEN))
    return table.filter(pc.or_(pc.equal(table["verdict"], KEPT), says))


def attempts(storage: Storage, names: Mapping[str, int]) -> tuple[dict[str, int], list[str]]:
    """Ledgers of first attempts, and those of retries: their groups are the last ones."""
    groups: dict[int, dict[str, int]] = {}
    for name, size in names.items():
        groups.setdefault(ledger.group_of(name), {})[name] = size
    again: list[str] = []
    for group in sorted(groups, reverse=True):
        if ledger.facts(storage, next(iter(groups[group])))["attempt"] == 0:
            break
        again += groups.pop(group)
    return {name: size for found in groups.values() for name, size in found.items()}, again


def chunks(names: Mapping[str, int]) -> Iterator[list[str]]:
    """Names of files of about `CHUNK` bytes together."""
    some: list[str] = []
    room = CHUNK
    for name, size in names.items():
        if some and size > room:
            yield some
            some, room = [], CHUNK
        some.append(name)
        room -= size
    if some:
        yield some
