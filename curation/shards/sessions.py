"""How long a run has been at work, by the wall's clock: `sessions.json`, an entry for each time that it was started."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from curation.storage import Storage

NAME = "sessions.json"


@dataclass(frozen=True)
class Session:
    """`started`: ISO 8601 in UTC; `seconds`: that it had been at work by its latest note; `clips`: planned ones that it had
    finished by then. Planning and the fetching of models do not count."""

    started: str
    seconds: float
    clips: int


class Clock:
    """Of a session that begins now; for who holds the claim."""

    def __init__(self, storage: Storage):
        self._storage, self._before = storage, read(storage)
        self._started, self._begun = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def note(self, clips: int) -> None:
        """One that has finished no clip leaves no entry, so that a command that finds nothing to do writes nothing."""
        if clips:
            own = Session(self._started, round(self.seconds, 2), clips)
            self._storage.write(NAME, json.dumps([asdict(session) for session in (*self._before, own)], indent=1))


def read(storage: Storage) -> list[Session]:
    """All that were noted; none of a file that somebody has damaged."""
    try:
        return [Session(**session) for session in json.loads(storage.read(NAME))]
    except (FileNotFoundError, ValueError, TypeError):
        return []
