"""`curation submit` and the Ray run of the sample job, on a Ray head that the test starts."""

from __future__ import annotations

import pytest

from tests.runs import curation, ledger, tars


@pytest.mark.timeout(400)
def test_the_sample_job_on_a_running_cluster(cluster, sample_run, tmp_path):
    out = tmp_path / "out"
    done = curation("submit", "embedded", "--input", "sample", "--output", out, "--address", cluster.dashboard)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned 14 = kept" in done.stdout, "the job's own words come through"
    assert tars(out) == tars(sample_run), "the same bytes as without Ray"
    assert {v.partition(" ")[0] for v in ledger(out).values()} == {"kept", "rejected", "failed"}


def test_the_jobs_exit_status_is_passed_on(cluster, tmp_path):
    words = ("--input", tmp_path / "none", "--output", tmp_path / "out", "--address", cluster.dashboard)
    done = curation("submit", "embedded", *words)
    assert done.returncode == 2 and "nothing is there" in done.stdout
