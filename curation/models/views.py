"""Embeddings of whole pictures and of texts: CLIP and DINO through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.models.encoders import IMAGENET, OPENAI
from curation.models.pretrained import WrongWeights, frozen, loaded

AT_ONCE = 16
"""Pictures per forward pass."""


class Clip:
    """A CLIP as its authors published it, text and pictures in one space; `folder` as transformers keeps it. Raises
    `WrongWeights`."""

    def __init__(self, folder: Path, device: str = "cpu"):
        from transformers import AutoTokenizer, CLIPModel

        self._network: Any = loaded(CLIPModel, folder, device, torch.float32)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise WrongWeights(f"{folder}: no tokenizer: {' '.join(str(error).split())[:200]}") from error
        self.device = torch.device(device)
        self.side: int = self._network.config.vision_config.image_size
        self._length: int = self._network.config.text_config.max_position_embeddings

    def pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 RGB [side, side, 3] each → float32 [N, D], as the network gives them."""
        return _in_parts(pictures, OPENAI, self.device, lambda x: self._network.get_image_features(pixel_values=x).pooler_output)

    def text(self, text: str) -> np.ndarray:
        """float32 [D]; what is longer than the network's text is cut."""
        found = self._tokenizer([text], truncation=True, max_length=self._length, return_tensors="pt").to(self.device)
        with frozen(self.device):
            return self._network.get_text_features(**found).pooler_output[0].float().cpu().numpy()


class Dino:
    """A DINO (v1) vision transformer; its first token is the picture. Raises `WrongWeights`."""

    EPSILON = 1e-6
    """Of its layer normalisation (its authors' code); the hub's configuration says 1e-12."""

    def __init__(self, folder: Path, device: str = "cpu"):
        from transformers import ViTModel

        self._network: Any = loaded(ViTModel, folder, device, torch.float32, layer_norm_eps=self.EPSILON, add_pooling_layer=False)
        self.device = torch.device(device)
        self.side: int = self._network.config.image_size

    def pictures(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 RGB [side, side, 3] each → float32 [N, D]."""
        return _in_parts(pictures, IMAGENET, self.device, lambda x: self._network(pixel_values=x).last_hidden_state[:, 0])


def _in_parts(
    pictures: Sequence[np.ndarray], normal: tuple[Sequence[float], Sequence[float]], device: torch.device, network: Any
) -> np.ndarray:
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in normal)
    parts: list[Tensor] = []
    with frozen(device):
        for start in range(0, len(pictures), AT_ONCE):
            x = torch.from_numpy(np.stack(pictures[start : start + AT_ONCE])).to(device).permute(0, 3, 1, 2).float().div(255)
            parts.append(network((x - mean) / std).float().cpu())
    return torch.cat(parts).numpy()
