"""The converter against the same graphs computed in numpy; NanoDet's own graph is covered by test_nanodet."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.models.ort import session
from curation.models.tfjs import UnsupportedGraph, to_onnx


def write(folder: Path, nodes: list[dict[str, Any]], weights: dict[str, np.ndarray]) -> Path:
    """A TensorFlow.js model whose input is "x" (1×4×6×2) and whose output is "y"; float weights are stored as float16."""
    specs, data = [], b""
    for name, array in weights.items():
        stored = array.astype(np.float16) if array.dtype.kind == "f" else array.astype(np.int32)
        spec: dict[str, Any] = {
            "name": name,
            "shape": list(array.shape),
            "dtype": "float32" if array.dtype.kind == "f" else "int32",
        }
        specs.append(
            spec | ({"quantization": {"dtype": "float16", "original_dtype": "float32"}} if array.dtype.kind == "f" else {})
        )
        data += stored.tobytes()
    (folder / "w.bin").write_bytes(data)
    size = [{"size": str(side)} for side in (1, 4, 6, 2)]
    first = {"name": "x", "op": "Placeholder", "attr": {"shape": {"shape": {"dim": size}}}}
    constants = [{"name": name, "op": "Const"} for name in weights]
    model = {
        "modelTopology": {"node": [first, *constants, *nodes]},
        "weightsManifest": [{"paths": ["w.bin"], "weights": specs}],
        "signature": {"outputs": {"y:0": {}}},
    }
    path = folder / "model.json"
    path.write_text(json.dumps(model))
    return path


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def integers(*values: int) -> dict[str, Any]:
    return {"list": {"i": [str(value) for value in values]}}


CONV = {"strides": integers(1, 2, 2, 1), "dilations": integers(1, 1, 1, 1), "padding": text("VALID"), "data_format": text("NHWC")}


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return session(to_onnx(path)).run(None, {"x": x})[0]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 4, 6, 2)).astype(np.float32)


def test_a_padded_strided_convolution_with_leaky_relu(tmp_path: Path, x: np.ndarray) -> None:
    kernel = np.random.default_rng(1).normal(size=(3, 3, 2, 5)).astype(np.float16).astype(np.float32)
    path = write(
        tmp_path,
        [
            {"name": "pad", "op": "Pad", "input": ["x", "p"], "attr": {}},
            {"name": "conv", "op": "Conv2D", "input": ["pad", "w"], "attr": CONV},
            {"name": "y", "op": "LeakyRelu", "input": ["conv"], "attr": {"alpha": {"f": 0.1}}},
        ],
        {"w": kernel, "p": np.array([[0, 0], [1, 1], [1, 1], [0, 0]])},
    )
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)))
    expected = np.array([[np.tensordot(padded[r : r + 3, c : c + 3], kernel, 3) for c in (0, 2, 4)] for r in (0, 2)])
    np.testing.assert_allclose(run(path, x)[0], np.where(expected > 0, expected, 0.1 * expected), atol=1e-5)


def test_split_transpose_concat_and_a_computed_shape(tmp_path: Path, x: np.ndarray) -> None:
    """y = reshape(concat(swap(second half), swap(first half)), [1, -1]); the shape is scattered, then added to, as in NanoDet."""
    path = write(
        tmp_path,
        [
            {"name": "t", "op": "Transpose", "input": ["x", "perm"], "attr": {}},
            {"name": "s", "op": "SplitV", "input": ["t", "sizes", "axis"], "attr": {}},
            {"name": "c", "op": "ConcatV2", "input": ["s:1", "s", "axis"], "attr": {}},
            {"name": "sparse", "op": "SparseToDense", "input": ["at", "rank", "one", "zero"], "attr": {}},
            {"name": "shape", "op": "AddV2", "input": ["sparse", "rest"], "attr": {}},
            {"name": "y", "op": "Reshape", "input": ["c", "shape"], "attr": {}},
        ],
        {
            "perm": np.array([0, 3, 1, 2]),
            "sizes": np.array([2, 4]),
            "axis": np.array(3),
            "at": np.array([[0]]),
            "rank": np.array([2]),
            "one": np.array([1]),
            "zero": np.array(0),
            "rest": np.array([0, -1]),
        },
    )
    swapped = x.transpose(0, 3, 1, 2)
    expected = np.concatenate([swapped[..., 2:], swapped[..., :2]], axis=3).reshape(1, -1)
    np.testing.assert_array_equal(run(path, x), expected)


def test_doubling_by_resize_and_sigmoid(tmp_path: Path, x: np.ndarray) -> None:
    attr = {"align_corners": {"b": False}, "half_pixel_centers": {"b": True}}
    path = write(
        tmp_path,
        [
            {"name": "r", "op": "ResizeBilinear", "input": ["x", "size"], "attr": attr},
            {"name": "y", "op": "Sigmoid", "input": ["r"], "attr": {}},
        ],
        {"size": np.array([8, 12])},
    )
    got = run(path, x)
    logits = np.log(got / (1 - got))[0]
    assert logits.shape == (8, 12, 2)
    np.testing.assert_allclose(logits[0, 0], x[0, 0, 0], atol=1e-4)  # half-pixel centres: the corner is clamped
    np.testing.assert_allclose(logits[1, 0], 0.75 * x[0, 0, 0] + 0.25 * x[0, 1, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"op": "Erf", "input": ["x"]}, "y: operator Erf"),
        ({"op": "Conv2D", "input": ["x", "w"], "attr": CONV | {"padding": text("SAME")}}, "y: only VALID"),
        ({"op": "Conv2D", "input": ["x", "w"], "attr": CONV | {"dilations": integers(1, 2, 2, 1)}}, "y: dilated"),
        ({"op": "Reshape", "input": ["x", "x"]}, "should be constant"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path: Path, node: dict[str, Any], words: str) -> None:
    path = write(tmp_path, [{"name": "y", "attr": {}, **node}], {"w": np.zeros((3, 3, 2, 5), np.float32)})
    with pytest.raises(UnsupportedGraph, match=words):
        to_onnx(path)
