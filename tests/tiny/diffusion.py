"""Stable Diffusion for inpainting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIDE = 64
"""Pixels of the square it is made for."""


def clip_tokenizer(folder: Path) -> Any:
    """CLIP's, of single letters."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token="<|endoftext|>")


def stable_diffusion(folder: Path, half: bool = False) -> Path:
    """A tiny random Stable Diffusion inpainting model in diffusers' format, with the stale entry that the published one has.

    `half`: as fp16 files under the names that the hub gives them.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    words = clip_tokenizer(folder / "words")
    unet = UNet2DConditionModel(
        **{"sample_size": SIDE // 8, "in_channels": 9, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 64)},
        **{"cross_attention_dim": 32, "attention_head_dim": 8, "norm_num_groups": 16},
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    vae = AutoencoderKL(
        **{"block_out_channels": (8, 8, 16, 16), "latent_channels": 4, "norm_num_groups": 8, "sample_size": SIDE},
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(words), **sizes, **ends))
    parts = {
        "vae": vae,
        "text_encoder": text,
        "tokenizer": words,
        "unet": unet,
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
    }
    pipeline = StableDiffusionInpaintPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.to(torch.float16 if half else torch.float32).save_pretrained(folder / "model", variant="fp16" if half else None)
    index = json.loads((folder / "model/model_index.json").read_text())
    index |= {"feature_extractor": ["transformers", "CLIPFeatureExtractor"]}  # a class that transformers 5 no longer has
    (folder / "model/model_index.json").write_text(json.dumps(index))
    return folder / "model"
