"""SAM (`segment-anything`): the mask of a box, and what the encoder makes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from curation.models.boxes import Box

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's, of RGB in [0, 255]."""
PATCH = 16
"""Side of an encoder's cell, px of its input; the same in all released checkpoints."""
DECODER_HEADS = 8
"""Attention heads of the mask decoder, the one size that cannot be read off the weights; the same in all released checkpoints."""
AT_ONCE = 16
"""Boxes per pass of the mask decoder; not stated by the paper."""


class View(NamedTuple):
    """A frame as SAM sees it: `embedding` 1×C×G×G; (h, w) px of the scaled frame, `inner`, and of the frame itself, `size`."""

    embedding: Tensor
    inner: tuple[int, int]
    size: tuple[int, int]


class SegmentAnything:
    """`path` is a released checkpoint (ViT-B, L or H) or one of the same layout in other sizes: they are read off the weights."""

    def __init__(self, path: Path, device: str = "cpu", precision: str = "fp32"):
        """`precision`: "fp32", or "bf16": the encoder under autocast. What is small or final stays in float32."""
        weights = torch.load(path, map_location="cpu", weights_only=True)
        self.sam = build(weights)
        self.sam.load_state_dict(weights)
        self.sam.eval().to(device)
        self.half = precision == "bf16"

    @torch.inference_mode()
    def look(self, frames: Sequence[np.ndarray]) -> list[View]:
        """Embed RGB uint8 frames of any size, all in one pass: the long side scaled to the encoder's (1024), the rest zero."""
        side = self.sam.image_encoder.img_size
        inners = [fitted(frame.shape[0], frame.shape[1], side) for frame in frames]
        inputs = torch.stack([self._input(frame, inner) for frame, inner in zip(frames, inners, strict=True)])
        with torch.autocast(self.sam.device.type, torch.bfloat16, enabled=self.half):
            embeddings = self.sam.image_encoder(inputs).float()
        return [
            View(embedding[None], inner, (frame.shape[0], frame.shape[1]))
            for embedding, inner, frame in zip(embeddings, inners, frames, strict=True)
        ]

    @torch.inference_mode()
    def masks(self, view: View, boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray]:
        """One mask for each box (xyxy px of the frame): bool N×H×W, logit > 0; and its predicted IoU, about [0, 1], float N."""
        logits, scores = [], []
        for i in range(0, len(boxes), AT_ONCE):
            low, iou = self._decode(view, boxes[i : i + AT_ONCE])
            logits.append((self.sam.postprocess_masks(low, view.inner, view.size) > self.sam.mask_threshold)[:, 0].cpu())
            scores.append(iou[:, 0].float().cpu())
        return torch.cat(logits).numpy(), torch.cat(scores).numpy()

    def cut(self, frame: np.ndarray, boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray]:
        """`masks` of a frame that is looked at once."""
        return self.masks(self.look([frame])[0], boxes)

    @torch.inference_mode()
    def feature(self, view: View, mask: np.ndarray) -> np.ndarray:
        """What the encoder makes of a bool H×W mask: the mean of its embedding there, less that of the whole frame (else all
        things look alike); float32 C of length 1, or 0 for a mask that is empty or everything."""
        grid = view.embedding.shape[-1]
        rows, columns = (max(1, -(-s // PATCH)) for s in view.inner)
        shares = nn.functional.interpolate(torch.from_numpy(mask)[None, None].float(), size=view.inner, mode="area")
        padded = nn.functional.pad(shares, (0, grid * PATCH - view.inner[1], 0, grid * PATCH - view.inner[0]))
        weights = nn.functional.avg_pool2d(padded, PATCH)[0, 0, :rows, :columns].to(view.embedding.device)
        cells = view.embedding[0, :, :rows, :columns].float()
        mean = (cells * weights).sum((1, 2)) / weights.sum().clamp(min=1e-6) - cells.mean((1, 2))
        if not 0 < mask.sum() < mask.size:
            mean = torch.zeros_like(mean)
        return nn.functional.normalize(mean, dim=0).cpu().numpy()

    def _decode(self, view: View, boxes: Sequence[Box]) -> tuple[Tensor, Tensor]:
        """Low-resolution logits N×1×4G×4G and predicted IoU N×1."""
        scale = torch.tensor([view.inner[1] / view.size[1], view.inner[0] / view.size[0]] * 2, device=view.embedding.device)
        sparse, dense = self.sam.prompt_encoder(
            points=None, boxes=torch.tensor(boxes, device=view.embedding.device) * scale, masks=None
        )
        return self.sam.mask_decoder(
            image_embeddings=view.embedding,
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )

    def _input(self, frame: np.ndarray, inner: tuple[int, int]) -> Tensor:
        image = Image.fromarray(frame).resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
        return self.sam.preprocess(torch.from_numpy(np.array(image)).permute(2, 0, 1).to(self.sam.device))


def fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """Sides (h, w) after scaling the long one to `side`."""
    scale = side / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def build(weights: dict[str, Tensor]) -> Sam:
    """An empty network of the sizes that the weights have."""
    patches = weights["image_encoder.patch_embed.proj.weight"]
    grid, channels = weights["image_encoder.pos_embed"].shape[1], weights["image_encoder.neck.0.weight"].shape[0]
    side, width = grid * PATCH, patches.shape[0]
    reach = [
        (weights[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape[0] + 1) // 2
        for i in range(_count(weights, r"image_encoder\.blocks"))
    ]
    encoder = ImageEncoderViT(
        img_size=side,
        patch_size=PATCH,
        embed_dim=width,
        depth=len(reach),
        num_heads=width // weights["image_encoder.blocks.0.attn.rel_pos_h"].shape[1],
        mlp_ratio=weights["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
        out_chans=channels,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=min(reach),
        global_attn_indexes=tuple(i for i, r in enumerate(reach) if r == grid),
    )
    prompts = PromptEncoder(
        embed_dim=channels,
        image_embedding_size=(grid, grid),
        input_image_size=(side, side),
        mask_in_chans=weights["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )
    decoder = MaskDecoder(
        transformer_dim=channels,
        transformer=TwoWayTransformer(
            depth=_count(weights, r"mask_decoder\.transformer\.layers"),
            embedding_dim=channels,
            num_heads=DECODER_HEADS,
            mlp_dim=weights["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        ),
        num_multimask_outputs=weights["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        iou_head_depth=_count(weights, r"mask_decoder\.iou_prediction_head\.layers"),
        iou_head_hidden_dim=weights["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
    )
    return Sam(encoder, prompts, decoder, pixel_mean=list(MEAN), pixel_std=list(STD))


def _count(weights: dict[str, Tensor], list_name: str) -> int:
    return len({match[1] for key in weights if (match := re.match(rf"{list_name}\.(\d+)\.", key))})
