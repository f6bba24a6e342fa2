"""How pictures are made ready for networks, as MP's protocol does it: crops, white backgrounds, squares, bicubic sizes."""

from __future__ import annotations

import numpy as np

WHITE = 255


def centre_square(picture: np.ndarray) -> np.ndarray:
    """The middle of a uint8 [H, W, C] picture, as large as its short side; of an odd rest the half to the even number."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return picture[top : top + side, left : left + side]


def on_white(cutout: np.ndarray) -> np.ndarray:
    """RGB of an RGBA cut-out, white where it is wholly transparent; what is partly so keeps its colour."""
    return np.where(cutout[..., 3:] == 0, np.uint8(WHITE), cutout[..., :3])


def masked(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture that is white outside a bool mask of its size."""
    return np.where(mask[..., None], picture, np.uint8(WHITE))


def padded_square(picture: np.ndarray) -> np.ndarray:
    """A picture in the middle of a white square of its long side; an odd pixel goes to the right or below."""
    height, width, channels = picture.shape
    side = max(height, width)
    square = np.full((side, side, channels), WHITE, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """A square of that side, whatever the picture's aspect: bicubic with antialiasing (Pillow's), uint8."""
    from PIL import Image

    if picture.shape[:2] == (side, side):
        return picture
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((side, side), Image.Resampling.BICUBIC))
