"""VideoMAE classifiers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

PANDA = ["desirable", "1_still_foreground_image", "2_tiny_camera_movement", "3_screen_in_screen", "4_computer_screen_recording"]
"""Panda-70M's label names."""
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def videomae(folder: Path, labels: list[str], side: int = 32, **settings: Any) -> Path:
    """A random VideoMAE with these labels, saved as a user would have it. Weights are large enough for logits to differ."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    sizes["initializer_range"] = 0.3
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    config = VideoMAEConfig(image_size=side, patch_size=8, num_frames=16, tubelet_size=2, **sizes, **names)
    VideoMAEForVideoClassification(config).save_pretrained(folder)
    usual = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, **IMAGENET, "resample": 2}
    text = {"image_processor_type": "VideoMAEImageProcessor", "do_resize": True, "do_center_crop": True, "do_rescale": True}
    text |= {"do_normalize": True, "rescale_factor": 1 / 255, **usual, **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(text))
    return folder
