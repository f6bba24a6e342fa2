"""Its network is compared with YOLOv9's own in `benchmarks/mp_parity.py`; here is what stands around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.paper
pytest.importorskip("ultralytics", reason="needs the paper extra")

import torch  # noqa: E402

from curation.models.pickled import WrongWeights  # noqa: E402
from curation.models.yolov9_face import Yolov9Face, letterboxed, surest  # noqa: E402
from tests.tiny import protocol as tiny  # noqa: E402


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return tiny.yolov9(tmp_path_factory.mktemp("yolov9") / "weights") / "best.pt"


@pytest.mark.parametrize(("size", "seen"), [((360, 640), (384, 640)), ((64, 30), (640, 320)), ((720, 1280), (384, 640))])
def test_the_long_side_is_640_and_sides_are_multiples_of_32(size: tuple[int, int], seen: tuple[int, int]) -> None:
    box = letterboxed(np.full((*size, 3), 9, np.uint8))
    assert box.shape[:2] == seen
    border = (seen[0] - 360) // 2 if seen[0] == 384 else (seen[1] - 300) // 2
    lines = box[:, :, 0] if seen[0] == 384 else box[:, :, 0].T
    assert (lines[:border] == 114).all() and (lines[border:-border] == 9).all() and (lines[-border:] == 114).all()


def test_an_odd_border_is_wider_at_the_end() -> None:
    box = letterboxed(np.full((361, 640, 3), 9, np.uint8))
    assert box.shape[:2] == (384, 640) and (box[:11] == 114).all() and (box[11] == 9).all() and (box[-12:] == 114).all()


def test_the_surest_face_in_whole_pixels_of_the_frame() -> None:
    boxes = np.array([[100, 112, 200, 212.6], [0, 0, 10, 10], [-9, 5, 700, 400]], np.float32)
    scores = np.array([[0.5], [0.4], [0.3]], np.float32)
    assert surest(boxes, scores, (384, 640), (720, 1280)) == (200, 200, 400, 401)
    assert surest(boxes[2:], scores[2:], (384, 640), (720, 1280)) == (0, 0, 1280, 720)
    assert surest(boxes, np.full((3, 1), 0.2, np.float32), (384, 640), (720, 1280)) is None
    assert surest(boxes[1:], np.array([[0.5, 0.6], [0.3, 0.1]], np.float32), (384, 640), (720, 1280)) == (0, 0, 1280, 720)


def test_frames_reach_the_network_as_bgr(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Yolov9Face(checkpoint)
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        network,
        "queries",
        lambda pictures: (seen.extend(pictures), (np.zeros((len(pictures), 1, 4)), np.zeros((len(pictures), 1, 1))))[1],
    )
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[..., 0] = 250
    assert network([frame] * 17) == [None] * 17
    assert len(seen) == 17 and seen[0][32, 32].tolist() == [0, 0, 250]


def test_the_main_branch_is_not_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    from curation.models.pickled import weights_of

    weights = weights_of(checkpoint, "ema")
    more = weights | {"model.38.cv4.0.2.bias": torch.zeros(64), "model.13.cv1.conv.weight": torch.zeros(1)}
    torch.save({"ema": None, "model": tiny.tree(more)}, tmp_path / "more.pt")
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    first, second = (Yolov9Face(file).queries([picture]) for file in (checkpoint, tmp_path / "more.pt"))
    assert (first[0] == second[0]).all() and (first[1] == second[1]).all()
    assert first[0].shape == (1, 8 * 12 + 4 * 6 + 2 * 3, 4) and first[1].shape == (1, 126, 1)
    del more["model.38.cv2.0.2.bias"]
    torch.save({"model": tiny.tree(more)}, tmp_path / "less.pt")
    with pytest.raises(WrongWeights, match="less.pt is no YOLOv9-C with two heads"):
        Yolov9Face(tmp_path / "less.pt")
