from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="the train extra is not installed")
pytestmark = pytest.mark.trainer

SIDE = tiny.SIDE
DARK, BRIGHT = (np.full((40, 40, 3), level, np.uint8) for level in (10, 240))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Stable Diffusion as fp16 files, and an adapter of each kind."""
    folder = tmp_path_factory.mktemp("ip")
    tiny.ip_adapter(folder / "adapter", "face")
    return tiny.stable_diffusion(folder / "sd", half=True, inpainting=False), tiny.ip_adapter(folder / "adapter")


@pytest.fixture(scope="module")
def network(folders, one_thread) -> Any:
    from curation.models.ip_adapter import IpAdapter

    return IpAdapter(*folders, "subject", "cpu", steps=2)


def made(
    network: Any, *references: np.ndarray, prompt: str = "a dog", seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)
) -> Any:
    return network(prompt, references, torch.Generator().manual_seed(seed), *size).astype(int)


def test_prompt_seed_and_every_reference_count(network):
    first = made(network, DARK)
    assert first.shape == (SIDE, SIDE, 3) and first.std() > 5
    assert (first == made(network, DARK)).all()
    for other in (
        made(network, BRIGHT),
        made(network, DARK, BRIGHT),
        made(network, DARK, prompt="a cat"),
        made(network, DARK, seed=1),
    ):
        assert abs(first - other).mean() > 1


def test_other_shapes(network):
    assert made(network, DARK, size=(96, 64)).shape == (64, 96, 3)


def test_a_wrong_folder_is_one_line(folders, tmp_path):
    from curation.models.ip_adapter import IpAdapter
    from curation.models.pretrained import WrongWeights

    base, adapter = folders
    with pytest.raises(WrongWeights, match="image_encoder cannot be loaded"):
        IpAdapter(base, tmp_path, "subject", "cpu")
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter/models/ip-adapter-plus_sd15.safetensors").unlink()
    with pytest.raises(WrongWeights, match="ip-adapter-plus_sd15") as caught:
        IpAdapter(base, tmp_path / "adapter", "subject", "cpu")
    assert "\n" not in str(caught.value)
    IpAdapter(base, tmp_path / "adapter", "face", "cpu")
