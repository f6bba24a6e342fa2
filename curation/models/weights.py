"""Names in the store of the networks that stand, frozen, around the transformer; imports nothing, for recipes to ask."""

from __future__ import annotations

CODECS = {"cogvideox": "cogvideox-vae"}
"""Name of a codec → its weights; "dct" has none."""
TEXT = {"minilm": "minilm", "t5": "t5-v1_1-xxl-encoder", "clip": "clip-vit-large-patch14"}
"""Name of a text encoder → its weights."""
IMAGE = {"dinov2": "dinov2-large", "clip": "clip-vit-large-patch14", "mae": "vit-mae-large"}
"""Name of an image encoder → its weights; "patches" has none."""
