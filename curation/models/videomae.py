"""VideoMAE fine-tuned to classify clips (Tong et al., arXiv 2203.12602), from a folder that transformers saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: PAPER.md §3; transformers' own default is 0.5
BILINEAR = 2  # Pillow's number, which the settings hold


class VideoMAE:
    """The network, its labels, and the preparation of frames that its checkpoint asks for."""

    def __init__(self, folder: Path, device: str, classes: Sequence[str] = ()):
        """`folder`: config.json, model.safetensors and, unless its settings are the paper's, preprocessor_config.json. With
        `classes` it is to be fine-tuned to these: a head that is of others is made anew.

        Raises OSError or ValueError when that is not what the folder holds.
        """
        from transformers import VideoMAEForVideoClassification

        self.device = torch.device(device)
        more: dict[str, Any] = {}
        if classes:
            more = {"id2label": dict(enumerate(classes)), "label2id": {name: at for at, name in enumerate(classes)}}
            more |= {"num_labels": len(classes), "ignore_mismatched_sizes": True}
        network = VideoMAEForVideoClassification.from_pretrained(folder, local_files_only=True, **more)
        self.network = network.eval().to(self.device)
        config = self.network.config
        self.frames: int = config.num_frames
        """Frames of a clip that the network looks at; 16 for the published sizes."""
        self.rule: dict[str, Any] | None = getattr(config, "curation_rule", None)
        """Of `models.quality.Rule`, where `curation train-filter` has made it."""
        self.labels = [str(config.id2label[i]) for i in range(config.num_labels)]
        settings = _settings(folder)
        if settings.get("resample", BILINEAR) != BILINEAR:
            raise ValueError(f"its preprocessor_config.json asks for resample {settings['resample']}, only 2 (bilinear) is there")
        self.short = int(settings.get("size", {}).get("shortest_edge", config.image_size))
        self.side: int = config.image_size
        mean, std = settings.get("image_mean", MEAN), settings.get("image_std", STD)
        self.mean, self.std = (torch.tensor(values, device=self.device)[:, None, None] for values in (mean, std))

    @torch.inference_mode()
    def logits(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Clips, each uint8 RGB [frames, H, W, 3] of its own size → float32 [clips, labels]. On a GPU in fp16."""
        pixels = torch.stack([self.prepare(clip) for clip in clips])
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            logits = self.network(pixel_values=pixels).logits
        return logits.float().cpu().numpy()

    def prepare(self, clip: np.ndarray) -> Tensor:
        """uint8 RGB [frames, H, W, 3] → float32 [frames, 3, side, side]: short side resized, centre cropped, normalised."""
        planes = torch.from_numpy(clip).to(self.device).permute(0, 3, 1, 2).float()
        height, width = planes.shape[2:]
        short = min(height, width)
        size = [int(self.short * height / short), int(self.short * width / short)]
        if size != [height, width]:
            planes = F.interpolate(planes, size, mode="bilinear", antialias=True).round().clamp(0, 255)
        top, left = ((length - self.side) // 2 for length in size)
        planes = planes[:, :, top : top + self.side, left : left + self.side]
        return (planes / 255 - self.mean) / self.std


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, float64."""
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def _settings(folder: Path) -> dict[str, Any]:
    """Of the image processor saved beside the weights; none when there is no such file."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (file := folder / name).is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            return content.get("image_processor", content)
    return {}
