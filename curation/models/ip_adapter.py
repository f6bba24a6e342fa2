"""IP-Adapter Plus on Stable Diffusion 1.5: pictures of a prompt that look like a reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from curation.models.pretrained import WrongWeights, loaded

FILES = {"subject": "ip-adapter-plus_sd15.safetensors", "face": "ip-adapter-plus-face_sd15.safetensors"}
"""What a reference shows → the adapter in `models/` of its repository. Which one the papers compared with is not stated."""
SIDE = 512
"""Pixels that Stable Diffusion 1.5 was trained at."""
STEPS, GUIDANCE = 50, 7.5
"""Those of diffusers' pipeline; not stated by the papers."""
SCALE = 0.6
"""How much the reference counts beside the prompt, of its authors' demonstration with both; not stated by the papers."""


class IpAdapter:
    """Pictures, half precision on a GPU. The safety checker stays off: it blackens whole images."""

    def __init__(self, base: Path, adapter: Path, kind: str, device: str | torch.device, steps: int = STEPS):
        """`base`: a diffusers folder of Stable Diffusion; `adapter`: one of IP-Adapter's repository, with
        `models/image_encoder/`; `kind`: of `FILES`. Raises `WrongWeights`."""
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        on_gpu = torch.device(device).type == "cuda"
        kind_of = torch.float16 if on_gpu else torch.float32
        eyes = loaded(CLIPVisionModelWithProjection, adapter / "models" / "image_encoder", device, kind_of)
        side = eyes.config.image_size
        try:
            self._pipeline = StableDiffusionPipeline.from_pretrained(
                base,
                image_encoder=eyes,
                feature_extractor=CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
                safety_checker=None,
                requires_safety_checker=False,
                dtype=kind_of,
                variant="fp16" if any(base.glob("unet/*.fp16.safetensors")) else None,
                use_safetensors=True,
                local_files_only=True,
            ).to(device)
            self._pipeline.load_ip_adapter(adapter, subfolder="models", weight_name=FILES[kind], local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise WrongWeights(f"{base} with {adapter / 'models' / FILES[kind]}: {' '.join(str(error).split())[:300]}") from error
        self._pipeline.set_ip_adapter_scale(SCALE)
        self._pipeline.set_progress_bar_config(disable=True)
        self._steps = steps

    @torch.inference_mode()
    def __call__(
        self, prompt: str, references: Sequence[np.ndarray], generator: torch.Generator, width: int = SIDE, height: int = SIDE
    ) -> np.ndarray:
        """uint8 RGB [height, width, 3], of multiples of 8. `references`: at least one, uint8 RGB squares of any size: else what
        juts out of the square in the middle is not seen."""
        from PIL import Image

        made = self._pipeline(
            prompt,
            ip_adapter_image=[[Image.fromarray(reference) for reference in references]],
            width=width,
            height=height,
            num_inference_steps=self._steps,
            guidance_scale=GUIDANCE,
            generator=generator,
            output_type="np",
        ).images[0]
        if not np.isfinite(made).all():
            raise FloatingPointError("Stable Diffusion gave an image with values that are not finite")
        return (made * 255).round().astype(np.uint8)
