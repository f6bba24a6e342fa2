"""Tiny random checkpoints of pretrained video transformers: whole pipelines, as diffusers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.tiny import encoders

HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "in_channels": 4, "out_channels": 4}
COGVIDEOX = {
    **{"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    **{"clip_sample": False, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "set_alpha_to_one": True},
    **{"timestep_spacing": "trailing"},
}
"""The released schedulers' (diffusers' scripts/convert_cogvideox_to_diffusers.py), but for `snr_shift_scale`: 2B 3, 5B 1."""


def wan(folder: Path) -> Path:
    """A WanPipeline; its text encoder and tokenizer once more in `text/`, as the store has them."""
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(encoders.t5(folder / "source"))
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    torch.manual_seed(0)
    text = _drawn(UMT5EncoderModel(UMT5Config(vocab_size=200, **sizes)))
    for part in (tokenizer, text):
        part.save_pretrained(folder / "text")
    transformer = WanTransformer3DModel(**HEADS, text_dim=32, freq_dim=32, ffn_dim=48, rope_max_seq_len=64)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    parts = {"tokenizer": tokenizer, "text_encoder": text, "transformer": _drawn(transformer), "scheduler": scheduler}
    WanPipeline(**parts, vae=wan_vae()).save_pretrained(folder)
    return folder


def wan_vae() -> Any:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    spread = {"latents_mean": [0.5, -0.25, 0.0, 1.0], "latents_std": [2.0, 1.5, 1.0, 0.5]}
    return AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **spread)


def cogvideox(folder: Path, *, rotary: bool, snr_shift_scale: float = 1.0) -> Path:
    """A CogVideoXPipeline, its text encoder and tokenizer once more in `text/`. The 5B has rotary places, the 2B has not."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
    from transformers import AutoTokenizer, T5EncoderModel

    text = T5EncoderModel.from_pretrained(encoders.t5(folder / "text"))
    parts = {"tokenizer": AutoTokenizer.from_pretrained(folder / "text"), "text_encoder": text}
    torch.manual_seed(0)
    sizes = {"time_embed_dim": 8, "text_embed_dim": 32, "sample_width": 6, "sample_height": 4, "sample_frames": 9}
    transformer = CogVideoXTransformer3DModel(**HEADS, **sizes, max_text_seq_length=24, use_rotary_positional_embeddings=rotary)
    scheduler = CogVideoXDDIMScheduler(**COGVIDEOX, snr_shift_scale=snr_shift_scale)
    vae = AutoencoderKLCogVideoX.from_pretrained(encoders.cogvideox(folder / "codec"))
    CogVideoXPipeline(**parts, vae=vae, transformer=_drawn(transformer), scheduler=scheduler).save_pretrained(folder)
    return folder


def _drawn(network: torch.nn.Module) -> torch.nn.Module:
    """Every weight moved, so that none hides behind a zero or a one."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network
