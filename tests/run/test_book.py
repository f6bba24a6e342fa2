from __future__ import annotations

import pytest

from curation.run.book import Book, LocalBook
from curation.storage import Storage


def test_who_dies_leaves_its_units_under_suspicion():
    book = Book()
    book.enter("w", "life 1", "node")
    book.start("w", "u1")
    book.done("w", "u1")
    book.start("w", "u2")
    book.enter("w", "life 2", "node")
    assert book.start("w", "u1") == (0, {}) and book.start("w", "u2") == (1, {})


def test_two_deaths_alone_condemn_a_clip():
    book = Book()
    for life in ("1", "2", "3"):
        book.enter("w", life, "node")
        deaths, killers = book.start("w", "u")
        assert killers == {}
        if deaths:
            book.touch("w", "u", "poison")
    book.enter("w", "4", "node")
    assert book.start("w", "u") == (3, {"poison": ("", "worker_died")})


def test_a_node_that_went_says_nothing_of_its_clips():
    alive = {"a", "b"}
    book = Book(alive.__contains__)
    book.enter("w", "1", "a")
    book.start("w", "u")
    alive.remove("a")
    book.enter("w", "2", "b")
    assert book.start("w", "u") == (0, {})
    book.enter("w", "3", "b")
    assert book.start("w", "u") == (1, {})


def test_who_leaves_by_itself_is_not_dead():
    book = Book()
    book.enter("w", "1", "node")
    book.start("w", "u")
    book.leave("w")
    book.enter("w", "2", "node")
    assert book.start("w", "u") == (0, {})


def test_names_that_begin_alike_are_others():
    book = Book()
    book.enter("w", "1", "node")
    book.start("w", "00000-000001")
    book.enter("w", "2", "node")
    assert book.start("w", "00000-00000") == (0, {})


def test_lives_that_end_before_any_work_are_counted():
    book = Book()
    assert [book.enter("w", life, "node") for life in "123"] == [0, 1, 2]
    book.start("w", "u")
    assert [book.enter("w", life, "node") for life in "45"] == [0, 1]


def test_a_breakdown_is_the_first_one_once_per_unit():
    book = Book()
    assert [book.breaks("u"), book.breaks("u"), book.breaks("v")] == [True, False, True]


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


def test_a_killed_process_is_told_of_by_its_file(storage):
    for life in ("1", "2", "3"):
        book = LocalBook(storage)
        book.enter("local", life, "here")
        if book.start("local", "u")[0]:
            book.touch("local", "u", "poison")
    book = LocalBook(storage)
    book.enter("local", "4", "here")
    assert book.start("local", "u") == (3, {"poison": ("", "worker_died")})


def test_an_orderly_end_leaves_no_file_and_no_suspicion(storage):
    book = LocalBook(storage)
    book.enter("local", "1", "here")
    book.start("local", "u")
    book.close()
    assert not storage.exists(LocalBook.FILE)
    assert LocalBook(storage).deaths == {}


def test_a_torn_file_is_no_evidence(storage):
    storage.write(LocalBook.FILE, '{"deaths": ')
    assert LocalBook(storage).deaths == {}


def test_work_that_does_not_end_names_its_clip(tmp_path):
    book = LocalBook(Storage.at(tmp_path))
    book.enter("local", "1", "here")
    book.start("local", "u")
    book.stuck("crop_faces", ["a", "b"])
    assert book.start("local", "u")[1] == {}, "of two nothing is known"
    book.stuck("crop_faces", ["b"])
    after = LocalBook(Storage.at(tmp_path))  # of the process that follows
    after.enter("local", "2", "here")
    assert after.start("local", "u") == (1, {"b": ("crop_faces", "too_slow")})
