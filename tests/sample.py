"""`make curate`'s run over the sample clips, once for all workers of tests; `python -m tests.sample FOLDER` begins it."""

from __future__ import annotations

import sys
from pathlib import Path

from filelock import FileLock


def made(folder: Path) -> Path:
    """The output in this folder; whoever comes first makes it, the others wait."""
    from curation.run import run

    with FileLock(folder / "sample.lock"):
        if not (folder / "sample" / "summary.json").exists():
            assert run.run("embedded", "sample", folder / "sample", local=True) == 0
    return folder / "sample"


if __name__ == "__main__":
    made(Path(sys.argv[1]))
