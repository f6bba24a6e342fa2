from __future__ import annotations

import numpy as np

from curation.benchmark.metrics import pictures


def numbered(height: int, width: int) -> np.ndarray:
    return np.stack([np.arange(height * width, dtype=np.uint8).reshape(height, width)] * 3, 2)


def test_the_middle_square_leaves_an_odd_pixel_where_the_even_number_is() -> None:
    wide = numbered(4, 7)  # 1.5 to the left: two
    assert (pictures.centre_square(wide) == wide[:, 2:6]).all()
    wider = numbered(4, 9)  # 2.5: two
    assert (pictures.centre_square(wider) == wider[:, 2:6]).all()
    high = numbered(7, 4)
    assert (pictures.centre_square(high) == high[2:6]).all()


def test_only_what_is_wholly_transparent_turns_white() -> None:
    cutout = np.full((1, 3, 4), 50, np.uint8)
    cutout[0, :, 3] = (0, 1, 255)
    assert pictures.on_white(cutout)[0].tolist() == [[255] * 3, [50] * 3, [50] * 3]


def test_outside_the_mask_is_white() -> None:
    assert pictures.masked(np.full((1, 2, 3), 7, np.uint8), np.array([[True, False]]))[0].tolist() == [[7] * 3, [255] * 3]


def test_a_picture_stands_in_the_middle_of_a_white_square() -> None:
    square = pictures.padded_square(np.zeros((2, 5, 3), np.uint8))
    assert square.shape == (5, 5, 3)
    assert (square[:, 0, 0] == [255, 0, 0, 255, 255]).all()
    assert (pictures.padded_square(np.zeros((5, 2, 3), np.uint8))[0, :, 0] == [255, 0, 0, 255, 255]).all()


def test_sizes_change_bicubically_with_antialiasing() -> None:
    """A step seen at a quarter of its size overshoots a little (bicubic); fine stripes turn grey (antialiased)."""
    step = np.zeros((64, 64, 3), np.uint8)
    step[:, 28:] = 200
    row = pictures.resized(step, 16)[0, :, 0].astype(int)
    assert row.max() > 200 and abs(row[7] - 200) <= 20
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert abs(pictures.resized(stripes, 16).astype(int) - 100).max() <= 8
