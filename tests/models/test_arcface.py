from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from curation.models.arcface import ArcFace, WrongWeights
from tests.tiny import protocol as tiny


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return tiny.arcface(tmp_path_factory.mktemp("arcface") / "weights") / "backbone.pth"


def test_faces_of_any_size_are_stretched_to_112(backbone: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    network = ArcFace(backbone)
    squares = network([small.repeat(16, 0).repeat(16, 1), small.repeat(32, 0).repeat(48, 1)])
    assert squares.shape == (2, 32) and np.isfinite(squares).all()
    assert np.corrcoef(squares)[0, 1] > 0.9
    assert np.corrcoef(network([small.repeat(16, 0).repeat(16, 1), 255 - small.repeat(16, 0).repeat(16, 1)]))[0, 1] < 0.9


def test_the_network_sees_minus_one_to_one(backbone: Path) -> None:
    face = np.random.default_rng(3).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    network = ArcFace(backbone)
    with torch.no_grad():
        expected = network._network(torch.from_numpy(face / 127.5 - 1).float().permute(2, 0, 1)[None])
    assert network([face]) == pytest.approx(expected.numpy(), abs=1e-4)


def test_many_faces_are_many_alone(backbone: Path) -> None:
    faces = list(np.random.default_rng(1).integers(0, 256, (35, 112, 112, 3), dtype=np.uint8))
    network = ArcFace(backbone)
    assert network(faces)[34] == pytest.approx(network(faces[34:])[0], abs=1e-4)


def test_its_depths_are_read_off_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = torch.load(tiny.arcface(tmp_path / "a") / "backbone.pth", weights_only=True)
    block = {name: tensor for name, tensor in weights.items() if name.startswith("layer4.0.") and "downsample" not in name}
    deeper = weights | {name.replace("layer4.0", "layer4.1"): tensor for name, tensor in block.items()}
    torch.save(deeper, tmp_path / "deeper.pth")
    face = np.random.default_rng(2).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert not np.allclose(ArcFace(tmp_path / "deeper.pth")([face]), ArcFace(tmp_path / "a/backbone.pth")([face]))


@pytest.mark.parametrize("drop", ["layer3.0.prelu.weight", "fc.weight", "conv1.weight"])
def test_another_network_is_refused(backbone: Path, tmp_path: Path, drop: str) -> None:
    weights = torch.load(backbone, weights_only=True)
    del weights[drop]
    torch.save(weights, tmp_path / "x.pth")
    with pytest.raises(WrongWeights, match=r"x.pth is no ArcFace backbone"):
        ArcFace(tmp_path / "x.pth")
