"""Planning: every clip there is, its entity words or why it was dropped, cut into units. No video is opened.

`OUT/plan/part-00000.parquet` … hold one row per clip (`shards.planned`). Parts are finished one by one: planning that was killed
goes on behind the last one. `OUT/plan/plan.json` says what the plan is made from, and when it is complete what it holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, groupby, islice
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.faults import Infrastructure, is_infrastructure, one_line
from curation.fingerprint import changes
from curation.inputs import files
from curation.inputs.finished import SHARD
from curation.inputs.rows import STAGE as INPUTS
from curation.recipe import Recipe, Units
from curation.run.captions import named
from curation.run.keys import Keys
from curation.sample import KEPT, Sample, Verdict
from curation.shards.forget import buried, tombstones
from curation.shards.planned import FACTS, INFO, SCHEMA, Plan, facts, group_of, info_of, part, row_of, sample_of
from curation.storage import Storage

PART = 65_536
"""Clips of a part, but for the rest of its last unit; fewer when the input is shards: each of them is a part of its own. Of
sidecars a part is a group of the input's, whole."""
ROWS = 4096
"""Rows of a part that are written together."""
UNKNOWN_SECONDS = 30.0
AT_ONCE = 16
"""Parts whose metadata are asked for together in an object store."""


class PlanError(Exception):
    """One line: why this run directory's plan cannot be used."""


def identity(recipe: Recipe, input_name: str, limit: int | None) -> dict[str, Any]:
    """What a plan is made from; a plan made from anything else is not reused."""
    return {"input": input_name, "limit": limit, **recipe.plan_fingerprint()}


def check(storage: Storage, info: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise `PlanError` naming what changed since the plan was begun."""
    if changed := changes(info["made_from"], json.loads(json.dumps(wanted))):
        where = storage.path("plan")
        raise PlanError(f"{where} was made from something else ({'; '.join(changed)}): take another --output, or delete it")


def make_plan(
    recipe: Recipe,
    clips: Iterable[Sample],
    storage: Storage,
    made_from: dict[str, Any],
    *,
    videos: str | None = None,
    limit: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """Stream the clips through the caption stages into units, part after part; memory does not grow with the clips but for 64
    bits each, which find doubled keys. Parts that an earlier planning from the same has finished are kept: the input is listed
    again, and what they hold is passed over.

    The caption stages run on `workers` processes of this machine, or on the Ray cluster at `address`. `videos` is noted, for who
    looks for sources later. Raises `PlanError` when what they need is away, or when the input has changed under an unfinished
    plan.
    """
    done = _begin(storage, made_from)
    keys = Keys()
    is_beside = bool(recipe.shards.sidecar)
    fresh = islice(_of_shards(clips) if is_beside else clips, limit)
    with _stopping():
        for found in done:
            _pass_over(storage, fresh, found)
            if found["clips"]:
                keys.know(_keys_of(storage, found["group"]))
            progress(found["clips"])
    gone = tombstones(storage)
    listed = keys.unique(fresh, sum(found["clips"] for found in done))
    rows = named((buried(s) if s.key in gone else s for s in listed), recipe.plan, workers, address)
    with _stopping():
        for group, some in groupby(rows, key=_group if is_beside else _Borders(len(done))):
            done += [write_part(storage, empty, 0, (), recipe.units, progress) for empty in range(len(done), group)]
            done.append(write_part(storage, group, 0, some, recipe.units, progress, is_beside))
    verdicts: Counter[str] = Counter()
    for found in done:
        verdicts.update(found["verdicts"])
    info = {
        "made_from": made_from,
        **({"videos": videos} if videos else {}),
        "complete": True,
        "clips": sum(found["clips"] for found in done),
        "verdicts": dict(sorted(verdicts.items())),
        "hash": hashlib.sha256("".join(found["hash"] for found in done).encode()).hexdigest()[:16],
        "groups": [group_of(found) for found in done],
    }
    storage.write(INFO, json.dumps(info, indent=1))
    return Plan(storage, info)


def append_retry(
    recipe: Recipe,
    plan: Plan,
    failed: pa.Array,
    *,
    workers: int | None = None,
    address: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Plan:
    """The plan with more parts: the clips of these keys again, but for those that are no clips (they failed at `inputs`). What
    failed in a caption stage goes through those again; what they found of the others stands. No clip is listed anew.

    A part that an append was killed behind stands in no plan.json and is overwritten.
    """
    storage, groups = plan.storage, plan.groups
    attempt = max((g.attempt for g in groups), default=0) + 1
    again = chain.from_iterable(_again(storage, g.group, failed) for g in groups if not g.attempt)
    borders = _Borders(len(groups), by_shard=False)
    added = []
    with _stopping():
        for group, some in groupby(named(again, recipe.plan, workers, address), key=borders):
            added.append(group_of(write_part(storage, group, attempt, some, recipe.units, progress)))
    if not added:
        return plan
    info = {**plan.info, "groups": [*plan.info["groups"], *added]}
    storage.write(INFO, json.dumps(info, indent=1))
    return Plan(storage, info)


def _again(storage: Storage, group: int, keys: pa.Array) -> Iterator[Sample]:
    """A part's clips of these keys, alive. Arrow picks them: the others never become Python's own rows."""
    with storage.open(part(group)) as file:
        if not pc.any(pc.is_in(pq.read_table(file, columns=["key"])["key"], value_set=keys)).as_py():
            return
        file.seek(0)
        is_clip = (pc.field("verdict") == KEPT) | (pc.field("stage") != INPUTS)
        table = pq.read_table(file, filters=pc.field("key").isin(keys) & is_clip)
    for row in table.to_pylist():
        sample = sample_of(row)
        if not sample.alive:
            sample.verdict, sample.meta = Verdict(), {"source": sample.meta["source"]}
        yield sample


@contextmanager
def _stopping() -> Iterator[None]:
    """What a stage or an input needs is away: one line, and the same command goes on. A disk's own errors are one already."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or not is_infrastructure(error):
            raise
        why = str(error) if isinstance(error, Infrastructure) else one_line(error)
        raise PlanError(f"planning stopped: {why}; the same command goes on behind the parts that are finished") from error


def _begin(storage: Storage, made_from: dict[str, Any]) -> list[dict[str, Any]]:
    """What the finished parts of an earlier planning say of themselves, in order. Raises `PlanError`."""
    if info := info_of(storage):
        check(storage, info, made_from)
    else:
        storage.write(INFO, json.dumps({"made_from": made_from, "complete": False}, indent=1))
    storage.sweep("plan")
    there = storage.names("plan")
    count = next(number for number in range(len(there) + 1) if part(number).partition("/")[2] not in there)
    with ThreadPoolExecutor(1 if storage.is_local else AT_ONCE) as pool:
        return list(pool.map(partial(facts, storage), range(count)))


def _pass_over(storage: Storage, clips: Iterator[Sample], found: dict[str, Any]) -> None:
    """Skip what a finished part holds. Raises `PlanError` when it is another clip that it would end with now."""
    if not found["clips"]:
        return
    last = deque(islice(clips, found["clips"]), maxlen=1)
    if not last or not re.fullmatch(re.escape(last[0].key) + r"(_duplicate\d+)*", found["last"]):
        now = f"now with {last[0].key}" if last else "now there are fewer clips"
        raise PlanError(
            f"the input has changed since this plan was begun: {storage.path(part(found['group']))} ends with {found['last']}, "
            f"{now}: take another --output, or delete {storage.path('plan')}"
        )


def _keys_of(storage: Storage, group: int) -> list[str]:
    with storage.open(part(group)) as file:
        return pq.read_table(file, columns=["key"])["key"].to_pylist()


class _Borders:
    """Sample → the number of its part: a new one when the last is full, and with each shard that is read."""

    def __init__(self, first: int, by_shard: bool = True):
        self.number, self.count, self.by_shard = first, 0, by_shard
        self.shard: str | None = None

    def __call__(self, sample: Sample) -> int:
        source = sample.meta["source"]
        shard = source["path"] if self.by_shard and source.get("member") is not None else None
        if self.count and (shard != self.shard or self.count >= PART):
            self.number, self.count = self.number + 1, 0
        self.shard = shard
        self.count += 1
        return self.number


def _of_shards(clips: Iterable[Sample]) -> Iterator[Sample]:
    """Clips of the input's shards, of each no more than its key and what its video is: the shard says the rest. Raises
    `PlanError` when they are not of our shards, or not in their order."""
    last = (-1, -1)
    for sample in clips:
        source = sample.meta["source"]
        if source.get("member") is None or not SHARD.fullmatch(_stem(sample)):
            raise PlanError(
                f"sidecars are written beside finished shards, shard-00000-0000.tar …; {source['path']} is none of them"
            )
        here = (_group(sample), _number(sample))
        if here < last:
            raise PlanError(f"{source['path']}: a shard after those that follow it; name the run or its shards/ as the input")
        last = here
        facts = (source.pop("scores", None) or {}).get("split_shots", {})
        source["scores"] = {"split_shots": {name: facts.get(name) for name in ("width", "height", "fps", "frames")}}
        yield sample


def _stem(sample: Sample) -> str:
    return files.stem(str(sample.meta["source"]["path"]).rsplit("/", 1)[-1])


def _group(sample: Sample) -> int:
    """Of the shard that holds it."""
    return int(_stem(sample).split("-")[1])


def _number(sample: Sample) -> int:
    """Of the shard that holds it, in its group."""
    return int(_stem(sample).split("-")[2])


def write_part(
    storage: Storage,
    group: int,
    attempt: int,
    samples: Iterable[Sample],
    units: Units,
    progress: Callable[[int], None],
    by_shard: bool = False,
) -> dict[str, Any]:
    """Write one part, whole or not at all, and say what it holds: the fields of its `Group`, verdicts, the hash of its rows.
    `by_shard`: no unit has clips of two of the input's shards."""
    with storage.writing(part(group)) as file:
        return _write_rows(file, group, attempt, cut_units(samples, units, by_shard), progress, by_shard)


def _write_rows(
    file: IO[bytes], group: int, attempt: int, units: Iterable[list[Sample]], progress: Callable[[int], None], by_shard: bool
) -> dict[str, Any]:
    verdicts: Counter[str] = Counter()
    ends: dict[int, int] = {}
    content, count, waiting = hashlib.sha256(), 0, []
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for count, samples in enumerate(units, start=1):
            rows = [row_of(count - 1, sample) for sample in samples]
            content.update(json.dumps(rows).encode())
            verdicts.update(row["verdict"] for row in rows)
            progress(len(rows))
            if by_shard:
                ends[_number(samples[0])] = count - 1
            waiting += rows
            if len(waiting) >= ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema=SCHEMA))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, schema=SCHEMA))
        said: dict[str, Any] = {"group": group, "units": count, "clips": verdicts.total(), "attempt": attempt}
        said |= {
            "verdicts": dict(sorted(verdicts.items())),
            "hash": content.hexdigest(),
            "last": rows[-1]["key"] if count else "",
        }
        said |= {"ends": list(ends.items())} if ends else {}
        writer.add_key_value_metadata({FACTS: json.dumps(said).encode()})
    return said


def cut_units(samples: Iterable[Sample], units: Units, by_source: bool = False) -> Iterator[list[Sample]]:
    """Consecutive units, bounded by clips and by seconds of video. A source's clips stay together (one decode) unless that
    would double the bound; clips already dropped ride along, up to sixteen times the bound. `by_source`: those of another are in
    another unit.
    """
    unit: list[Sample] = []
    alive, seconds, last = 0, 0.0, None
    for sample in samples:
        path = sample.meta["source"]["path"]
        full = alive >= units.clips or seconds >= units.seconds
        burst = alive >= 2 * units.clips or len(unit) >= 16 * units.clips
        if burst or (full and (path is None or path != last)) or (by_source and unit and path != last):
            yield unit
            unit, alive, seconds = [], 0, 0.0
        unit.append(sample)
        last = path
        if sample.alive:
            alive += 1
            seconds += _seconds(sample)
    if unit:
        yield unit


def _seconds(sample: Sample) -> float:
    start, end = sample.meta["source"]["start"], sample.meta["source"]["end"]
    return UNKNOWN_SECONDS if end is None else end - (start or 0.0)
