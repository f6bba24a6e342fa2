"""What `curation view` costs on many rows: its start, its answers, its memory. One JSON line per figure.

    python benchmarks/view.py --rows 1000000 --files 4000 [--against]

The ledgers are those of `benchmarks/report.py`, with keys of their own. The server is a process of its own; an answer's time is
the slowest of three, by HTTP; the memory is the most that the process has held by then. `--against`: the run compared with one of
as many rows, of which every 20th was rejected.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from report import make  # the benchmark beside this one

from curation import ledger
from curation.storage import Storage

ASKED = {
    "first page": ("rows", {}),
    "search of two words": ("rows", {"q": "dog walks"}),
    "search that finds nothing": ("rows", {"q": "zebra"}),
    "an entity's word": ("rows", {"word": "red dog"}),
    "three filters": ("rows", {"verdict": "kept", "min.desirable": "0.9", "kind": "subject"}),
    "sorted by a score": ("rows", {"sort": "-desirable"}),
    "sorted by caption": ("rows", {"sort": "caption"}),
    "the last page": ("rows", {"page": "LAST"}),
    "the last page, sorted": ("rows", {"page": "LAST", "sort": "-desirable"}),
    "a clip": ("clip", {"key": "KEY"}),
}
EVERY = 20
TRIES = 3
COMPARED = {"what moved": ("moves", {}), "the clips that moved": ("moved", {"a_verdict": "kept"})}


def spent(process: int) -> float:
    """CPU seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def finish(storage: Storage, other: Storage | None) -> None:
    """Give the ledgers, of which most are links to a few, keys of their own; and write the run to compare with."""
    for number, name in enumerate(ledger.files(storage)):
        table, facts = ledger.read(storage, name)
        keys = pc.binary_join_element_wise(table["key"], str(number), "_")
        for column in ("key", "clip"):
            table = table.set_column(table.schema.get_field_index(column), column, keys)
        storage.write(name, ledger.encoded(table, **facts))
        if other:
            is_kept = pc.not_equal(pa.array(np.arange(len(table)) % EVERY), 0)
            for column, value in {"verdict": "rejected", "stage": "score_quality", "reason": "low_desirable_score"}.items():
                place = table.schema.get_field_index(column)
                table = table.set_column(place, column, pc.if_else(is_kept, table[column], value))
            other.write(name, ledger.encoded(table, **facts))


def peak(process: int) -> int:
    """MB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) // 1024  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--against", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as second:
        storage = Storage.at(folder)
        make(storage, arguments.rows, arguments.files, old=False)
        finish(storage, Storage.at(second) if arguments.against else None)
        key = next(ledger.rows(storage, ["key"], names=[next(iter(ledger.files(storage)))]))["key"]
        command = [sys.executable, "-m", "curation.cli", "view", folder, *(["--against", second] if arguments.against else [])]
        started = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            url = re.search(r"http://\S+/", server.stdout.readline())[0]  # type: ignore[index]
            tell("start", arguments, time.perf_counter() - started, peak(server.pid), **{"CPU seconds": spent(server.pid)})
            for name, (path, query) in {**ASKED, **(COMPARED if arguments.against else {})}.items():
                known = {"LAST": str((arguments.rows - 1) // 50), "KEY": key}
                asked = urlencode({n: known.get(v, v) for n, v in query.items()})
                seconds, before = [], spent(server.pid)
                for _ in range(TRIES):
                    begun = time.perf_counter()
                    with urllib.request.urlopen(f"{url}{path}?{asked}") as answer:
                        answer.read()
                    seconds.append(time.perf_counter() - begun)
                each = (spent(server.pid) - before) / TRIES
                tell(name, arguments, max(seconds), peak(server.pid), **{"CPU seconds": round(each, 3)})
            spilled = sum(
                path.stat().st_size for path in Path(tempfile.gettempdir()).glob("curation-view-*/**/*") if path.is_file()
            )
            tell("its file", arguments, 0, peak(server.pid), megabytes_on_disk=spilled // 1_000_000)
        finally:
            server.terminate()
            server.wait(30)


def tell(name: str, arguments: argparse.Namespace, seconds: float, megabytes: int, **more: float) -> None:
    said = {"figure": name, "rows": arguments.rows, "files": arguments.files, **more}
    print(json.dumps({**said, "seconds": round(seconds, 3), "peak MB": megabytes}), flush=True)


if __name__ == "__main__":
    main()
