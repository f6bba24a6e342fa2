"""An annotation as MP's own script reads it (its zip is in no registry), with videos whose frames say their numbers."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.benchmark import folder, released, videos
from curation.benchmark.case import picture
from curation.benchmark.errors import BenchmarkError
from curation.faults import DataError
from tests import videos as written

SIZE = 208, 112
MASK = np.zeros((60, 80), bool)
MASK[10:50, 20:60] = True


def cut(frame: int, box: tuple[int, int, int, int] = (20, 30, 100, 90), mask: Any = MASK, face: bool = False) -> dict[str, Any]:
    return {"filename": f"frame{frame}.jpg", "box_xyxy": list(box), "mask": mask, "is_face_crop": face}


CUTS = {
    "old man": [cut(1), cut(2), cut(2, (30, 40, 50, 60), np.ones((20, 20)), True)],
    "a/c unit": [cut(3, (150, 60, 208, 112), np.ones((60, 60), np.uint8).tolist())],
}
TAGS = {"subject": ["old man"], "object": ["a/c unit"], "background": ["street"], "subject_with_face": ["old man"]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """60 frames at 20 a second, each with its number."""
    (tmp_path / "msrvtt").mkdir()
    written.write([written.picture(number) for number in range(60)], tmp_path / "msrvtt" / "video7.mp4", rate=20)
    return tmp_path / "msrvtt"


def annotate(place: Path, key: str, cuts: Any = CUTS, packed: bytes | None = None, **info: Any) -> Path:
    place.mkdir(exist_ok=True)
    said = {
        "video": "video7.mp4",
        "resolution": SIZE,
        "timestamp": ["00:00:01.000", "00:00:02.000"],
        "caption": "An old man below an a/c unit.",
        "word_tags": TAGS,
    }
    (place / f"{key}.vid_info.json").write_text(json.dumps(said | info))
    with gzip.open(place / f"{key}.word_tags_masks.pkl.gz", "wb") as file:
        file.write(pickle.dumps(cuts) if packed is None else packed)
    return place


def test_an_annotation_becomes_the_clips_folder(source, tmp_path):
    annotate(tmp_path / "ann", "video7_0")
    assert released.prepare(tmp_path / "ann", source, tmp_path / "out") == 1
    (case,) = folder.cases(tmp_path / "out", "face")
    assert (case.key, case.prompt, case.background) == ("video7_0", "An old man below an a/c unit.", "street")
    video = videos.read(case.video)
    assert [written.number_of(frame) for frame in video.frames] == list(range(20, 40)) and video.fps == 20
    assert [written.number_of(frame) for frame in case.frames] == [21, 30, 39], "5, 50 and 95 % of the clip"
    assert case.scene() is None
    names = [path.name for word in case.words for path in case.cutouts[word]]
    assert names == ["old_man.frame1.png", "old_man.frame2.png", "a_c_unit.frame3.png"]
    first, (face,), (unit,) = case.references("old man")[0], case.faces("old man"), case.references("a/c unit")
    assert np.array_equal(first[..., 3] > 0, MASK) and np.array_equal(first[..., :3], case.frames[0][30:90, 20:100])
    assert np.array_equal(face[..., :3], case.frames[1][40:60, 30:50]), "all colours, also where there is no mask"
    assert unit.shape == (52, 58, 4) and unit[..., 3].min() == 255, "what is outside of the frame is cut off the mask"
    assert json.loads((tmp_path / "out" / "prepared.json").read_text()) == {"clips": 1, "left_out": {}}


def test_what_is_there_is_not_made_again(source, tmp_path):
    annotate(tmp_path / "ann", "a")
    released.prepare(tmp_path / "ann", source, tmp_path / "out")
    before = (tmp_path / "out" / "msrvtt_personalization_data" / "a" / "video.mp4").stat().st_mtime_ns
    annotate(tmp_path / "ann", "b", resolution=(416, 224))
    assert released.prepare(tmp_path / "ann", source, tmp_path / "out") == 2
    assert (tmp_path / "out" / "msrvtt_personalization_data" / "a" / "video.mp4").stat().st_mtime_ns == before
    assert picture(tmp_path / "out" / "msrvtt_personalization_data" / "b" / "frame1.jpg").shape == (224, 416, 4)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch EVIL",)


def evil_array() -> np.ndarray:
    array = np.empty((1, 1), object)
    array[0, 0] = Evil()
    return array


@pytest.mark.parametrize(
    "told, how",
    [
        ("bad_masks", {"cuts": Evil()}),
        ("bad_masks", {"cuts": {"old man": [cut(1, mask=evil_array())]}}),
        ("bad_masks", {"packed": b"no pickle"}),
        ("bad_masks", {"cuts": ["no dict"]}),
        ("bad_masks", {"cuts": {"old man": [{"filename": "frame1.jpg"}]}}),
        ("bad_masks", {"cuts": {"old man": [cut(1) | {"filename": "../frame1.jpg"}]}}),
        ("bad_masks", {"cuts": {"old man": [cut(1, (300, 300, 310, 310))]}}),
        ("bad_masks", {"cuts": {"old man": [cut(1, mask=np.ones((5, 5)))]}}),
        ("bad_masks", {"cuts": {"old man": [cut(1, (-5, 0, 9, 9))]}}),
        ("odd_word", {"cuts": {"a\\b": [cut(1)]}}),
        ("no old_man.frameN.png", {"cuts": {"a/c unit": CUTS["a/c unit"]}}),
        ("no_video", {"video": "video8.mp4"}),
        ("bad_info", {"video": "../msrvtt/video7.mp4"}),
        ("bad_info", {"timestamp": ["00:00:02.000", "00:00:01.000"]}),
        ("bad_info", {"resolution": [1, 1]}),
        ("bad_info", {"resolution": "large"}),
        ("bad_timestamp", {"timestamp": ["one", "two"]}),
        ("starts_beyond_end", {"timestamp": ["00:00:09.000", "00:00:10.000"]}),
        ("word_tags.json", {"word_tags": {"subject": [1]}}),
    ],
)
def test_what_cannot_be_used_is_left_out_and_nothing_is_run(source, tmp_path, monkeypatch, told, how):
    monkeypatch.chdir(tmp_path)
    annotate(tmp_path / "ann", "good")
    annotate(tmp_path / "ann", "bad", **how)
    assert released.prepare(tmp_path / "ann", source, tmp_path / "out") == 1
    assert told in json.loads((tmp_path / "out" / "prepared.json").read_text())["left_out"]["bad"]
    assert [path.name for path in (tmp_path / "out" / "msrvtt_personalization_data").iterdir()] == ["good"]
    assert not list(tmp_path.rglob("EVIL")) and not [path for path in (tmp_path / "out").iterdir() if path.name[0] == "."]


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(pickle.dumps(CUTS))[:-20],
        gzip.compress(pickle.dumps(CUTS))[:15] + b"\xff" * 40,
        gzip.compress(b"cnumpy\nndarray\n(((L1000000000000000000L\nttR."),  # larger than any memory
        gzip.compress(b"(" * 3 + b"l" + b"c_codecs\nencode\n(Vx\nVrot13\ntR."),
    ],
    ids=["no gzip", "cut short", "damaged", "larger than any memory", "another codec"],
)
def test_damaged_masks_are_the_clips_fault(tmp_path, content):
    (tmp_path / "a.pkl.gz").write_bytes(content)
    with pytest.raises(DataError, match="bad_masks"):
        released.masks(tmp_path / "a.pkl.gz")


def test_masks_that_are_a_bomb_are_not_unpacked(tmp_path, monkeypatch):
    annotate(tmp_path, "a")
    monkeypatch.setattr(released, "MOST_UNPACKED", 100)
    with pytest.raises(DataError, match="too_big"):
        released.masks(tmp_path / "a.word_tags_masks.pkl.gz")


def test_scalars_and_arrays_of_each_kind_are_read(tmp_path):
    box = np.array([20, 30, 100, 90])
    annotate(tmp_path, "a", {"man": [cut(1) | {"box_xyxy": box, "is_face_crop": np.bool_(True)}, cut(1, tuple(box))]})  # type: ignore[arg-type]
    found = released.masks(tmp_path / "a.word_tags_masks.pkl.gz")["man"]
    assert [one["box_xyxy"] for one in found] == [[20, 30, 100, 90]] * 2 and found[0]["is_face_crop"] is True
    old = pickle.dumps({"man": [cut(1)]}, protocol=2).replace(b"numpy._core", b"numpy.core")
    annotate(tmp_path, "b", packed=old)
    assert np.array_equal(released.masks(tmp_path / "b.word_tags_masks.pkl.gz")["man"][0]["mask"], MASK)


def test_no_annotation_and_none_that_can_be_used(source, tmp_path):
    with pytest.raises(BenchmarkError, match="unzip"):
        released.prepare(tmp_path / "none", source, tmp_path / "out")
    annotate(tmp_path / "ann", "a", video="gone.mp4")
    with pytest.raises(BenchmarkError, match="none of 1 clips can be used: 1 no_video"):
        released.prepare(tmp_path / "ann", source, tmp_path / "out")
