"""What a clip may cost, and the watchdog that ends what passes it."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from curation.faults import DataError
from curation.sample import Sample

POLL = 0.25
"""Seconds between two looks at what is under way."""
AGAIN = 1.0
"""Seconds after which work that goes on is interrupted once more: it may have caught the first one."""
GRACE = 0.25, 5.0
"""Share of the seconds allowed, and the least seconds, for which work may go on when it was told to end; then its worker ends."""


@dataclass(kw_only=True)
class Limits:
    """What a run bears of a clip, and of its clips together. They decide no byte: another figure needs no other output."""

    max_failed: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The run exits with 3 when a larger share of its clips failed; after 1,000 clips it does not wait for its end with that."""
    seconds_per_clip: Annotated[float, Field(gt=0)] = 120.0
    """Seconds of work on one clip in all stages; past them it fails (too_slow). Clips that are worked on together have theirs
    together. Downloads are not counted."""
    pixels: Annotated[int, Field(gt=0)] = 4096 * 2160
    """Pixels of a frame; a video with larger ones fails (too_big)."""
    megabytes: Annotated[float, Field(gt=0)] = 4096.0
    """Of the file that holds a clip, or of its member in a shard; one with more fails before it is read (too_big)."""
    seconds: Annotated[float, Field(gt=0)] = 7200.0
    """Seconds of video from a clip's start to its end; a clip of more fails (too_long)."""

    def left(self, samples: Iterable[Sample]) -> float:
        """Seconds of work that these clips have left."""
        return sum(max(1.0, self.seconds_per_clip - sum(sample.seconds.values())) for sample in samples)


class TooSlow(DataError):
    """Raised by the watchdog in whatever a clip's work is doing."""

    def __init__(self) -> None:
        super().__init__("too_slow", "past limits.seconds_per_clip")


@dataclass(eq=False)
class Watch:
    """Work under way on a thread, to end by `deadline` (monotonic seconds); or it is the watchdog's to end it by `error`."""

    thread: int
    what: str
    keys: tuple[str, ...]
    deadline: float
    grace: float
    error: type[Exception]
    next: float
    told: bool = False
    is_stuck: bool = False


class Watchdog:
    """One thread that looks after the work of all others. What is past its time gets an exception; what does not heed it, since
    it is in the depths of a library, is `stuck`: its process has to end, and somebody else to say of which clip that was."""

    def __init__(self) -> None:
        self.stuck: Callable[[str, tuple[str, ...]], None] = lambda what, keys: None
        """Called with the name of work that does not end and the keys of its clips, on the watchdog's thread."""
        self._lock = threading.Lock()  # a plain one: nothing raised in a thread can leave it taken
        self._watches: dict[int, list[Watch]] = {}
        """Thread → its watches; only the innermost one runs."""
        self._runs = False

    @contextmanager
    def watch(self, seconds: float, what: str, keys: Iterable[str] = (), error: type[Exception] = TooSlow) -> Iterator[None]:
        """The work within, a stage's on clips, has so many seconds; then `error`, a class without arguments, is raised in it.
        What a watch within a watch takes is not counted by the outer one."""
        start = time.monotonic()
        grace = max(GRACE[0] * seconds, GRACE[1])
        watch = Watch(threading.get_ident(), what, tuple(keys), start + seconds, grace, error, start + seconds)
        self._begin(watch)
        try:
            yield
        finally:
            try:
                self._end(watch, start)
            except BaseException:  # told at the last moment
                self._end(watch, start)
                raise

    def _begin(self, watch: Watch) -> None:
        with self._lock:
            self._watches.setdefault(watch.thread, []).append(watch)
            begins, self._runs = not self._runs, True
        if begins:
            threading.Thread(target=self._look_after, name="watchdog", daemon=True).start()

    def _end(self, watch: Watch, start: float) -> None:
        """When this returns the watch raises nothing any more."""
        with self._lock:
            mine = self._watches.get(watch.thread, [])
            if watch in mine:
                mine.remove(watch)
                if mine:
                    took = time.monotonic() - start
                    mine[-1].deadline, mine[-1].next = mine[-1].deadline + took, mine[-1].next + took
                else:
                    del self._watches[watch.thread]
        if watch.told:
            _raise_in(watch.thread, None)

    def _look_after(self) -> None:
        while True:
            time.sleep(POLL)
            now = time.monotonic()
            with self._lock:
                watches = [mine[-1] for mine in self._watches.values()]
                for watch in watches:
                    if watch.next <= now:
                        watch.told, watch.next = True, now + AGAIN
                        _raise_in(watch.thread, watch.error)
            for watch in watches:
                if watch.deadline + watch.grace <= now and not watch.is_stuck:
                    watch.is_stuck = True
                    self.stuck(watch.what, watch.keys)


def _raise_in(thread: int, error: type[Exception] | None) -> None:
    """Let a thread raise, as soon as it is in Python; None: not any more."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error) if error else None)


watchdog = Watchdog()
