from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from curation.models.pretrained import WrongWeights
from curation.models.views import Clip, Dino
from tests.tiny import protocol as tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("views")
    tiny.clip(folder / "clip"), tiny.dino(folder / "dino")
    return folder


PICTURES = list(np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8))


def test_pictures_are_normalised_as_the_network_was_trained(folder: Path) -> None:
    """Against the libraries' own processing."""
    from transformers import CLIPImageProcessor, CLIPModel, ViTModel

    clip = CLIPModel.from_pretrained(folder / "clip").eval()
    with torch.no_grad():
        inputs = CLIPImageProcessor(do_resize=False, do_center_crop=False)(PICTURES, return_tensors="pt")
        expected = clip.get_image_features(**inputs).pooler_output
        assert Clip(folder / "clip").pictures(PICTURES) == pytest.approx(expected.numpy(), abs=1e-5)
        dino = ViTModel.from_pretrained(folder / "dino", layer_norm_eps=1e-6).eval()
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = ((torch.from_numpy(np.stack(PICTURES)).float() / 255 - mean) / std).permute(0, 3, 1, 2)
        expected = dino(pixel_values=x).last_hidden_state[:, 0]
        assert Dino(folder / "dino").pictures(PICTURES) == pytest.approx(expected.numpy(), abs=1e-5)


def test_many_pictures_are_many_alone(folder: Path) -> None:
    dino = Dino(folder / "dino")
    assert dino.side == 224 == Clip(folder / "clip").side
    assert dino.pictures(PICTURES * 6)[17] == pytest.approx(dino.pictures(PICTURES[2:])[0], abs=1e-5)


def test_a_long_text_is_cut(folder: Path) -> None:
    clip = Clip(folder / "clip")
    assert clip.text("a dog").shape == (16,) and not np.allclose(clip.text("a dog"), clip.text("a cat"))
    assert (clip.text("ab" * 40 + "c") == clip.text("ab" * 40 + "d")).all()


def test_another_network_is_refused(folder: Path) -> None:
    with pytest.raises(WrongWeights, match="'vit' network, not a 'clip'"):
        Clip(folder / "dino")
    with pytest.raises(WrongWeights, match="'clip' network, not a 'vit'"):
        Dino(folder / "clip")
