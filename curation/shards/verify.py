"""`curation verify`: decode and cross-check what a run has published, on all cores or on a cluster."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from multiprocessing import get_context
from typing import IO, Any

import numpy as np

from curation import columns, ledger
from curation.fingerprint import digest
from curation.ledger import Unit
from curation.machine import cpus
from curation.sample import KEPT, STATUSES
from curation.shards import beside
from curation.shards.check import check_sample
from curation.shards.forget import REASON as FORGOTTEN
from curation.shards.planned import Plan, open_plan
from curation.shards.unit import blocks, checksum
from curation.storage import Storage

Row = dict[str, Any]
DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, tarfile.TarError)
"""What libraries raise on damaged files."""


@dataclass
class Checked:
    """What was found in one ledger and its tar. `digests`: of its keys, 8 bytes each, so that a whole run's fit in memory."""

    name: str
    problems: list[str] = field(default_factory=list)
    rows: int = 0
    units: range = range(0)
    digests: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))


def verify(
    storage: Storage,
    progress: Callable[[int], None] = lambda _: None,
    sample: int | None = None,
    workers: int | None = None,
    check: Checks | None = None,
    damage: Damage | None = None,
) -> Iterator[str]:
    """Every problem found in a run, one line each; nothing when it is sound. `sample`: of so many shards only, always the same.
    `check`: what looks at the ledgers; without it `workers` processes, as many as this one may use cores. `damage` is told of
    what a run can make anew.

    Checks: each planned clip is in one ledger, once per shot; keys are unique; ledger and tar agree; members and metadata agree;
    every member decodes; frame counts match; masks have the frame's size and lie in their boxes. Of sidecars: they have the
    clips of their shard, if that is at hand; tensors are finite and of the shape that is said.
    """
    plan = open_plan(storage)
    if plan is None:
        yield f"{storage.path()}: no finished plan"
        return
    recipe = json.loads(storage.read("run.json"))["recipe"] if storage.exists("run.json") else None
    if recipe is None:
        yield f"{storage.path()}: no run.json, nothing has been run here"
    names = list(ledger.files(storage))
    if sample is not None and sample < len(names):
        chosen = set(random.Random(0).sample(names, sample))
        names = [name for name in names if name in chosen]
    damage = damage or Damage()
    checker = Checker(storage, digest(recipe) if recipe else "", [*recipe["plan"], *recipe["clips"]] if recipe else [])
    done: dict[int, list[Checked]] = {}
    for found in check(checker, names) if check else _checked(checker, names, workers or cpus()):
        yield from found.problems
        if found.problems:
            damage.files.add(found.name)
        progress(found.rows)
        done.setdefault(ledger.group_of(found.name), []).append(found)
    yield from _twice(storage, [found for some in done.values() for found in some])
    if sample is None:
        for group in plan.groups:
            for problem in _holes(group.group, group.units, done.get(group.group, [])):
                damage.groups.add(group.group)
                yield problem
        yield from _strays(storage)


@dataclass
class Damage:
    """Ledgers that are damaged, or whose tars are; groups of which units are missing."""

    files: set[str] = field(default_factory=set)
    groups: set[int] = field(default_factory=set)


@dataclass
class Checker:
    """Checks ledgers, each with its tar, one at a time. It travels to a process once."""

    storage: Storage
    recipe: str
    stages: Sequence[str]
    held: tuple[int, dict[int, list[str]]] = field(default=(-1, {}))
    """Planned keys by unit, of the group that was looked at last."""
    shards: dict[int, str] = field(default_factory=dict)
    """Of the same, where a unit's clips lie, as far as that is a shard."""

    @cached_property
    def plan(self) -> Plan:
        plan = open_plan(self.storage)
        assert plan is not None, "it was there when the work began"
        return plan

    def check(self, name: str) -> Checked:
        found = Checked(name)
        try:
            for problem in self._problems(name, found):
                found.problems.append(f"{label(name)}: {problem}")
        except DAMAGE as error:
            found.problems.append(f"{label(name)}: cannot be read: {type(error).__name__}: {error}")
        return found

    def _problems(self, name: str, found: Checked) -> Iterator[str]:
        table, facts = ledger.read(self.storage, name)
        rows = table.to_pylist()
        found.units, found.rows, found.digests = range(facts["first"], facts["last"] + 1), len(rows), np.unique(_digests(rows))
        planned = self._planned(facts["group"])
        if strange := [unit for unit in found.units if unit not in planned]:
            yield f"the plan has no unit {Unit(facts['group'], strange[0]).name}"
        keys = {key for unit in found.units for key in planned.get(unit, ())}
        for key in sorted(keys ^ {r["clip"] for r in rows}):
            yield f"clip {key} is " + ("planned but in no ledger row" if key in keys else "in the ledger but not planned")
        for key, count in Counter(r["key"] for r in rows).items():
            if count > 1:
                yield f"key {key} stands twice"
        for r in rows:
            if r["verdict"] not in STATUSES or (r["verdict"] != KEPT) != bool(r["stage"] and r["reason"]):
                yield f"{r['key']}: verdict {r['verdict']!r} with stage {r['stage']!r} and reason {r['reason']!r}"
        for r in rows:
            if said := [name for name, value in columns.of(json.loads(r["scores"])).items() if r[name] != value]:
                yield f"{r['key']}: {said[0]} is not what its scores say"
        if found.units[0] in self.shards:
            stem = name.rpartition("/")[2].removesuffix(".parquet")
            clips = list(dict.fromkeys(r["clip"] for r in rows))
            forgotten = {r["clip"] for r in rows if r["reason"] == FORGOTTEN}
            is_part = self.plan.info.get("made_from", {}).get("limit") is not None
            yield from beside.against(stem, clips, forgotten, self.shards[found.units[0]], is_part)
        yield from self._tar(name.removesuffix(".parquet") + ".tar", rows, facts["bytes"])

    def _planned(self, group: int) -> dict[int, list[str]]:
        if self.held[0] != group:
            there = group in {g.group for g in self.plan.groups}
            units = [(unit.number, samples) for unit, samples in (self.plan.units(group) if there else ())]
            self.held = group, {number: [s.key for s in samples] for number, samples in units}
            sources = {number: samples[0].meta["source"] for number, samples in units}
            self.shards = {number: source["path"] for number, source in sources.items() if source.get("member") is not None}
        return self.held[1]

    def _tar(self, name: str, rows: list[Row], size: int) -> Iterator[str]:
        kept = {r["key"]: r for r in rows if r["verdict"] == KEPT and r["offset"] is not None}
        if not size and not self.storage.exists(name):
            yield from (f"{key} is kept, but not in the tar" for key in kept)
            return
        seen: set[str] = set()
        with self.storage.open(name) as file:
            for key, place, members in _samples(file):
                files = dict(members)
                if key in seen or len(files) < len(members):
                    yield f"{key} stands twice in the tar"
                seen.add(key)
                if key not in kept:
                    yield f"{key} is in the tar, not kept in the ledger"
                    continue
                if place != (kept[key]["offset"], kept[key]["size"]):
                    yield f"{key}: offset and size in the ledger do not cover the sample"
                if checksum(blocks([(f"{key}.{suffix}", data) for suffix, data in members])) != kept[key]["crc32"]:
                    yield f"{key}: its bytes are not those that were written (CRC-32)"
                yield from self._sample(key, files)
        yield from (f"{key} is kept, but not in the tar" for key in sorted(kept.keys() - seen))
        if (there := self.storage.size(name)) != size:
            yield f"the tar has {there} bytes, {size} were written"

    def _sample(self, key: str, files: dict[str, bytes]) -> Iterator[str]:
        try:
            for problem in check_sample(key, files, self.recipe, self.stages):
                yield f"{key}: {problem}"
        except DAMAGE as error:
            yield f"{key}: cannot be checked: {type(error).__name__}: {error}"


Checks = Callable[[Checker, list[str]], Iterator[Checked]]
"""What is found in each ledger, in order."""


def ends_its_reader(name: str) -> Checked:
    """A ledger of which nothing else can be told."""
    return Checked(name, [f"{label(name)}: cannot be read: it ends the process that reads it"])


def label(name: str) -> str:
    """A ledger as people call it: `shard-00003-0002`, `unit 00003-000017`."""
    place, file = name.removesuffix(".parquet").rsplit("/", 1)
    return file if place == "shards" else f"unit {place.removeprefix('units/')}-{file}"


def _samples(file: IO[bytes]) -> Iterator[tuple[str, tuple[int, int], list[tuple[str, bytes]]]]:
    """Key, place (offset, size) and members (suffix, bytes) of each sample of a tar, one after the other."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for key, group in groupby(tar, key=lambda member: member.name.partition(".")[0]):
            members, start, end = [], None, 0
            for member in group:
                data = tar.extractfile(member)
                members.append((member.name.partition(".")[2], data.read() if data else b""))
                start = member.offset if start is None else start
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            yield key, (start or 0, end - (start or 0)), members


def _digests(rows: list[Row]) -> np.ndarray:
    """8 bytes for each row's key; of what is not kept, which a retry may have again, for attempt and key."""
    names = [r["key"] if r["verdict"] == KEPT else f"{r['attempt']}/{r['key']}" for r in rows]
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, np.uint64)


_checker: Checker
"""Of a process that does nothing but check."""


def _begin(checker: Checker) -> None:
    global _checker
    _checker = checker


def _check(name: str) -> Checked:
    return _checker.check(name)


def _checked(checker: Checker, names: list[str], workers: int) -> Iterator[Checked]:
    """What is found in each ledger, in order. A file that ends the process that reads it is found, too: by going on alone."""
    if workers == 1 or len(names) < 2:
        yield from map(checker.check, names)
        return
    alone = False
    while names:
        done = 0
        with ProcessPoolExecutor(1 if alone else min(workers, len(names)), get_context("spawn"), _begin, (checker,)) as pool:
            try:
                for future in [pool.submit(_check, name) for name in names]:
                    yield future.result()
                    done += 1
            except BrokenProcessPool:
                if alone:
                    yield ends_its_reader(names[done])
                    done += 1
                alone = not alone
        names = names[done:]


def _twice(storage: Storage, done: list[Checked]) -> Iterator[str]:
    """Keys that stand in more than one ledger."""
    digests = np.sort(np.concatenate([found.digests for found in done])) if done else np.empty(0, np.uint64)
    doubled = np.unique(digests[1:][digests[1:] == digests[:-1]])
    where: dict[str, list[str]] = {}
    for found in done if len(doubled) else ():
        if np.isin(found.digests, doubled).any():
            rows = list(ledger.rows(storage, ["key", "verdict", "attempt"], names=[found.name]))
            for i in np.flatnonzero(np.isin(_digests(rows), doubled)):
                where.setdefault(rows[i]["key"], []).append(label(found.name))
    for key, places in sorted(where.items()):
        if len(set(places)) > 1:
            yield f"key {key} stands twice: in {' and in '.join(dict.fromkeys(places))}"


def _holes(group: int, units: int, done: list[Checked]) -> Iterator[str]:
    """Units of a group that are in no ledger, or in two."""
    if any(not found.rows for found in done):
        return  # one could not be read, and that has been said
    following = 0
    for found in [*sorted(done, key=lambda found: found.units.start), Checked("", units=range(units, units))]:
        if found.units.start > following:
            last = found.units.start - 1
            to = f" to {Unit(group, last).name}" if last > following else ""
            yield f"unit {Unit(group, following).name}{to}: not run yet"
        elif found.units.start < following and found.name:
            yield f"{label(found.name)}: unit {Unit(group, found.units.start).name} stands in another ledger, too"
        following = max(following, found.units.stop)


def _strays(storage: Storage) -> Iterator[str]:
    names = storage.names("shards")
    for name in names:
        if name.endswith(".tar") and name.replace(".tar", ".parquet") not in names:
            yield f"shards/{name} has no ledger"
