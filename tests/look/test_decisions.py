from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from curation.inputs.files import InputError
from curation.look import decisions
from curation.look.decisions import NAME, add, dropped, read
from curation.storage import Storage


@pytest.fixture(params=["disk", "s3", "memory"])
def storage(request, tmp_path) -> Storage:
    root = {"disk": lambda: tmp_path, "s3": lambda: request.getfixturevalue("s3"), "memory": lambda: f"memory://{tmp_path}"}
    return Storage.at(f"{root[request.param]()}/run")


def test_the_newest_counts_and_every_line_stays(storage):
    assert read(storage) == {} and dropped(storage) == []
    add(storage, "a", "drop", 'two people,\nand a "sign"')
    add(storage, "b", "drop")
    made = add(storage, "b", "keep", " fine ")
    add(storage, "c", "drop")
    add(storage, "c", "")
    assert read(storage)["b"] == made and (made.note, made.time[-6:]) == ("fine", "+00:00") and made.who
    assert read(storage)["a"].note == 'two people, and a "sign"' and dropped(storage) == ["a"]
    lines = list(csv.reader(io.StringIO(storage.read(NAME).decode())))
    assert lines[0] == ["key", "decision", "note", "time", "who"]
    assert [line[:2] for line in lines[1:]] == [["a", "drop"], ["b", "drop"], ["b", "keep"], ["c", "drop"], ["c", ""]]


@pytest.mark.parametrize("kind", ["disk", "s3"])
def test_none_is_lost_among_several_writers(kind, tmp_path, request):
    storage = Storage.at(tmp_path if kind == "disk" else f"{request.getfixturevalue('s3')}/run")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: add(storage, f"k{i}", "keep"), range(12)))
    assert set(read(storage)) == {f"k{i}" for i in range(12)}


def test_a_line_that_was_cut_off_spoils_no_other(storage):
    add(storage, "a", "keep")
    storage.write(NAME, storage.read(NAME) + b"b,dr")
    assert dropped(storage) == [] and set(read(storage)) == {"a"}
    add(storage, "c", "drop")
    assert set(read(storage)) == {"a", "c"} and dropped(storage) == ["c"]


def test_a_file_by_hand(tmp_path):
    storage = Storage.at(tmp_path)
    storage.write(NAME, "\ufeffkey,decision\r\na,drop\r\nb,keep\r\n")
    assert dropped(storage) == ["a"] and read(storage)["b"].note == ""
    with pytest.raises(InputError, match="columns"):
        add(storage, "c", "drop")
    storage.write(NAME, "key,decision\na,dorp\n")
    with pytest.raises(InputError, match="line 2: 'dorp'"):
        read(storage)
    storage.write(NAME, "a,drop\n")
    with pytest.raises(InputError, match="first line"):
        read(storage)


def test_what_is_no_decision(tmp_path):
    for key, decision, note in (("a", "maybe", ""), ("", "drop", ""), ("a", "drop", "x" * (decisions.LONGEST_NOTE + 1))):
        with pytest.raises(ValueError):
            add(Storage.at(tmp_path), key, decision, note)
    assert not (tmp_path / NAME).exists()
