from __future__ import annotations

import json

import numpy as np

from curation.media.members import from_jpeg, from_rle, to_jpeg, to_rle


def test_jpeg_keeps_size_and_colours():
    image = np.zeros((40, 61, 3), np.uint8)
    image[:, 30:] = (250, 120, 10)
    back = from_jpeg(to_jpeg(image, 95))
    assert back.shape == image.shape and np.abs(back[:, 34:].astype(int) - (250, 120, 10)).max() < 4


def test_run_lengths_are_json_and_exact():
    mask = np.random.default_rng(0).random((37, 53)) > 0.6
    assert np.array_equal(from_rle(json.loads(json.dumps(to_rle(mask)))), mask)
    assert to_rle(mask)["size"] == [37, 53]
