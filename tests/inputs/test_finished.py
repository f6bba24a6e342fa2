from __future__ import annotations

import json
import shutil

import pytest

from curation.inputs.files import InputError
from curation.inputs.open import open_input
from curation.storage import Storage
from tests.inputs.written import checked, stored, verdicts
from tests.shards import made


def known(key, clip=None, **source):
    """A kept sample of a first pass, of which its input has said something."""
    sample = made.sample(
        key, clip=clip, score_quality={"score": 0.75}, segment_entities={"entities": []}, extract_entities={"entities": []}
    )
    sample.meta["source"] |= source
    return sample


def write(out, units=None, **more):
    units = units or [[known("a", matching_score=0.4), made.rejected("b")], [known("c"), made.failed("d")]]
    return made.run(out, units, **more)


def plan(out, units, complete=True):
    (out / "plan").mkdir()
    groups = [{"group": i, "units": n, "clips": 0, "attempt": 0} for i, n in enumerate(units)]
    (out / "plan/plan.json").write_text(json.dumps({"complete": complete, "groups": groups}))


def test_a_finished_run_keeps_what_it_knew(tmp_path):
    shots = [[0.0, 1.0], [1.0, 2.0]]
    write(
        tmp_path,
        [
            [
                known("a", matching_score=0.4, shots=shots, origin=[80.5, 84.0], scores={"old": {"x": 1}}),
                known("p_s001", clip="p", shots=shots),
            ]
        ],
    )
    a, part = checked(open_input(str(tmp_path)))
    source = a.meta["source"]
    assert (
        source["matching_score"] == 0.4 and source["url"] == "https://x/v" and source["video"] == "v" and source["shots"] == shots
    )
    assert source["origin"] == [81.5, 83.5], "1 to 3 s of what was cut out at 80.5 s"
    assert source["scores"]["score_quality"] == {"score": 0.75} and source["scores"]["old"] == {"x": 1}
    assert (source["start"], source["end"]) == (None, None) and a.caption == "A man talks."
    assert part.meta["source"]["origin"] == [1.0, 3.0] and "shots" not in part.meta["source"] and part.key == "p_s001"


def test_the_clip_is_read_by_its_place(tmp_path):
    """Also one with a name so long that its header takes three blocks."""
    long = "k" * 120
    write(tmp_path, [[known("a"), known(long)], [known("c")]])
    clips = checked(open_input(str(tmp_path)))
    assert [s.key for s in clips] == ["a", clips[1].key, "c"] and clips[1].meta["source"]["member"] == f"{long}.mp4"
    for clip, key in zip(clips, ["a", long, "c"], strict=True):
        assert stored(clip) == made.sample(key).files["mp4"]


def test_a_key_stays_what_it_is(tmp_path):
    """Also of a shot that an earlier run has planned again, and of one whose clip has the longest key."""
    keys = {
        "a_s001": "a_s001",
        "b_s001_s000": "b_s001",
        "k" * 96 + "_s1000": "k" * 96,
        "k" * 96 + "_s001_s002": "k" * 96 + "_s001",
    }
    write(tmp_path, [[made.sample(key, clip=clip) for key, clip in keys.items()]])
    assert [s.key for s in open_input(str(tmp_path))] == list(keys)


def test_only_what_is_kept_and_in_planned_order(tmp_path):
    write(tmp_path)
    assert verdicts(open_input(str(tmp_path))) == verdicts(open_input(str(tmp_path / "shards"))) == {"a": "", "c": ""}


def test_a_run_that_keeps_nothing_is_an_empty_input(tmp_path):
    write(tmp_path, [[made.rejected("b")]])
    assert list(open_input(str(tmp_path))) == []


def test_without_ledgers_the_tars_say_the_same(tmp_path):
    write(tmp_path / "run", [[known("a", matching_score=0.4, origin=[80.5, 84.0])]])
    by_ledger = checked(open_input(str(tmp_path / "run")))
    (tmp_path / "tars").mkdir()
    for path in (tmp_path / "run/shards").glob("*.tar"):
        shutil.copy(path, tmp_path / "tars")
    by_tar = checked(open_input(str(tmp_path / "tars")))
    a, b = ({k: v for k, v in s[0].meta["source"].items() if k not in ("path", "scores")} for s in (by_ledger, by_tar))
    assert a == b and a["origin"] == [81.5, 83.5] and by_tar[0].meta["source"]["scores"]["score_quality"] == {"score": 0.75}
    (ledger,) = (tmp_path / "run/shards").glob("*.parquet")
    (tmp_path / "tars" / ledger.name).write_bytes(ledger.read_bytes()[:-100])
    assert verdicts(open_input(str(tmp_path / "tars"))) == {"a": ""}, "a damaged ledger is none"


def test_somebody_elses_table_beside_a_tar_is_no_ledger(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.inputs.written import sample, tar

    tar(tmp_path / "00000.tar", sample("a"))
    pq.write_table(pa.table({"key": ["a"], "verdict": ["kept"]}), tmp_path / "00000.parquet")
    assert verdicts(open_input(str(tmp_path))) == {"00000_a": ""} == verdicts(open_input(str(tmp_path / "00000.tar")))


def test_a_shard_that_is_gone_or_torn(tmp_path):
    write(tmp_path, [[known("a"), known("b")], [known("c")]], megabytes=0.001)
    first, second = sorted((tmp_path / "shards").glob("*.tar"))
    first.unlink()
    assert list(verdicts(open_input(str(tmp_path))).values()) == ["no_shard", ""]
    second.write_bytes(second.read_bytes()[:1000])
    assert list(verdicts(open_input(str(tmp_path))).values()) == ["no_shard", "bad_tar"]
    second.write_bytes(b"\x07" * 20_000)
    assert verdicts(open_input(str(tmp_path)))["c"] == "bad_row"


@pytest.mark.parametrize("units", [[3], [2, 1], []])
def test_a_run_that_is_not_finished_is_refused(tmp_path, units):
    write(tmp_path)
    plan(tmp_path, units)
    with pytest.raises(InputError, match="not finished"):
        open_input(str(tmp_path))


def test_a_run_of_which_units_are_not_packed_is_refused(tmp_path):
    write(tmp_path)
    plan(tmp_path, [2])
    assert len(list(open_input(str(tmp_path)))) == 2
    made.write(Storage.at(tmp_path), 0, [known("x")], group=1)
    with pytest.raises(InputError, match="not finished"):
        open_input(str(tmp_path))


def test_a_finished_run_in_an_object_store(s3):
    write(f"{s3}/run")
    clips = checked(open_input(f"{s3}/run"))
    assert [s.key for s in clips] == ["a", "c"] and clips[0].meta["source"]["path"].startswith(f"{s3}/run/shards/")
    assert stored(clips[1]) == made.sample("c").files["mp4"]
