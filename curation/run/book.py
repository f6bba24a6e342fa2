"""The book of a run: which units are in whose hands. When a worker dies it tells whom to suspect; and it counts what stages did.

Ray restarts a dead worker and tries its unit again, for ever, and says nothing of why it died. So a unit whose worker died is run
clip by clip, alone in its worker, and a clip that takes two workers with it that way is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from curation.storage import Storage

DEATHS = 2
"""A clip that was being touched alone when this many workers died is not tried again."""
LOADS = 3
"""Lives in a row in which a worker may die while it loads; Ray would start it for ever."""
GIVEN_UP = 6
"""Deaths after which a unit is set aside when no clip of it can be blamed: its worker dies between clips, or with its model."""


@dataclass
class Seat:
    """A worker as the book knows it: which life of it, on which node, how many lives ended before it took a unit, and what it has
    in hand (unit → clip, "" before a clip)."""

    life: str
    node: str
    fruitless: int = 0
    units: dict[str, str] = field(default_factory=dict)


class Book:
    """Kept by one actor on the driver's node, or in this process with `--local`."""

    def __init__(self, is_alive: Callable[[str], bool] = lambda node: True):
        """`is_alive`: whether a node is still there. When a node goes, nothing is said about what its workers held."""
        self._is_alive = is_alive
        self.seats: dict[str, Seat] = {}
        self.deaths: Counter[str] = Counter()
        self.trips: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.endless: dict[str, str] = {}
        """Clip → the stage whose work on it, and on no other, did not end but with the worker."""
        self.steps: Counter[str] = Counter()

    def enter(self, worker: str, life: str, node: str) -> int:
        """A worker begins a life. What the life before it had in hand is suspected, unless it left or its node is gone. Gives how
        many lives before it have ended, in a row, without a unit: those that died while they loaded."""
        before = self.seats.get(worker)
        if before and before.life != life and before.units and self._is_alive(before.node):
            for unit, key in before.units.items():
                self.deaths[f"{unit} {key}".strip()] += 1
        self.seats[worker] = Seat(life, node, before.fruitless + 1 if before else 0)
        return self.seats[worker].fruitless

    def start(self, worker: str, unit: str) -> tuple[int, dict[str, tuple[str, str]]]:
        """A worker takes a unit: the deaths it has seen; and the clips that are not to be tried again, each with the stage where
        that is known, and the reason: they have killed twice, or their work does not end."""
        seat = self.seats[worker]
        seat.units[unit], seat.fruitless = "", -1
        mine = {name.partition(" ")[2]: count for name, count in self.deaths.items() if name.partition(" ")[0] == unit}
        killers = {key: ("", "worker_died") for key, count in mine.items() if key and count >= DEATHS}
        return sum(mine.values()), killers | {key: (stage, "too_slow") for key, stage in self.endless.items()}

    def touch(self, worker: str, unit: str, key: str) -> None:
        """A clip of a suspected unit is about to be worked on, alone."""
        self.seats[worker].units[unit] = key

    def done(self, worker: str, unit: str) -> None:
        self.seats[worker].units.pop(unit, None)

    def step(self, steps: dict[str, int]) -> None:
        """So many more clips have reached each stage."""
        self.steps.update(steps)

    def stuck(self, stage: str, keys: Sequence[str]) -> None:
        """Work of a stage on these clips does not end, so its worker will. Of several nothing is known yet: their unit is run
        clip by clip next."""
        if len(keys) == 1:
            self.endless[keys[0]] = stage

    def leave(self, worker: str) -> None:
        """A worker is about to end its own process: what it holds is not to blame."""
        self.seats[worker].units.clear()

    def trip(self, worker: str) -> int:
        """The breaker of a worker has tripped: how often by now."""
        self.trips[worker] += 1
        return self.trips[worker]

    def breaks(self, unit: str) -> bool:
        """Our side broke under a unit, whatever pauses were made: whether that is the first time, so that a new worker tries."""
        first = unit not in self.broken
        self.broken.add(unit)
        return first

    def progress(self) -> dict[str, int]:
        """Clips that have reached each stage."""
        return dict(self.steps)


class LocalBook(Book):
    """The book of a run in one process. When that dies there is no other to tell: what it held stands in a file of the run."""

    FILE = ".book.json"

    def __init__(self, storage: Storage):
        super().__init__()
        self.storage = storage
        try:
            left = json.loads(storage.read(self.FILE))
            self.deaths.update(left["deaths"])
            self.deaths.update(left["touching"])
            self.endless.update(left["endless"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # no run was killed here, or it was while it wrote this: no evidence

    def start(self, worker: str, unit: str) -> tuple[int, dict[str, tuple[str, str]]]:
        found = super().start(worker, unit)
        self._keep()
        return found

    def touch(self, worker: str, unit: str, key: str) -> None:
        super().touch(worker, unit, key)
        self._keep()

    def stuck(self, stage: str, keys: Sequence[str]) -> None:
        super().stuck(stage, keys)
        self._keep()

    def close(self) -> None:
        """The run ends, well or not, and says so itself: nobody is to blame."""
        self.storage.remove(self.FILE)

    def _keep(self) -> None:
        touching = [f"{unit} {key}".strip() for seat in self.seats.values() for unit, key in seat.units.items()]
        self.storage.write(self.FILE, json.dumps({"deaths": self.deaths, "touching": touching, "endless": self.endless}))


class SharedBook(Book):
    """The book as an actor; a node that Ray no longer counts as alive says nothing about what its workers held. It stands here so
    that its process need not import Ray Data."""

    def __init__(self) -> None:
        import ray

        super().__init__(lambda node: any(n["NodeID"] == node and n["Alive"] for n in ray.nodes()))
