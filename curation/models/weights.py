"""Names in the store of the networks that stand, frozen, around the transformer; imports nothing, for recipes to ask."""

from __future__ import annotations

CODECS = {"cogvideox": "cogvideox-vae", "cogvideox-2b": "cogvideox-2b-vae", "wan": "wan2.1-vae", "magvit": ""}
"""Name of a codec → its weights; "dct" has none, "magvit" those that one has trained oneself."""
TEXT = {
    "minilm": "minilm",
    "t5": "t5-v1_1-xxl-encoder",
    "clip": "clip-vit-large-patch14",
    "umt5": "umt5-xxl-encoder",
    "t5-cogvideox": "t5-v1_1-xxl-encoder",
}
"""Name of a text encoder → its weights."""
IMAGE = {"dinov2": "dinov2-large", "clip": "clip-vit-large-patch14", "mae": "vit-mae-large"}
"""Name of an image encoder → its weights; "patches" has none."""
