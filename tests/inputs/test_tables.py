from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.inputs import tables
from curation.inputs.files import InputError
from curation.inputs.open import open_input
from curation.inputs.tables import LINES, table
from tests.inputs.written import checked


@pytest.fixture
def csv(tmp_path):
    def write(text: str):
        (tmp_path / "t.csv").write_text(text)
        for name in "abcdefg":
            (tmp_path / f"{name}.mp4").write_bytes(b"x")
        return {s.key: s for s in checked(open_input(str(tmp_path / "t.csv")))}

    return write


def test_an_unbalanced_quote_costs_its_own_row(csv):
    """A thousand rows follow, and none of them is swallowed."""
    rows = [f"a.mp4,A cat {i},k{i}" for i in range(1000)]
    clips = csv("path,caption,key\n" + 'b.mp4,"A dog,bad\n' + "\n".join(rows) + "\n")
    assert len(clips) == 1001 and sum(s.alive for s in clips.values()) == 1000
    bad = clips["row1"].verdict
    assert bad.reason == "bad_csv" and "row 1 (line 2)" in bad.detail and clips["k999"].caption == "A cat 999"


@pytest.mark.parametrize("after", [0, 1, 5, LINES - 2, LINES, 3 * LINES])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_quote_that_is_not_closed_is_found_wherever_it_stands(csv, after, quoted):
    """Also where the next quote is another row's, or the file ends."""
    rows = [f'a.mp4,"A cat, {i}",k{i}' if quoted else f"a.mp4,A cat {i},k{i}" for i in range(after)]
    clips = csv("\n".join(["path,caption,key", "b.mp4,A dog,first", 'c.mp4,"A cow,bad', *rows]))
    assert {k for k, s in clips.items() if s.alive} == {"first", *(f"k{i}" for i in range(after))}
    assert clips["row2"].verdict.reason == "bad_csv" and len(clips) == after + 2


def test_a_quote_that_another_row_closes(csv):
    """What is between would be a caption of three lines, but they are rows."""
    clips = csv('path,caption\na.mp4,"A cat.\nb.mp4,A dog.\nc.mp4,A cow."\nd.mp4,A pig.\n')
    assert {k: s.caption for k, s in clips.items() if s.alive} == {"b": "A dog.", "c": 'A cow."', "d": "A pig."}
    assert clips["row1"].verdict.reason == "bad_csv" and "1 lines on" in clips["row1"].verdict.detail


def test_captions_of_several_lines_are_sound(csv):
    clips = csv(
        'path,caption,key\na.mp4,"A cat,\n\na ""big"" one,\r\nsits.",a\nb.mp4,"one\n'
        + "line\n" * (LINES - 3)
        + 'more",b\nc.mp4,5" pipe,c\n'
    )
    assert all(s.alive for s in clips.values())
    assert (
        clips["a"].caption == 'A cat, a "big" one, sits.'
        and clips["c"].caption == '5" pipe'
        and clips["b"].caption.endswith("line more")
    )


def test_line_numbers_are_the_files_own(csv):
    clips = csv('path,caption\n\na.mp4,"A\ncat."\n\nb.mp4\n')
    assert clips["row2"].verdict.detail == "row 2 (line 6): the row has another number of columns than the header"


def test_infinity_in_a_csv(csv):
    clips = csv("path,caption,start,end\na.mp4,A cat.,inf,\nb.mp4,A cat.,1,nan\nc.mp4,A cat.,x,\nd.mp4,A cat.,1,2\n")
    assert [s.verdict.reason for s in clips.values()] == ["bad_number", "bad_number", "bad_timestamp", ""]


def rows(count):
    return pa.table({"path": [f"v{i}.mp4" for i in range(count)], "caption": [f"A cat {i}." for i in range(count)]})


def test_nan_from_pandas(tmp_path):
    pq.write_table(
        pa.table({"path": ["a.mp4", "b.mp4"], "caption": ["A cat."] * 2, "start": [float("nan"), 1.0]}), tmp_path / "t.parquet"
    )
    (tmp_path / "b.mp4").touch()
    bad, good = checked(open_input(str(tmp_path / "t.parquet")))
    assert bad.verdict.reason == "bad_number" and "row 1" in bad.verdict.detail and good.alive


def test_a_parquet_file_damaged_in_the_middle(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(rows(300), path, row_group_size=100, compression="zstd")
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(1).column(1)
        start, size = column.data_page_offset, column.total_compressed_size
    data = bytearray(path.read_bytes())
    data[start : start + size // 2] = random.Random(0).randbytes(size // 2)
    path.write_bytes(data)
    found = list(table(str(path)))
    bad = [row for row in found if row.error]
    assert len(bad) == 1 and bad[0].error.reason == "bad_parquet" and "to 200" in bad[0].error.detail
    good = {row.number for row in found if not row.error}
    assert good >= {*range(1, 101), *range(201, 301)} and len({row.number for row in found}) == len(found)


@pytest.mark.parametrize("keep", [4, 100, -1])
def test_a_parquet_file_that_cannot_be_opened_is_one_line(tmp_path, keep):
    pq.write_table(rows(300), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data[:keep])
    with pytest.raises(InputError, match="not a readable Parquet file"):
        open_input(str(tmp_path / "t.parquet"))


def test_a_value_that_python_does_not_hold_fails_its_row(tmp_path):
    """A string column whose bytes are no text: Arrow gives 1,024 rows at once or none."""
    bad = pa.array([b"a.mp4", b"b.mp4", b"c.mp4"]).cast(pa.string())
    captions = pa.Array.from_buffers(pa.string(), 3, pa.array([b"ok", b"\xff\xfe", b"ok"]).buffers())
    pq.write_table(pa.table({"path": bad, "caption": captions}), tmp_path / "t.parquet")
    for name in "abc":
        (tmp_path / f"{name}.mp4").touch()
    clips = checked(open_input(str(tmp_path / "t.parquet")))
    assert [s.verdict.reason for s in clips] == ["", "bad_row", ""] and "row 2" in clips[1].verdict.detail


def test_columns_that_nobody_asked_for_are_not_read(tmp_path):
    big = pa.array([10**15] * 2, pa.int64()).cast(pa.timestamp("s"))  # in 31 million years
    pq.write_table(rows(2).append_column("when", big), tmp_path / "t.parquet")
    assert [s.verdict.reason for s in open_input(str(tmp_path / "t.parquet"))] == ["not_downloaded"] * 2


def test_bad_lines_of_a_jsonl(tmp_path):
    lines = [
        "[1, 2]",
        "{bad",
        '{"path": "a.mp4", "caption": "A \\ud83d cat."}',
        "[" * 100_000,
        '{"path": "a.mp4", "caption": NaN}',
    ]
    lines += [
        '{"path": "a.mp4", "caption": "A cat.", "start": 1e999}',
        f'{{"path": "a.mp4", "caption": {"9" * 5000}}}',
        "",
        '{"path": ["a"]}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    (tmp_path / "a.mp4").touch()
    clips = checked(open_input(str(tmp_path / "t.jsonl")))
    reasons = [s.verdict.reason for s in clips]
    assert reasons == ["bad_json", "bad_json", "", "bad_json", "bad_caption", "bad_number", "bad_json", "bad_path"]
    assert "row 8 (line 9)" in clips[-1].verdict.detail and clips[2].caption == "A ? cat."


def test_a_table_without_any_row(tmp_path):
    (tmp_path / "t.csv").write_text("")
    (tmp_path / "t.jsonl").write_text("{bad\n")
    assert tables.columns(str(tmp_path / "t.csv")) == tables.columns(str(tmp_path / "t.jsonl")) == []
