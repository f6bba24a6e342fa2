"""The table *fault → outcome* of docs/faults.md: what the tests of this folder hold the code to. `python -m tests.faults.table`
writes it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CLIPS = 12
"""Of every run that is broken here."""
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


class Fault(NamedTuple):
    """What is done, what becomes of the run, and how many clips fail."""

    fault: str
    outcome: str
    failed: int = 0


FAULTS = {
    "worker_segfault": Fault("A worker segfaults, once", "another takes the unit, clip by clip; exit 0"),
    "worker_exit": Fault("A worker's process ends by itself, once", "the same"),
    "worker_killed": Fault("A worker is killed, as by the kernel when memory ends, once", "the same"),
    "worker_no_memory": Fault("A worker cannot get memory, once", "tried again after a pause; exit 0"),
    "clip_poisoned": Fault(
        "A clip ends every worker that takes it", "after two workers it fails (`worker_died`), its neighbours do not", 1
    ),
    "clip_spins": Fault("Work on a clip does not end", "interrupted after `limits.seconds_per_clip`; it fails (`too_slow`)", 1),
    "clip_hangs": Fault(
        "Work on a clip hangs within a library", "its worker is replaced; it fails (`too_slow`), its neighbours do not", 1
    ),
    "clip_hangs_local": Fault(
        "The same with `--local`",
        "the process ends with 4 and says so; the same command goes on, and the clip fails (`too_slow`)",
        1,
    ),
    "worker_cannot_load": Fault("A stage cannot be loaded", "exit 2 and one line; mended, the same command goes on"),
    "worker_dies_loading": Fault(
        "A worker dies while it loads", "tried three times, then exit 2 and one line; the same command goes on"
    ),
    "driver_killed": Fault("The driver is killed (SIGKILL)", "the same command goes on; its workers end by themselves"),
    "driver_killed_local": Fault("The same with `--local`", "the same command goes on"),
    "driver_sigterm": Fault(
        "SIGTERM", "ends within seconds with 143, and says in one line what is done; the same command goes on"
    ),
    "driver_sigint": Fault("Ctrl-C", "the same, with 130"),
    "driver_sigint_local": Fault("Ctrl-C with `--local`", "the same"),
    "node_killed": Fault(
        "A node of the cluster is killed, S3 in and out, no shared folder", "its units are run elsewhere; exit 0"
    ),
    "disk_full": Fault("The disk of the output is full", "exit 4 (or 1); with room again the same command goes on"),
    "input_vanishes": Fault("The mount of the input vanishes", "the same: no clip is blamed"),
    "output_vanishes": Fault("The mount of the output vanishes", "the same"),
    "output_read_only": Fault("The output turns read-only", "the same"),
    "output_read_only_at_start": Fault("The output cannot be written to at the start", "exit 2 and one line"),
    "source_deleted": Fault("A source is deleted during the run", "its clips fail (`no_such_file`), the others do not", 1),
    "download_cut": Fault(
        "A model's download is cut off", "exit 2 and one line; nothing half is left in the store; the same command goes on"
    ),
    "second_run": Fault("A second run on the same output", "refused with 2 and one line, the first is not disturbed"),
    "power_loss": Fault("Power is lost at any write (the process ends there)", "the same command goes on"),
    "io_once": Fault(
        "Any one read or write fails, once", "tried again, or exit 1, 2 or 4 and one line; the same command goes on"
    ),
    "io_for_good": Fault("From any one on, every read and write fails", "exit 1, 2 or 4 and one line; the same command goes on"),
    "kill_grid": Fault("Killed at several points, by workers (1, 2, 4) and clips a unit (1, 2, 5)", "the same command goes on"),
}
"""By name."""
BEGIN, END = "<!-- the table is written by tests/faults/table.py -->\n", "<!-- end of the table -->\n"


def text() -> str:
    """As Markdown."""
    rows = [
        f"| {f.fault} | {f.outcome} | {CLIPS} = {CLIPS - f.failed} + 0 + {f.failed} | 0 | 0 | equal |" for f in FAULTS.values()
    ]
    head = ["| fault | outcome | planned = kept + rejected + failed | lost | doubled | bytes |", "|---|---|---|---|---|---|"]
    return BEGIN + "\n".join([*head, *rows]) + "\n" + END


def page(before: str) -> str:
    """The page with its table as it should be."""
    head, rest = before.split(BEGIN)
    return head + text() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
