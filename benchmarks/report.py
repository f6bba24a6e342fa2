"""What `curation report`, a summary and a condition cost on many rows. One JSON line per figure.

    python benchmarks/report.py --rows 1000000 --files 4000

The ledgers are those of a finished run, `rows / files` rows each with the scores of the embedded profile; a few are distinct,
the others are the same files under other names. Each figure is measured in a process of its own, whose peak memory it reports.
`--old`: ledgers of before there were typed columns.
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
from pathlib import Path

import pyarrow as pa
from ledgers import PER_GROUP, row  # the benchmark beside this one

from curation import columns, ledger
from curation.look import inspect, report
from curation.shards import tally as tallies
from curation.storage import Storage

DISTINCT = 100
WORDS = [
    f"{a} {b}".strip()
    for a in ("", "young", "red", "old", "small")
    for b in ("man", "woman", "dog", "car", "hat", "ball", "tree")
]


def scores(rng: random.Random, kept: bool) -> dict:
    named = [{"word": w, "kind": rng.choice(["subject", "object"]), "span": [0, 3]} for w in rng.sample(WORDS, 4)]
    refs = [
        {
            "frame": f,
            "label": "person",
            "score": round(rng.random(), 4),
            "area": round(rng.random(), 4),
            "member": f"ref.{e}.{f}.webp",
        }
        for e in range(2)
        for f in range(3)
    ]
    found = {
        "extract_entities": {"model": "rules", "entities": named},
        "split_shots": {"seconds": round(5 * rng.random(), 3), "shots": 1, "max_probability": round(rng.random() ** 4, 4)},
    }
    if kept or rng.random() < 0.5:
        share = round(rng.random(), 4)
        found["score_quality"] = {
            "label": "desirable",
            "probabilities": {"desirable": share},
            "text_share": round(rng.random(), 4),
        }
        found["segment_entities"] = {"entities": [{"refs": refs[:3]}, {"refs": refs[3:]}, {"refs": []}, {"refs": []}]}
    if kept:
        found["inpaint_background"] = {"method": rng.choice(["plate", "none"]), "coverage": round(rng.random(), 4)}
    return found


def make(storage: Storage, rows: int, files: int, old: bool) -> None:
    storage.local("shards").mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for file in range(files):
        group, number = divmod(file, PER_GROUP)
        path = storage.local(f"shards/{ledger.shard(group, number)}.parquet")
        if file >= DISTINCT:
            os.link(made[file % DISTINCT], path)
            continue
        rng = random.Random(file)
        lines = []
        for i in range(rows // files):
            line = row(rng, group, number, i)
            own = scores(rng, line["verdict"] == "kept")
            lines.append({**line, "scores": ledger.compact(own), **columns.of(own)})
        table = pa.Table.from_pylist(lines, schema=ledger.SCHEMA)
        facts = {"group": group, "number": number, "first": number, "last": number, "attempt": 0, "bytes": 0}
        path.write_bytes(ledger.encoded(table.drop_columns(list(columns.COLUMNS)) if old else table, **facts))
        made.append(path)


WORKS = {
    "summary counted": lambda root: tallies.tally(Storage(root), keep=True),
    "summary noted": lambda root: inspect.inspect(root),
    "inspect --where": lambda root: inspect.inspect(root, where="desirable > 0.9 AND list_contains(subject_words, 'red dog')"),
    "report": lambda root: report.write(root),
}


def _measured(name: str, root: str, pipe: multiprocessing.connection.Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    start = time.perf_counter()
    WORKS[name](root)
    pipe.send((time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--old", action="store_true")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        make(Storage.at(folder), arguments.rows, arguments.files, arguments.old)
        for name in WORKS:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_measured, args=(name, folder, theirs))
            process.start()
            theirs.close()
            seconds, megabytes = ours.recv()
            process.join()
            said = {"figure": name, "rows": arguments.rows, "files": arguments.files, "old": arguments.old}
            print(json.dumps({**said, "seconds": round(seconds, 2), "peak MB": round(megabytes)}), flush=True)


if __name__ == "__main__":
    main()
