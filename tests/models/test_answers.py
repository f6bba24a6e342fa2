from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

from curation.models.answers import Answers


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_what_was_added_is_found_by_others(tmp_path: Path) -> None:
    Answers(tmp_path / "a").add({key("1"): 'é "\\\n\u2028', key("2"): ""})
    assert Answers(tmp_path / "a").find([key("1"), key("2"), key("3")]) == {key("1"): 'é "\\\n\u2028', key("2"): ""}
    assert Answers(tmp_path / "b").find([key("1")]) == {} == Answers(tmp_path / "b").add({})


def test_the_first_answer_counts(tmp_path: Path) -> None:
    assert Answers(tmp_path).add({key("1"): "first"}) == {key("1"): "first"}
    assert Answers(tmp_path).add({key("1"): "second", key("2"): "x"}) == {key("1"): "first", key("2"): "x"}
    assert Answers(tmp_path).find([key("1")]) == {key("1"): "first"}


def test_a_torn_line_costs_its_own_answer_only(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    one, other = "abcd" + "0" * 60, "abcd" + "1" * 60
    answers.add({one: "kept"})
    [file] = tmp_path.rglob("*.jsonl")
    with file.open("ab") as stream:
        stream.write(b'[1]\n{"key": 3}\n\xff\n{"key": "abcd1')
    answers.add({other: "after"})
    assert answers.find([one, other]) == {one: "kept", other: "after"}


def _add(folder: Path, who: int) -> list[str]:
    return list(Answers(folder).add({key(str(i)): f"{who}" for i in range(40)}).values())


def test_processes_agree(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(_add, [(tmp_path, who) for who in range(3)])
    there = Answers(tmp_path).find([key(str(i)) for i in range(40)])
    assert len(there) == 40 and all(sorted(some) == sorted(there.values()) for some in found)
    assert sum(len(file.read_text().splitlines()) for file in tmp_path.rglob("*.jsonl")) == 40
