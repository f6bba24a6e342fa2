from __future__ import annotations

from datetime import UTC, datetime

import pytest

from curation.shards import sessions
from curation.storage import Storage


def test_each_session_is_noted_behind_the_others(tmp_path):
    storage = Storage.at(tmp_path)
    assert sessions.read(storage) == []
    first = sessions.Clock(storage)
    first.note(3)
    first.note(5)
    later = sessions.Clock(storage)
    later.note(0)
    assert [session.clips for session in sessions.read(storage)] == [5], "one that has done nothing leaves nothing"
    later.note(2)
    found = sessions.read(storage)
    assert [session.clips for session in found] == [5, 2] and all(0 <= session.seconds < 60 for session in found)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found[0].started)).total_seconds()) < 60


@pytest.mark.parametrize("text", ["", "[1", "{}x", '[{"started": 1}]', "[7]", "7"])
def test_a_damaged_note_is_none(tmp_path, text):
    storage = Storage.at(tmp_path)
    storage.write(sessions.NAME, text)
    assert sessions.read(storage) == []
