"""Ctrl-C and SIGTERM: a run ends in an orderly way and says in one line what is done."""

from __future__ import annotations

import signal
import threading
from types import FrameType

LOST = "_Reached."
"""Methods of `media.video` that FFmpeg calls: what is raised in one of them goes nowhere."""
SOON = 0.02
"""Seconds until it is tried again."""


class Interrupted(BaseException):
    """Raised in the main thread by SIGINT or SIGTERM. `done`: what this command has done by then."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number, self.done = number, ""

    @property
    def status(self) -> int:
        """Exit status, as shells have it."""
        return 128 + self.number

    def __str__(self) -> str:
        done = f"; {self.done}" if self.done else ""
        return f"stopped by {signal.Signals(self.number).name}{done}; the same command goes on"


def heed() -> None:
    """From now on the first of the two signals raises `Interrupted`, a second one ends the process. Ray takes SIGTERM for itself
    when it starts, so this is said again after that."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    if frame and frame.f_code.co_qualname.startswith(LOST):
        signal.signal(signal.SIGALRM, lambda _, later: _raise(number, later))
        signal.setitimer(signal.ITIMER_REAL, SOON)
        return
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    raise Interrupted(number)
