"""What decides the bytes of a run, as plain values: to compare, to show, to carry in every sample."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from typing import Any

LIBRARIES = (
    *(
        "ai-edge-litert",
        "av",
        "diffusers",
        "dlib-bin",
        "groundingdino-py",
        "numpy",
        "onnxruntime",
        "opencv-python-headless",
        "pycocotools",
    ),
    *("pypatchmatch", "scenedetect-headless", "segment-anything", "spacy", "torch", "transformers", "ultralytics", "vllm"),
)
"""What decides bytes beside our own code, by the names of their packages."""


def libraries() -> dict[str, str]:
    """The versions, as far as they are installed, of what decides bytes: decoders, encoders, networks' arithmetic, tokenizers."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def digest(fingerprint: dict[str, Any]) -> str:
    """A fingerprint as 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(fingerprint).encode()).hexdigest()[:16]


def changes(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """The differences of two fingerprints, each as `clips.split_shots.min_seconds: 1.0 → 2.0`."""
    found: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += changes(a, b, f"{where}{key}.")
        elif a != b:
            found.append(f"{where}{key}: {a if key in old else 'absent'} → {b if key in new else 'absent'}")
    if not found and list(old) != list(new):
        found.append(f"{where.rstrip('.') or 'order'}: the order of stages")
    return found
