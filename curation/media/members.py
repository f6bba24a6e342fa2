"""How pictures and masks stand in a sample: JPEG bytes ↔ arrays, COCO run lengths ↔ masks, cut-outs as WebP, NumPy's files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def from_jpeg(data: bytes) -> np.ndarray:
    """uint8 RGB, H×W×3."""
    import cv2

    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def to_jpeg(image: np.ndarray, quality: int) -> bytes:
    """`image`: uint8 RGB, H×W×3; `quality`: 0 to 100."""
    import cv2

    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def to_webp(image: np.ndarray, mask: np.ndarray, quality: int) -> bytes:
    """RGBA of a uint8 RGB picture and a bool mask of its size: alpha is 255 in the mask and 0 outside, exactly. `quality`: of the
    colours in the mask, 1 to 100; 100 is lossless, and then they stay outside it, too."""
    import cv2

    bgra = np.dstack([image[..., ::-1], np.where(mask, 255, 0).astype(np.uint8)])
    lossless = [cv2.IMWRITE_WEBP_LOSSLESS_MODE, cv2.IMWRITE_WEBP_LOSSLESS_PRESERVE_COLOR]
    return cv2.imencode(".webp", bgra, lossless if quality == 100 else [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def to_npy(values: np.ndarray) -> bytes:
    """An array as NumPy's own file."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def from_npy(data: bytes) -> np.ndarray:
    """The inverse of `to_npy`; raises ValueError for other bytes and for pickles."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def from_rle(rle: dict[str, Any]) -> np.ndarray:
    """bool H×W from COCO's compressed run lengths, `{size: [height, width], counts}`."""
    from pycocotools import mask as coco

    return coco.decode({"size": rle["size"], "counts": rle["counts"].encode()}).astype(bool)


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """The inverse of `from_rle`, as plain JSON values."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(v) for v in rle["size"]], "counts": rle["counts"].decode("ascii")}
