"""Hundreds of generated rows, odd in every way that a row can be: planning ends, each is one failed row, and no other suffers."""

from __future__ import annotations

import json
import math
import random
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.inputs.open import open_input
from tests.inputs.written import checked, sample, tar

SEEDS = range(12)
ROWS = 60
HALF = "\ud83d"


def odd_json(rng: random.Random) -> str:
    """A caption or a time as no row should have it, as JSON."""
    return rng.choice(
        ["5", "[]", "{}", "true", '[["A cat."]]', "NaN", "1e999", "9" * 5000, "[" * 2000 + "]" * 2000, '{"a": {"b": []}}', "-7"]
    )


def odd_line(rng: random.Random) -> str:
    whole = json.dumps({"path": "v.mp4", "caption": "A cat."})
    return rng.choice(
        [
            whole[: rng.randrange(1, len(whole) - 1)],
            f'{{"path": "v.mp4", "caption": {odd_json(rng)}}}',
            f'{{"path": "v.mp4", "caption": "A cat.", "start": {rng.choice(["NaN", "Infinity", "-1", "[1]", "9" * 500, chr(34) + "soon" + chr(34)])}}}',
            f'{{"path": {rng.choice(["5", "null", "[]", "{}", chr(34) * 2])}, "caption": "A cat."}}',
            f'{{"path": "{rng.choice(["v", ""])}\\ud83d.mp4", "caption": "A cat."}}',
            rng.choice(["[]", "5", "null", '"text"', "\x00", "\x1b[0m", "[" * 5000, "{,}", "{'path': 'v.mp4'}"]),
        ]
    )


def mixed(rng: random.Random, odd, good):
    """Rows and which of them are bad, about every third."""
    bad = [rng.random() < 0.35 for _ in range(ROWS)]
    return [odd(rng) if is_bad else good(i) for i, is_bad in enumerate(bad)], bad


def expect(samples, bad):
    found = checked(samples)
    assert [s.verdict.status for s in found] == ["failed" if is_bad else "kept" for is_bad in bad], [s.verdict for s in found]
    assert all(s.verdict.detail and s.verdict.stage == "inputs" for s in found if not s.alive)


@pytest.mark.parametrize("seed", SEEDS)
def test_jsonl(tmp_path, seed):
    rows, bad = mixed(
        random.Random(seed), odd_line, lambda i: json.dumps({"path": "v.mp4", "caption": f"A {HALF} cat.", "key": f"k{i}"})
    )
    rows[0], bad[0] = json.dumps({"path": "v.mp4", "caption": "A cat.", "start": 0.5}), False
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    (tmp_path / "v.mp4").touch()
    expect(open_input(str(tmp_path / "t.jsonl")), bad)


def odd_record(rng: random.Random) -> str:
    return rng.choice(
        [
            'v.mp4,"A cat,1,2,k',
            'v.mp4,"A cat""",nan,2,k',
            'v.mp4,"A ""cat,1,2,k',
            "v.mp4,A cat,inf,,k",
            "v.mp4,A cat,1,0,k",
            "v.mp4,A cat,x,,k",
            ",A cat,1,2,k",
            "v.mp4,A cat,1",
            "v.mp4,A cat,1,2,k,more,and more",
            '"v.mp4,A cat,1,2,k',
            "v.mp4,A cat," + "9" * 400 + ",,k",
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_csv(tmp_path, seed):
    rng = random.Random(seed)
    good = ["v.mp4,A cat,1,2,k{}", 'v.mp4,"A ""cat"", big",1,2,k{}', 'v.mp4,"A cat\non two lines",,,k{}']
    rows, bad = mixed(rng, odd_record, lambda i: rng.choice(good).format(i))
    (tmp_path / "t.csv").write_text("\n".join(["path,caption,start,end,key", *rows]) + "\n")
    (tmp_path / "v.mp4").touch()
    expect(open_input(str(tmp_path / "t.csv")), bad)


def odd_values(rng: random.Random) -> dict:
    good = {"path": "v.mp4", "caption": b"A cat.", "start": 1.0, "end": 2.0}
    return good | rng.choice(
        [
            {"start": math.nan},
            {"end": math.inf},
            {"end": 0.5},
            {"start": -3.0},
            {"path": None},
            {"path": ""},
            {"caption": b"\xff\xfe"},
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_parquet(tmp_path, seed):
    rows, bad = mixed(
        random.Random(seed), odd_values, lambda i: {"path": "v.mp4", "caption": b"A cat.", "start": i / 8, "end": None}
    )
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    texts = table["caption"].combine_chunks()
    captions = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())  # nobody looks whether it is UTF-8
    table = table.set_column(1, "caption", captions)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=16)
    (tmp_path / "v.mp4").touch()
    expect(open_input(str(tmp_path / "t.parquet")), bad)


@pytest.mark.parametrize("values", [[b"A cat."], [["A cat."]], [{"a": 1}], [datetime(2026, 1, 1)], [5], [True]])
def test_parquet_columns_of_odd_types(tmp_path, values):
    for column in ("caption", "start"):
        table = {"path": ["v.mp4"], "caption": ["A cat."], "start": [1.0]} | {column: values}
        if column == "start" and values in ([5], [True]):
            continue
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
        (tmp_path / "v.mp4").touch()
        expect(open_input(str(tmp_path / "t.parquet")), [True])


def odd_lists(rng: random.Random) -> str:
    time, caption, score = "[['0:00:01', '0:00:02']]", "['A cat.']", "[0.5]"
    time, caption, score = rng.choice(
        [
            (
                rng.choice(
                    ["[[1]]", "[5]", "[['a', 'b']]", "[['0:00:02', '0:00:01']]", "[[1e999, 2]]", "[['nan', '5']]", "[[[1], 2]]"]
                ),
                caption,
                score,
            ),
            (time, rng.choice(["['a', 'b']", "5", "{}", "['a'", "open('x')", "", "[5]", "[b'A cat.']", "[['A cat.']]"]), score),
            (time, caption, rng.choice(["['x']", "[1e999]", "[[]]", "[{1}]", "[1, 2]", "['nan']"])),
            ("[" * 300, caption, score),
            (time[:7], caption, score),
        ]
    )
    return f'v,https://u,"{time}","{caption}","{score}"'


@pytest.mark.parametrize("seed", SEEDS)
def test_panda70m_csv(tmp_path, seed):
    def good(i):
        return f"v,https://u,\"[['0:00:01', '0:00:0{2 + i % 7}.5']]\",\"['A \\\\ud83d cat.']\",\"[0.5]\""

    rows, bad = mixed(random.Random(seed), odd_lists, good)
    rows = [row.replace("v,", f"v{i},", 1) for i, row in enumerate(rows)]
    (tmp_path / "t.csv").write_text("\n".join(["videoID,url,timestamp,caption,matching_score", *rows]))
    for i in range(ROWS):
        (tmp_path / f"v{i}.mp4").touch()
    expect(open_input(str(tmp_path / "t.csv")), bad)


def odd_object(rng: random.Random) -> bytes:
    return rng.choice(
        [
            f"[{odd_json(rng)}]".encode(),
            f'{{"caption": {odd_json(rng)}}}'.encode(),
            b"{",
            b"\xff\xfe",
            b'{"caption": "A cat.", "url": "u"',
            b"",
        ]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_json_beside_the_videos(tmp_path, seed):
    rows, bad = mixed(random.Random(seed), odd_object, lambda i: b'{"caption": "A \\ud83d cat."}')
    for i, row in enumerate(rows):
        (tmp_path / f"v{i:03d}.mp4").touch()
        (tmp_path / f"v{i:03d}.json").write_bytes(row)
    expect(open_input(str(tmp_path)), bad)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_download_layout(tmp_path, seed):
    def odd(rng):
        labels = [
            '"matching_score": "x"',
            '"matching_score": 1e999',
            '"clips": []]',
            '"clips": [5]',
            '"clips": "[["',
            '"shot_boundary_detection": [1]',
        ]
        return rng.choice([odd_object(rng), f'{{"caption": "A cat.", {rng.choice(labels)}}}'.encode()])

    rows, bad = mixed(random.Random(seed), odd, lambda i: b'{"caption": "A \\ud83d cat.", "url": "http://[x", "clips": []}')
    for i, row in enumerate(rows):
        (tmp_path / f"{i:07d}_00000.mp4").touch()
        (tmp_path / f"{i:07d}_00000.json").write_bytes(row)
    expect(open_input(str(tmp_path)), bad)


@pytest.mark.parametrize("seed", SEEDS)
def test_tars(tmp_path, seed):
    rows, bad = mixed(
        random.Random(seed), odd_object, lambda i: json.dumps({"caption": f"A {HALF} cat.", "source": {"video": HALF}}).encode()
    )
    tar(tmp_path / "a.tar", [m for i, row in enumerate(rows) for m in ((f"k{i}.mp4", b"x"), (f"k{i}.json", row))])
    tar(tmp_path / "b.tar", sample("whole"))
    expect(open_input(str(tmp_path)), [*bad, False])
