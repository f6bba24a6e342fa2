"""TensorFlow.js graph models as ONNX, converted in memory: the operators that NanoDet's published graph has, no others."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

NCHW, NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
OPSET = 18


class UnsupportedGraph(Exception):
    """The graph has an operator or an attribute that the converter does not know."""


def to_onnx(path: Path) -> bytes:
    """Read `path` (a `model.json` with its weight files beside it) and give a serialised ONNX model.

    Inputs and outputs keep their names, outputs are sorted by name. Convolutions stay NHWC, wrapped in
    transposes that ONNX Runtime removes. Raises `UnsupportedGraph`.
    """
    model = json.loads(path.read_text())
    graph = _Graph({node["name"]: node for node in model["modelTopology"]["node"]}, _weights(model, path.parent))
    outputs = []
    for name in sorted(model["signature"]["outputs"]):
        graph.add("Identity", [graph.value(name)], name)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    made = helper.make_graph(graph.nodes, path.stem, graph.inputs, outputs, graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9).SerializeToString()


def _weights(model: dict[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """Weights by name; float16 ones are widened to float32."""
    found = {}
    for group in model["weightsManifest"]:
        data, offset = b"".join((folder / name).read_bytes() for name in group["paths"]), 0
        for spec in group["weights"]:
            stored = spec.get("quantization", {}).get("dtype", spec["dtype"])
            if stored not in ("float16", "float32", "int32"):
                raise UnsupportedGraph(f"weight {spec['name']} is stored as {stored}")
            dtype, count = np.dtype(stored), int(np.prod(spec["shape"]))
            array = np.frombuffer(data, dtype, count, offset).reshape(spec["shape"])
            found[spec["name"]] = array.astype(np.int64 if stored == "int32" else np.float32)
            offset += count * dtype.itemsize
    return found


class _Graph:
    """Nodes are visited from the outputs; what is constant is computed here, the rest becomes ONNX nodes."""

    def __init__(self, source: dict[str, dict[str, Any]], weights: dict[str, np.ndarray]):
        self.source, self.weights = source, weights
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.constants: list[Any] = []
        self.values: dict[str, str | list[str]] = {}

    def value(self, reference: str) -> str:
        """The ONNX name of `node` or `node:output`."""
        name, _, index = reference.partition(":")
        if name not in self.values:
            self.values[name] = self._convert(self.source[name])
        found = self.values[name]
        return found if isinstance(found, str) else found[int(index or 0)]

    def constant(self, reference: str) -> np.ndarray:
        """The value of a node that depends on weights only (shapes, axes, paddings)."""
        node = self.source[reference.partition(":")[0]]
        if node["op"] == "Const":
            return self.weights[node["name"]]
        if node["op"] in ("Add", "AddV2"):
            return self.constant(node["input"][0]) + self.constant(node["input"][1])
        if node["op"] == "SparseToDense":
            indices, shape, values, default = (self.constant(name) for name in node["input"])
            dense = np.full(shape, default)
            dense[tuple(indices.reshape(len(values), len(shape)).T)] = values
            return dense
        raise UnsupportedGraph(f"{node['name']} ({node['op']}) should be constant")

    def add(self, op: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def hold(self, array: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _convert(self, node: dict[str, Any]) -> str | list[str]:
        op, inputs = node["op"], node.get("input", [])
        if op == "Placeholder":
            shape = [int(dim["size"]) for dim in node["attr"]["shape"]["shape"]["dim"]]
            self.inputs.append(helper.make_tensor_value_info(node["name"], TensorProto.FLOAT, shape))
            return node["name"]
        if op == "Const":
            return self.hold(self.weights[node["name"]])
        if op == "ConcatV2":
            return self.add("Concat", [self.value(name) for name in inputs[:-1]], axis=int(self.constant(inputs[-1])))
        if op not in _CONVERTERS:
            raise UnsupportedGraph(f"{node['name']}: operator {op}")
        return _CONVERTERS[op](self, node, self.value(inputs[0]), inputs[1:])


def _attribute(node: dict[str, Any], name: str) -> Any:
    """An attribute as TensorFlow.js writes it: integers as text, text in base64."""
    kind, value = next(iter(node["attr"][name].items()))
    if kind == "list":
        return [int(item) for item in value.get("i", [])]
    return base64.b64decode(value).decode() if kind == "s" else value


def _spatial(graph: _Graph, node: dict[str, Any], op: str, inputs: list[str], **attributes: Any) -> str:
    """A convolution or pooling of an NHWC tensor without padding."""
    if (_attribute(node, "padding"), _attribute(node, "data_format")) != ("VALID", "NHWC"):
        raise UnsupportedGraph(f"{node['name']}: only VALID padding and NHWC are known")
    first = graph.add("Transpose", inputs[:1], perm=NCHW)
    strides = _attribute(node, "strides")[1:3]
    return graph.add("Transpose", [graph.add(op, [first, *inputs[1:]], strides=strides, **attributes)], perm=NHWC)


def _conv(graph: _Graph, node: dict[str, Any], x: str, rest: list[str]) -> str:
    if _attribute(node, "dilations") != [1, 1, 1, 1]:
        raise UnsupportedGraph(f"{node['name']}: dilated convolution")
    return _spatial(graph, node, "Conv", [x, graph.hold(graph.constant(rest[0]).transpose(3, 2, 0, 1))])


def _resize(graph: _Graph, node: dict[str, Any], x: str, rest: list[str]) -> str:
    if _attribute(node, "align_corners") or not _attribute(node, "half_pixel_centers"):
        raise UnsupportedGraph(f"{node['name']}: only half-pixel centres are known")
    first = graph.add("Transpose", [x], perm=NCHW)
    # All four sizes, from the tensor itself: ONNX Runtime 1.2x fails on Resize with `axes` once it has moved the transposes.
    size = graph.add("Concat", [graph.add("Shape", [first], start=0, end=2), graph.hold(graph.constant(rest[0]))], axis=0)
    resized = graph.add("Resize", [first, "", "", size], mode="linear", coordinate_transformation_mode="half_pixel")
    return graph.add("Transpose", [resized], perm=NHWC)


def _pad(graph: _Graph, node: dict[str, Any], x: str, rest: list[str]) -> str:
    value = graph.constant(rest[1]) if len(rest) > 1 else np.zeros(())
    return graph.add("Pad", [x, graph.hold(graph.constant(rest[0]).T.ravel()), graph.hold(np.asarray(value, np.float32))])


def _split(graph: _Graph, node: dict[str, Any], x: str, rest: list[str]) -> list[str]:
    sizes, axis = graph.constant(rest[0]), int(graph.constant(rest[1]))
    names = [f"Split_{len(graph.nodes)}_{part}" for part in range(len(sizes))]
    graph.nodes.append(helper.make_node("Split", [x, graph.hold(sizes)], names, axis=axis))
    return names


_CONVERTERS: dict[str, Callable[[_Graph, dict[str, Any], str, list[str]], str | list[str]]] = {
    "Add": lambda graph, _, x, rest: graph.add("Add", [x, graph.value(rest[0])]),
    "Conv2D": _conv,
    "Identity": lambda graph, _, x, rest: x,
    "LeakyRelu": lambda graph, node, x, _: graph.add("LeakyRelu", [x], alpha=_attribute(node, "alpha")),
    "MaxPool": lambda graph, node, x, _: _spatial(graph, node, "MaxPool", [x], kernel_shape=_attribute(node, "ksize")[1:3]),
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": lambda graph, _, x, rest: graph.add("Reshape", [x, graph.hold(graph.constant(rest[0]))]),
    "ResizeBilinear": _resize,
    "Sigmoid": lambda graph, _, x, rest: graph.add("Sigmoid", [x]),
    "SplitV": _split,
    "Transpose": lambda graph, _, x, rest: graph.add("Transpose", [x], perm=graph.constant(rest[0]).tolist()),
}
