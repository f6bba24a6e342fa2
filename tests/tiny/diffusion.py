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


def stable_diffusion(folder: Path, half: bool = False, inpainting: bool = True) -> Path:
    """A tiny random Stable Diffusion (inpainting) model in diffusers' format, with the stale entry that the published one has.

    `half`: as fp16 files under the names that the hub gives them.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionInpaintPipeline,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    words = clip_tokenizer(folder / "words")
    unet = UNet2DConditionModel(
        **{
            "sample_size": SIDE // 8,
            "in_channels": 9 if inpainting else 4,
            "out_channels": 4,
            "layers_per_block": 1,
            "block_out_channels": (32, 64),
        },
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
    cls = StableDiffusionInpaintPipeline if inpainting else StableDiffusionPipeline
    pipeline = cls(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.to(torch.float16 if half else torch.float32).save_pretrained(folder / "model", variant="fp16" if half else None)
    index = json.loads((folder / "model/model_index.json").read_text())
    index |= {"feature_extractor": ["transformers", "CLIPFeatureExtractor"]}  # a class that transformers 5 no longer has
    (folder / "model/model_index.json").write_text(json.dumps(index))
    return folder / "model"


def ip_adapter(folder: Path, kind: str = "subject") -> Path:
    """A tiny random IP-Adapter Plus for `stable_diffusion`, under the names of its repository."""
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from curation.models.ip_adapter import FILES

    draw = torch.Generator().manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 3, "num_attention_heads": 4, "projection_dim": 16}
    torch.manual_seed(2)
    eyes = CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=32, patch_size=8, **sizes))
    eyes.save_pretrained(folder / "models/image_encoder")
    width, cross, queries = 64, 32, 4
    shapes = {"latents": (1, queries, width), "proj_in.weight": (width, 32), "proj_in.bias": (width,)}
    shapes |= {
        "proj_out.weight": (cross, width),
        "proj_out.bias": (cross,),
        "norm_out.weight": (cross,),
        "norm_out.bias": (cross,),
    }
    for layer in range(4):
        norms = [f"layers.{layer}.0.norm1", f"layers.{layer}.0.norm2", f"layers.{layer}.1.0"]
        shapes |= {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}
        shapes |= {f"layers.{layer}.0.to_q.weight": (64, width), f"layers.{layer}.0.to_kv.weight": (128, width)}
        shapes |= {f"layers.{layer}.0.to_out.weight": (width, 64)}
        shapes |= {f"layers.{layer}.1.1.weight": (4 * width, width), f"layers.{layer}.1.3.weight": (width, 4 * width)}
    weights = {f"image_proj.{name}": 0.3 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    for number in range(4):  # cross-attentions: one on the way down, two on the way up, one in the middle
        for part in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * number + 1}.{part}.weight"] = torch.randn(64, cross, generator=draw)
    save_file(weights, folder / "models" / FILES[kind])
    return folder
