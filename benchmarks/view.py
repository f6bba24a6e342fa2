"""What `curation view` costs on many rows: its start, its answers, its memory. One JSON line per figure.

    python benchmarks/view.py --rows 1000000 --files 4000 [--against]

The ledgers are those of `benchmarks/report.py`. The server is a process of its own; an answer's time is the slowest of three, by
HTTP; the memory is the most that the process has held by then. `--against`: the run compared with itself.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

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
COMPARED = {"what moved": ("moves", {})}


def peak(process: int) -> int:
    """MB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) // 1024  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--against", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.at(folder)
        make(storage, arguments.rows, arguments.files, old=False)
        key = next(ledger.rows(storage, ["key"], names=[next(iter(ledger.files(storage)))]))["key"]
        command = [sys.executable, "-m", "curation.cli", "view", folder, *(["--against", folder] if arguments.against else [])]
        started = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            url = re.search(r"http://\S+/", server.stdout.readline())[0]  # type: ignore[index]
            tell("start", arguments, time.perf_counter() - started, peak(server.pid))
            for name, (path, query) in {**ASKED, **(COMPARED if arguments.against else {})}.items():
                known = {"LAST": str((arguments.rows - 1) // 50), "KEY": key}
                asked = urlencode({n: known.get(v, v) for n, v in query.items()})
                seconds = []
                for _ in range(3):
                    begun = time.perf_counter()
                    with urllib.request.urlopen(f"{url}{path}?{asked}") as answer:
                        answer.read()
                    seconds.append(time.perf_counter() - begun)
                tell(name, arguments, max(seconds), peak(server.pid))
        finally:
            server.terminate()
            server.wait(30)


def tell(name: str, arguments: argparse.Namespace, seconds: float, megabytes: int) -> None:
    said = {"figure": name, "rows": arguments.rows, "files": arguments.files}
    print(json.dumps({**said, "seconds": round(seconds, 3), "peak MB": megabytes}), flush=True)


if __name__ == "__main__":
    main()
