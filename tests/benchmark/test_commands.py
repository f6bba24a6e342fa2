"""What is wrong with what a user typed is one line, said before anything heavy is loaded."""

from __future__ import annotations

import pytest

from tests.benchmark import made
from tests.runs import curation


@pytest.mark.parametrize(
    "words, told",
    [
        (("evaluate", "VIDEOS", "--benchmark", "none", "--mode", "subject"), "none: no such folder"),
        (("evaluate", "none", "--benchmark", "BENCH", "--mode", "face", "--local"), "none: No such file"),
        (("evaluate", "VIDEOS", "--benchmark", "BENCH", "--mode", "subject"), "no file there is called after one of the 1 clips"),
        (("benchmark", "build", "--input", "none", "--output", "OUT", "--local"), "--input none: nothing is there"),
        (
            ("benchmark", "build", "--input", "VIDEOS", "--output", "OUT", "--train", "VIDEOS"),
            "--train VIDEOS: no finished shard",
        ),
        (("benchmark", "build", "--input", "VIDEOS", "--output", "OUT", "--recipe", "benchmrk"), "benchmrk: cannot be read"),
        (("benchmark", "prepare", "none", "--videos", "VIDEOS", "--output", "OUT"), "none: no KEY.vid_info.json there"),
    ],
)
def test_one_line(tmp_path, words, told):
    made.clip(tmp_path / "bench", "a")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "other.mp4").touch()
    places = {"VIDEOS": str(tmp_path / "videos"), "BENCH": str(tmp_path / "bench"), "OUT": str(tmp_path / "out")}
    done = curation(*(places.get(word, word) for word in words))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert told.replace("VIDEOS", places["VIDEOS"]) in done.stderr and done.stderr.startswith("curation: ")
