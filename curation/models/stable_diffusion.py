"""Stable Diffusion inpainting: makes up what is behind a hole from a prompt."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline

NEGATIVE = "Any human or any object, complex pattern and texture"
"""What the result should not show (PAPER.md §1.9)."""


class StableDiffusion:
    """Paints squares of `side` pixels, several at once; a diffusers folder of an inpainting model, half precision on a GPU.

    The safety checker stays off: it blackens whole images. Every call computes full batches (short ones are filled up), and every
    image draws its noise from a seed of its own on the CPU, so that an image does not depend on those painted beside it.
    """

    def __init__(self, folder: Path, device: str, *, batch: int = 4, side: int = 512, steps: int = 50, guidance: float = 12.0):
        """`side`: a multiple of 8; PAPER.md §1.9 has 512 and guidance 12, and no number of steps."""
        self._batch, self._side, self._steps, self._guidance = batch, side, steps, guidance
        self._pipeline = StableDiffusionInpaintPipeline.from_pretrained(
            folder,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            dtype=torch.float16 if device == "cuda" else torch.float32,
            variant="fp16" if any(folder.glob("unet/*.fp16.safetensors")) else None,
            use_safetensors=True,
            local_files_only=True,
        ).to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        self._alone = threading.Lock()  # the tokenizer keeps how it was last told to pad, a scheduler where it is

    def __call__(
        self, images: Sequence[np.ndarray], holes: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[np.ndarray]:
        """Paint every image's hole by its prompt: uint8 RGB H×W×3 of any sizes, bool masks `side`×`side`; results `side`×`side`.

        The whole square comes from the model, outside the hole too: paste the hole's pixels only.
        """
        jobs = list(zip(images, holes, prompts, seeds, strict=True))
        painted = []
        for start in range(0, len(jobs), self._batch):
            batch = jobs[start : start + self._batch]
            full = batch + batch[-1:] * (self._batch - len(batch))
            painted += list(self._paint(*zip(*full, strict=True)))[: len(batch)]
        return painted

    @torch.inference_mode()
    def _paint(self, images: Sequence, holes: Sequence, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """A full batch: uint8, batch×side×side×3."""
        size = (self._side, self._side)
        squares = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
        with self._alone:
            result = self._pipeline(
                prompt=list(prompts),
                negative_prompt=[NEGATIVE] * len(prompts),
                image=torch.from_numpy(squares).permute(0, 3, 1, 2) / 255,
                mask_image=torch.from_numpy(np.stack(holes)[:, None].astype(np.float32)),
                height=self._side,
                width=self._side,
                num_inference_steps=self._steps,
                guidance_scale=self._guidance,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        if not np.isfinite(result).all():
            raise FloatingPointError("Stable Diffusion gave an image with values that are not finite")
        return (result * 255).round().astype(np.uint8)
