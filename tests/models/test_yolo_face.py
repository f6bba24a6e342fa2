from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.paper
pytest.importorskip("ultralytics", reason="needs the paper extra")

import torch  # noqa: E402

from curation.models.boxes import iou  # noqa: E402
from curation.models.yolo_face import NoFaces, YoloFace  # noqa: E402
from tests import tiny  # noqa: E402


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.yolo_face(tmp_path_factory.mktemp("yolo") / "face.pt")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_faces_are_pixels_of_the_frame_best_first_without_overlaps(path: Path) -> None:
    detector = YoloFace(path)
    for image in (picture(120, 200), picture(300, 90)):
        faces = detector.faces(image, 1e-6)
        assert faces and [f.score for f in faces] == sorted((f.score for f in faces), reverse=True)
        boxes = np.array([f.box for f in faces])
        height, width = image.shape[:2]
        assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= width).all() and (boxes[:, [1, 3]] <= height).all()
        assert all(f.landmarks == () for f in faces)
        inner = boxes[((boxes > 1) & (boxes < np.array([width, height, width, height]) - 1)).all(1)]  # uncut by the border
        assert len(inner) > 5
        assert all(iou(box, inner[i + 1 :]).max(initial=0) <= 0.4 + 1e-4 for i, box in enumerate(inner))


def test_the_frame_is_letterboxed_to_640_in_rgb(path: Path) -> None:
    """The same scores from the bare network on our own letterbox."""
    detector, image = YoloFace(path), picture(160, 320)
    square = np.full((640, 640, 3), 114, np.uint8)
    square[160:480] = cv2.resize(image, (640, 320), interpolation=cv2.INTER_LINEAR)
    with torch.inference_mode():
        out = detector.network.model(torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255)[0][0]
    for face in detector.faces(image, 1e-6)[:8]:
        found = int((out[4] - face.score).abs().argmin())
        assert face.score == pytest.approx(float(out[4, found]), abs=1e-4)
        x, y, w, h = (float(v) for v in out[:4, found])
        expected = np.clip([x - w / 2, y - h / 2 - 160, x + w / 2, y + h / 2 - 160], 0, [640, 320] * 2) / 2
        np.testing.assert_allclose(face.box, expected, atol=0.5)


def test_a_face_in_the_letterboxs_border_is_none(path: Path) -> None:
    assert all(f.box[0] < f.box[2] and f.box[1] < f.box[3] for f in YoloFace(path).faces(picture(160, 320), 1e-6))


def test_a_weaker_face_than_asked_for_is_left_out(path: Path) -> None:
    detector, image = YoloFace(path), picture(120, 200)
    scores = [f.score for f in detector.faces(image, 1e-6)]
    threshold = scores[len(scores) // 2]
    assert len(detector.faces(image, threshold)) < len(scores)
    assert all(f.score >= threshold for f in detector.faces(image, threshold))


def test_a_detector_of_other_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoFaces, match="2 classes and none is a face: person, car"):
        YoloFace(tiny.yolo_face(tmp_path / "things.pt", {0: "person", 1: "car"}))


def test_of_several_classes_faces_are_taken(tmp_path: Path) -> None:
    assert YoloFace(tiny.yolo_face(tmp_path / "both.pt", {0: "person", 1: "human_face"})).classes == [1]


def test_two_threads_find_what_one_finds(path: Path) -> None:
    detector = YoloFace(path)
    pictures = [picture(200 + 40 * i, 300) for i in range(6)]
    alone = [detector.faces(image, 0.01) for image in pictures]
    assert any(alone)
    fresh = YoloFace(path)  # its parts are made with the first picture
    fresh.network.model.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda image: fresh.faces(image, 0.01), pictures)) == alone
