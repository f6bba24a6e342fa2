from __future__ import annotations

import csv
from pathlib import Path

import pytest

from curation.benchmark.errors import BenchmarkError
from curation.benchmark.held_out import Source, seen
from curation.run import run as runs
from tests.benchmark import made
from tests.runs import FAST

URL = "https://example.org/watch?v="


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "fast.yaml").write_text(FAST)
    return str(tmp_path / "fast.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Videos red and green, with captions and without urls."""
    for name, colour in (("red", made.RED), ("green", made.GREEN)):
        made.video(tmp_path / "theirs" / f"{name}.mp4", colour, frames=24)
        (tmp_path / "theirs" / f"{name}.txt").write_text("A man walks.")
    return tmp_path / "theirs"


@pytest.fixture
def trained(tmp_path: Path, recipe: str, folder: Path) -> str:
    assert runs.run(recipe, str(folder), str(tmp_path / "trained"), local=True) == 0
    return str(tmp_path / "trained")


def table(path: Path, *rows: tuple[str, str, str]) -> str:
    """Of path, caption, url."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "caption", "url"), *rows])
    return str(path)


def test_equal_bytes_are_one_source_whatever_they_are_called(trained, folder, tmp_path):
    copy = tmp_path / "ours" / "another.mp4"
    copy.parent.mkdir()
    copy.write_bytes((folder / "red.mp4").read_bytes())
    other = made.video(tmp_path / "ours" / "green.mp4", made.BLUE, frames=24)
    same_size = copy.with_name("same-size.mp4")
    same_size.write_bytes(bytes(copy.stat().st_size))
    sources = {
        "copy": Source("another", "", str(copy)),
        "namesake": Source("green", "", str(other)),
        "size": Source("same-size", "", str(same_size)),
        "with-url": Source("new", f"{URL}new", str(copy)),
        "gone": Source("gone", "", str(tmp_path / "gone.mp4")),
    }
    assert seen(sources, [trained]) == {"copy", "with-url"}
    assert not seen(sources, [])


def test_a_name_is_enough_where_the_file_is_gone(trained, folder, tmp_path):
    own = made.video(tmp_path / "green.mp4", made.BLUE, frames=24)
    sources = {"green": Source("green", "", str(own)), "new": Source("new", "", str(own))}
    assert not seen(sources, [trained])
    (folder / "green.mp4").unlink()
    assert seen(sources, [trained]) == {"green"}


def test_ids_and_urls_that_are_known_decide(recipe, folder, tmp_path):
    rows = [(str(folder / "red.mp4"), "A man.", f"{URL}1"), (str(folder / "green.mp4"), "", f'{URL}2"\\é')]
    run = str(tmp_path / "run")
    assert runs.run(recipe, table(folder / "t.csv", *rows), run, local=True) == 0
    sources = {
        "same-url": Source("another", f"{URL}1", ""),
        "same-id": Source("red", f"{URL}another-form", ""),
        "rejected-there": Source("odd", f'{URL}2"\\é', ""),
        "new": Source("blue", f"{URL}3", str(folder / "red.mp4")),
        "no-url": Source("red", "", str(folder / "red.mp4")),
    }
    assert seen(sources, [run]) == {"same-url", "same-id", "rejected-there", "no-url"}


def test_what_is_no_run_is_told_of(tmp_path):
    with pytest.raises(BenchmarkError, match="--train .*no finished shard"):
        seen({}, [str(tmp_path)])
