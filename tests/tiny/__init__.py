"""Tiny random checkpoints of the papers' models, in the layouts of the released ones: for the real loading code."""

from tests.tiny.diffusion import SIDE, clip_tokenizer, ip_adapter, stable_diffusion
from tests.tiny.mistral import mistral
from tests.tiny.open_set import GROUNDING_DINO, bert, grounding_dino, open_set, sam
from tests.tiny.videomae import PANDA, videomae
from tests.tiny.yolo import yolo_face

__all__ = [
    "GROUNDING_DINO",
    "PANDA",
    "SIDE",
    "bert",
    "clip_tokenizer",
    "grounding_dino",
    "ip_adapter",
    "mistral",
    "open_set",
    "sam",
    "stable_diffusion",
    "videomae",
    "yolo_face",
]
