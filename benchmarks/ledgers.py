"""Accounting at size: what planning, tally, `inspect` and the plan of a retry cost, and how they grow. One JSON line per figure.

    python benchmarks/ledgers.py --rows 100000 1000000

Each figure is measured in a process of its own, whose peak memory it reports. The ledgers are those of shards of 1,000 rows,
with the columns of the embedded profile; past a million rows the same files are linked under other names. The plan is made of
their keys, without a caption stage (with one: benchmarks/plan_rows.py).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from curation import ledger
from curation.inputs.rows import planned
from curation.recipe import Recipe, Units
from curation.run.plan import append_retry, make_plan
from curation.shards import tally as tallies
from curation.shards.planned import open_plan
from curation.storage import Storage

ROWS = 1000
DISTINCT = 1_000_000
PER_GROUP = 65
WORDS = ["a", "the", "man", "woman", "dog", "rides", "walks", "red", "street", "beach", "is", "near", "with", "hat", "talks"]
WHY = [
    (0.30, "kept", "", ""),
    (0.22, "rejected", "split_shots", "shot_boundary"),
    (0.10, "rejected", "extract_entities", "no_subject"),
    (0.06, "rejected", "split_shots", "too_short"),
    (0.28, "rejected", "segment_entities", "no_subject_localised"),
    (0.03, "failed", "split_shots", "decoded_less"),
    (0.01, "failed", "inputs", "not_downloaded"),
]
STAGES = (
    "extract_entities",
    "split_shots",
    "sample_frames",
    "score_quality",
    "segment_entities",
    "crop_faces",
    "inpaint_background",
)


def row(rng: random.Random, group: int, number: int, i: int) -> dict:
    _, verdict, stage, reason = rng.choices(WHY, [share for share, *_ in WHY])[0]
    start = round(rng.random() * 600, 3)
    key = f"{rng.getrandbits(66):011x}_{i:05d}"
    caption = " ".join(rng.choices(WORDS, k=14))
    entities = [{"word": w, "kind": "subject", "span": [0, 3]} for w in rng.choices(WORDS, k=3)]
    refs = [
        {"refs": [{"frame": f, "box": [rng.randrange(600) for _ in range(4)], "score": round(rng.random(), 4)} for f in range(3)]}
    ]
    scores = {
        "extract_entities": {"entities": entities},
        "split_shots": {"max_probability": round(rng.random(), 4), "cuts": [], "shots": 1, "width": 640, "height": 360},
        "segment_entities": {"entities": refs * 3} if verdict == "kept" else {},
    }
    source = {"url": f"https://www.youtube.com/watch?v={key[:11]}", "origin": [start, start + 5], "matching_score": rng.random()}
    return {
        **{"shard": ledger.shard(group, number), "unit": i // 16, "group": group, "attempt": 0, "clip": key, "key": key},
        **{"video": key[:11], "start": start, "end": start + 5 * rng.random(), "caption": caption, "verdict": verdict},
        **{"stage": stage, "reason": reason, "detail": f"decoded {i} of 200 frames" if verdict == "failed" else ""},
        **{
            "scores": ledger.compact(scores),
            "source": ledger.compact(source),
            "width": 640,
            "height": 360,
            "fps": 30.0,
            "frames": 150,
        },
        "seconds": [(name, rng.random()) for name in STAGES[: rng.randint(2, 7)]],
        **({"offset": i * 1_500_000, "size": 1_500_000} if verdict == "kept" else {}),
    }


def make(storage: Storage, rows: int) -> None:
    folder = storage.local("shards")
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(rows // ROWS):
        group, number = divmod(file, PER_GROUP)
        path = folder / f"{ledger.shard(group, number)}.parquet"
        if path.exists():
            continue
        if file >= DISTINCT // ROWS:
            os.link(folder / f"{ledger.shard(*divmod(file % (DISTINCT // ROWS), PER_GROUP))}.parquet", path)
            continue
        rng = random.Random(file)
        table = pa.Table.from_pylist([row(rng, group, number, i) for i in range(ROWS)], schema=ledger.SCHEMA)
        facts = {"group": group, "number": number, "first": number, "last": number, "attempt": 0, "bytes": 0}
        path.write_bytes(ledger.encoded(table, **facts))


def _plan(root: str) -> str:
    """Of the ledgers' keys; those of linked files under other names."""
    storage = Storage(root)
    keys = (name for file in ledger.files(storage) for name in ledger.read(storage, file)[0]["key"].to_pylist())
    clips = (
        planned(f"{i // DISTINCT or ''}{key}", "A man talks.", video=key[:11], path=f"/v/{key}.mp4") for i, key in enumerate(keys)
    )
    made = make_plan(Recipe(units=Units(clips=16)), clips, storage, {})
    return f"{made.clips} clips in {len(made.groups)} parts"


def _retry(root: str) -> str:
    """What `curation retry` does before it runs anything: the clips that failed are planned again."""
    plan = open_plan(Storage(root))
    assert plan is not None
    before = plan.groups
    again = append_retry(Recipe(units=Units(clips=16)), plan, tallies.failed_clips(plan.storage))
    return f"{sum(group.clips for group in again.groups[len(before) :])} clips in {len(again.groups) - len(before)} parts"


def _tally(root: str) -> str:
    found = tallies.tally(Storage(root))
    return f"{found.planned} clips, {len(found.reasons)} reasons"


def _failed(root: str) -> str:
    return f"{len(tallies.failed_clips(Storage(root)))} clips"


def _inspect(root: str) -> str:
    from curation.look import inspect

    inspect.inspect(root, None, None)
    return ""


def _key(root: str) -> str:
    from curation.look import inspect

    storage = Storage(root)
    last = list(ledger.files(storage))[-1]
    inspect.inspect(root, next(ledger.rows(storage, ["key"], names=[last]))["key"], None)
    return ""


def _measured(work: Callable[[str], str], root: str, pipe: multiprocessing.connection.Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    start = time.perf_counter()
    said = work(root)
    seconds = time.perf_counter() - start
    pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="keep the ledgers there [default: a temporary folder]")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        for rows in arguments.rows:
            storage = Storage.at((arguments.folder or Path(temporary)) / str(rows))
            make(storage, rows)
            for name, work in {
                "plan": _plan,
                "retry": _retry,
                "tally": _tally,
                "failed_clips": _failed,
                "inspect": _inspect,
                "inspect KEY": _key,
            }.items():
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_measured, args=(work, storage.root, theirs))
                process.start()
                theirs.close()
                seconds, megabytes, said = ours.recv()
                process.join()
                print(
                    json.dumps(
                        {"figure": name, "rows": rows, "seconds": round(seconds, 2), "peak MB": round(megabytes), "said": said}
                    )
                )


if __name__ == "__main__":
    main()
