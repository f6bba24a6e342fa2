"""What a filter is trained on: which shots, whose labels, in which part."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from curation.inputs.files import InputError
from curation.quality.examples import FRAMES
from curation.quality.measured import AS_IT_IS, MADE, is_raw, jobs
from curation.quality.sources import Said, Shot, folds, labelled, read_labels, shots
from curation.stages.score_quality import CLASSES
from tests import videos


def film(path: Path, count: int, colours: tuple[tuple[int, int, int], ...] = ((90, 90, 90),)) -> None:
    """`count` numbered frames, in as many shots as colours."""
    each = count // len(colours)
    videos.write([videos.picture(at, colour=colours[min(at // each, len(colours) - 1)]) for at in range(count)], path=path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Shot], Counter[str], Path]:
    folder = tmp_path_factory.mktemp("clips")
    film(folder / "long.mp4", 120, ((200, 30, 30), (20, 40, 220)))
    film(folder / "part1.mp4", 40)
    film(folder / "part2.mp4", 48)
    film(folder / "short.mp4", 12)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder.parent / "labels.csv").write_text("key,label,video\nlong,,\npart1,slight motion,both\npart2,desirable,both\n")
    output = tmp_path_factory.mktemp("out")
    shown, became = shots(str(folder), output, folder.parent / "labels.csv", None, None)
    for file in folder.iterdir():
        file.write_bytes(b"gone")
    again, then = shots(str(folder), output, folder.parent / "labels.csv", None, None)
    assert (again, then) == (shown, became), "what was taken once is not taken again"
    return shown, became, output


def test_every_clip_is_accounted_for(found: tuple[list[Shot], Counter[str], Path]) -> None:
    shown, became, _ = found
    assert [(s.key, s.video, s.label) for s in shown] == [
        ("long_s000", "long", None),
        ("long_s001", "long", None),
        ("part1", "both", "slight_motion"),
        ("part2", "both", "desirable"),
    ]
    assert +became == Counter(used=4, too_short=1, not_a_video=1)


def test_pictures_are_evenly_spaced_over_the_shot(found: tuple[list[Shot], Counter[str], Path]) -> None:
    shown = found[0]
    for shot, first, last in ((shown[1], 60, 119), (shown[2], 0, 39)):
        pictures = shot.pictures()
        assert pictures.shape == (FRAMES, 112, 208, 3) and pictures.dtype == np.uint8
        numbers = [videos.number_of(picture) for picture in pictures]
        wanted = [first + round(at * (last - first) / (FRAMES - 1)) for at in range(FRAMES)]
        assert np.abs(np.array(numbers) - wanted).max() <= 1 and numbers[0] == first and numbers[-1] == last


def test_a_shot_of_few_frames_shows_some_twice(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    videos.write([videos.picture(at) for at in range(10)], path=tmp_path / "in/slow.mp4", rate=5)
    shown, _ = shots(str(tmp_path / "in"), tmp_path / "out", None, None, None)
    numbers = [videos.number_of(picture) for picture in shown[0].pictures()]
    assert len(numbers) == FRAMES and sorted(set(numbers)) == list(range(10)) and numbers == sorted(numbers)


def shot(key: str, video: str, label: str | None = None) -> Shot:
    return Shot(key, video, label, Path("x"), 0)


def test_a_video_is_in_one_part_and_parts_are_alike() -> None:
    shown = [shot(f"{v}-{n}", f"v{v}") for v in range(23) for n in range(1 + v % 4)]
    part = folds(shown, 5)
    assert set(part) == {f"v{v}" for v in range(23)} and set(part.values()) == set(range(5))
    sizes = Counter(part[s.video] for s in shown)
    assert max(sizes.values()) - min(sizes.values()) <= 4
    assert folds(shown[::-1], 5) == part


def test_what_panda70m_was_not_sure_of_is_left_out() -> None:
    kept = list(labelled([shot("a", "a", "low_desirable_score"), shot("b", "b"), shot("c", "c", "slight_motion")]))
    assert [s.key for s in kept] == ["b", "c"]


def test_labels_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    file.write_text("\ufeffkey,label\na,2_tiny_camera_movement\nb,Screen in screen\n", encoding="utf-8")
    assert read_labels(file) == {"a": Said("slight_motion", ""), "b": Said("screen_in_screen", "")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name,label\na,desirable\n", "its columns should be key and label, they are name, label"),
        (b"key,label\na,desirable\nb,lovely\n", r"l.csv:3: no class 'lovely'"),
        (b"\xff\xfe\x00k", "cannot be read"),
        (b"", "its columns should be key and label"),
    ],
)
def test_wrong_labels_are_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        read_labels(tmp_path / "l.csv")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")


def test_labels_of_no_clip_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    film(tmp_path / "in/a.mp4", 20)
    (tmp_path / "l.csv").write_text("key,label\na,desirable\nb,desirable\n")
    with pytest.raises(InputError, match="1 keys are no clips of the input, such as 'b'"):
        shots(str(tmp_path / "in"), tmp_path / "out", tmp_path / "l.csv", None, None)


def test_panda70ms_seven_columns(tmp_path: Path) -> None:
    """Its published labels, as its CSV has them since October 2024, are what is trained on; what is undesirable is no base."""
    (tmp_path / "videos").mkdir()
    film(tmp_path / "videos/abc.mp4", 120)
    columns = "videoID,url,timestamp,caption,matching_score,desirable_filtering,shot_boundary_detection"
    times = "[['0:00:00.000', '0:00:01.200'], ['0:00:01.200', '0:00:02.400'], ['0:00:02.400', '0:00:03.600']]"
    labels = "['1_still_foreground_image', 'desirable', '0_low_desirable_score']"
    bounds = "[[['0:00:00.000', '0:00:01.170']], [['0:00:00.000', '0:00:01.170']], [['0:00:00.000', '0:00:01.170']]]"
    cells = ["abc", "https://x", times, "['a dog', 'a cat', 'a cow']", "[0.5, 0.4, 0.4]", labels, bounds]
    with (tmp_path / "panda.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns.split(","), cells])
    shown, became = shots(str(tmp_path / "panda.csv"), tmp_path / "out", None, None, None)
    assert [s.label for s in shown] == ["still_foreground_image", "desirable", "low_desirable_score"]
    assert len({s.video for s in shown}) == 1 and +became == Counter(used=3)
    still, desirable = labelled(shown)
    assert not is_raw(still) and is_raw(desirable)
    assert {(kind, label) for kind, label, _ in jobs(still)} == {(AS_IT_IS, still.label), (MADE, still.label)}
    assert {label for _, label, _ in jobs(desirable)} == set(CLASSES)
