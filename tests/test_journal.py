from __future__ import annotations

import pytest

from curation.journal import Journal
from curation.sample import Sample


def die(out, run, *batches, any_run=False):
    """A worker that touches the batches and dies in the last one."""
    with pytest.raises(SystemError), Journal(out, 7, "stage", run, any_run=any_run) as journal:
        for batch in batches:
            journal.touch([Sample(key) for key in batch])
        raise SystemError("killed")


def test_only_the_batch_in_hand_is_suspected_and_two_deaths_condemn(tmp_path):
    die(tmp_path, "run1", "ab", "cd")
    with Journal(tmp_path, 7, "stage", "run1") as journal:
        assert [journal.suspect(k) for k in "abcd"] == [False, False, True, True]
        assert not journal.killer("d")
    die(tmp_path, "run1", "cd")
    die(tmp_path, "run1", "c", "d")
    with Journal(tmp_path, 7, "stage", "run1") as journal:
        assert journal.killer("d") and not journal.killer("c")
    assert not list((tmp_path / ".journal").glob("*.json")), "a stage that came through leaves no journal"


def test_deaths_of_an_earlier_run_were_the_drivers(tmp_path):
    die(tmp_path, "run1", "a")
    with Journal(tmp_path, 7, "stage", "run2") as journal:
        assert not journal.suspect("a")


def test_in_process_deaths_count_across_runs(tmp_path):
    die(tmp_path, "run1", "a", any_run=True)
    die(tmp_path, "run2", "a", any_run=True)
    with Journal(tmp_path, 7, "stage", "run3", any_run=True) as journal:
        assert journal.killer("a")


def test_a_torn_journal_is_no_evidence(tmp_path):
    (tmp_path / ".journal").mkdir()
    (tmp_path / ".journal" / "000007.stage.json").write_text('{"run": ')
    with Journal(tmp_path, 7, "stage", "run1") as journal:
        assert not journal.suspect("a")
