from __future__ import annotations

import json

import pytest

from curation import ledger
from curation.inputs.files import InputError
from curation.look import inspect as looks
from curation.look import ledgers
from curation.look.inspect import inspect
from curation.shards import tally
from tests.shards import made
from tests.shards.made import failed, rejected, sample


def shown(capsys, *arguments) -> str:
    inspect(*arguments)
    return capsys.readouterr().out


def test_the_table_has_every_clip_with_its_verdict(sample_run, capsys):
    text = shown(capsys, sample_run, None, None)
    assert "15 clips: kept 3, rejected 11, failed 1" in text
    for word in (
        "bikes_00003",
        "no_subject",
        "plural_subject",
        "shot_boundary",
        "too_short",
        "not_downloaded",
        "no_caption",
        "no_good_reference",
        "cyclist 1",
    ):
        assert word in text.replace("\n", ""), word
    assert shown(capsys, sample_run / "shards" / "shard-00000-0000.tar", None, None).count("bikes_") == text.count("bikes_")


@pytest.mark.parametrize(
    "key, words",
    [
        (
            "carphone_pristine_00000",
            ['"verdict": "kept"', '"word": "man"', "ref.0.1.webp", '"landmarks"', "carphone_pristine_00000.mp4"],
        ),
        ("bikes_00004", ['"verdict": "rejected"', '"reason": "shot_boundary"', '"split_shots"']),
        ("bikes_00007", ['"verdict": "failed"', "starts_beyond_end"]),
    ],
    ids=["kept", "rejected", "failed"],
)
def test_one_clip(sample_run, capsys, key, words):
    text = shown(capsys, sample_run, key, None)
    assert all(word in text for word in words), text


def test_extract_writes_the_members(sample_run, tmp_path, capsys):
    inspect(sample_run, "carphone_pristine_00000", tmp_path / "one")
    names = {p.name for p in (tmp_path / "one").iterdir()}
    assert {"carphone_pristine_00000.mp4", "carphone_pristine_00000.json", "carphone_pristine_00000.frame1.jpg"} <= names
    assert json.loads((tmp_path / "one" / "carphone_pristine_00000.json").read_text())["key"] == "carphone_pristine_00000"
    inspect(sample_run, None, tmp_path / "all")
    assert names < {p.name for p in (tmp_path / "all").iterdir()}


@pytest.fixture
def run(tmp_path):
    """Two shards, the second of which keeps nothing, and a unit that is not packed."""
    storage = made.run(tmp_path / "run", [[sample("a"), rejected("b")], [rejected("c", reason="shot_boundary")]], megabytes=0.001)
    made.write(storage, 4, [sample("d_s000", clip="d"), failed("d_s001", clip="d")], group=1)
    return storage.local()


def test_the_summary_counts_clips_reasons_sizes_and_seconds(run, capsys):
    text = " ".join(shown(capsys, run).split())
    assert "4 clips: kept 2, rejected 2, failed 0" in text
    assert "shot_boundary │ 1" in text and "no_frames │ 1" in text
    assert "2 samples, 0.0 MB; shards: 3; seconds of video: 10" in text and "worker seconds per stage: split_shots 2.5" in text


def test_many_clips_are_counted_and_not_listed(run, capsys, monkeypatch):
    assert "│ b " in shown(capsys, run)
    monkeypatch.setattr(looks, "FEW", 3)
    text = shown(capsys, run)
    assert "│ b " not in text and "4 clips: kept 2" in text


def test_a_shard_alone_and_the_folder_of_shards(run, capsys, monkeypatch):
    assert "1 clips: kept 0, rejected 1" in shown(capsys, run / "shards" / "shard-00000-0001.parquet")
    assert "2 clips: kept 1, rejected 1" in shown(capsys, str(run / "shards" / "shard-00000-0000.tar"))
    assert "4 clips" in shown(capsys, run / "shards")
    monkeypatch.chdir(run / "shards")
    assert "4 clips" in shown(capsys, ".") and "2 clips" in shown(capsys, "shard-00000-0000.tar")


def test_the_count_that_a_run_has_noted_is_taken(run, capsys, monkeypatch):
    made.Storage.at(run).remove(ledger.Unit(1, 4).ledger)
    tally.tally(made.Storage.at(run), keep=True)
    monkeypatch.setattr(tally.Tally, "add", None)
    assert "3 clips: kept 1" in shown(capsys, run)


@pytest.mark.parametrize("old", [False, True])
def test_a_condition_over_the_ledger(run, tmp_path, capsys, old):
    storage = made.Storage.at(run)
    for name in ledger.files(storage) if old else ():
        made.age(storage, name)
    inspect(run, where="verdict = 'kept' AND duration > 1", extract=tmp_path / "some")
    text = capsys.readouterr().out
    assert "2 rows are so, 2 of them kept" in text and "d_s000" in text and "│ b " not in text
    assert {p.name.partition(".")[0] for p in (tmp_path / "some").iterdir()} == {"a", "d_s000"}
    assert "1 rows are so, 0 of them kept" in shown(capsys, run, None, None, "reason = 'shot_boundary' or false")


@pytest.mark.parametrize("few, extracted, scans", [(4, False, 1), (4, True, 1), (2, False, 2), (2, True, 2)])
def test_a_condition_reads_the_ledgers_as_seldom_as_it_can(run, tmp_path, capsys, monkeypatch, few, extracted, scans):
    asked = []
    monkeypatch.setattr(looks, "FEW", few)
    monkeypatch.setattr(looks, "where_rows", lambda *how: asked.append(how) or ledgers.where(*how))
    text = shown(capsys, run, None, tmp_path / "out" if extracted else None, "key <> 'c'")
    assert "4 rows are so, 2 of them kept" in text and ("and 2 more" in text) == (few == 2) and len(asked) == scans
    assert not extracted or {p.name[0] for p in (tmp_path / "out").iterdir()} == {"a", "d"}


def test_a_condition_sees_the_rows_that_count(run, capsys):
    made.run(run, [[sample("d_s001", clip="d")]], group=7, attempt=1)
    assert "0 rows are so" in shown(capsys, run, None, None, "verdict = 'failed'")
    assert "3 rows are so, 3 of them kept" in shown(capsys, run, None, None, "verdict = 'kept'")


@pytest.mark.parametrize(
    "condition",
    [
        "key IN (SELECT content FROM read_text('/etc/passwd'))",
        "1 < (SELECT count(*) FROM read_csv('/etc/passwd'))",
        "EXISTS (SELECT 1 FROM '/etc/passwd')",
        "true; COPY ledger TO '/tmp/stolen.csv'",
        "true) UNION ALL SELECT * FROM ledger --",
        "EXISTS (SELECT 1 FROM storage)",
        "getenv('HOME') <> ''",
        "no_such_column > 1",
        "",
    ],
)
def test_a_condition_reads_no_files_and_changes_nothing(run, condition):
    with pytest.raises(InputError, match="--where"):
        inspect(run, where=condition)


def test_a_clip_shows_all_its_shots_also_before_it_is_packed(run, capsys):
    text = shown(capsys, run, "d")
    assert "d_s000.mp4" in text and '"reason": "no_frames"' in text
    assert "d_s000.mp4" in shown(capsys, run, "d_s000")


def test_members_of_packed_and_unpacked_samples(run, tmp_path, capsys):
    inspect(run, None, tmp_path / "all")
    names = {f"{key}.{suffix}" for key in ("a", "d_s000") for suffix in ("mp4", "json", "frame0.jpg")}
    assert {p.name for p in (tmp_path / "all").iterdir()} == names


def test_a_run_in_a_bucket(s3, tmp_path, capsys):
    made.run(f"{s3}/run", [[sample("a"), rejected("b")], [sample("c")]])
    assert "3 clips: kept 2, rejected 1, failed 0" in shown(capsys, f"{s3}/run")
    assert '"too_short"' in shown(capsys, f"{s3}/run", "b")
    assert "1 rows are so, 1 of them kept" in shown(capsys, f"{s3}/run", None, tmp_path, "key = 'c'")
    assert (tmp_path / "c.mp4").read_bytes() == sample("c").files["mp4"] and not (tmp_path / "a.mp4").exists()


def test_what_is_not_there(run, tmp_path):
    with pytest.raises(InputError, match="no clip 'nobody'"):
        inspect(run, "nobody")
    for path in (tmp_path / "empty", run / "shards" / "shard-00009-0000.tar", run / "units"):
        with pytest.raises(InputError, match="no finished shard here"):
            inspect(path)


def test_a_caption_is_shown_as_it_is_and_obeyed_by_nobody(tmp_path, capsys):
    clip = sample("a")
    clip.meta["source"]["caption"] = "A man [/red] talks [bold]\x1b[2J."
    made.run(tmp_path, [[clip]])
    text = shown(capsys, str(tmp_path), None, None)
    assert "[/red]" in text and "[bold]" in text and "\x1b" not in text
