# SPDX-License-Identifier: Apache-2.0
"""A small builder of ONNX graphs whose weights stay in a safetensors file.

Initializers refer to the bytes of `codec.safetensors` by offset, so that the weights lie in a
bundle once for all engines, and a graph file holds little more than its nodes.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from duologue.runtime.errors import ConfigError

OPSET = 20
# IR 9 belongs to opset 20; older runtimes refuse a newer one.
IR_VERSION = 9

_DTYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in its file.

    Attributes:
        dtype: element type, one of ONNX's.
        shape: of the tensor.
        offset, num_bytes: position in the file, header included.
    """

    dtype: int
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


def read_safetensors_index(path: Path) -> dict[str, StoredTensor]:
    """Names and places of the tensors of a safetensors file.

    Raises:
        ConfigError: a tensor has a type that the graphs do not use.
    """
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(header_bytes))
    header.pop("__metadata__", None)
    index = {}
    for name, entry in header.items():
        if entry["dtype"] not in _DTYPES:
            raise ConfigError(f"{name} is {entry['dtype']}; allowed: {sorted(_DTYPES)}")
        begin, end = entry["data_offsets"]
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        index[name] = StoredTensor(dtype, shape, 8 + header_bytes + begin, end - begin)
    return index


class GraphBuilder:
    """Collects nodes; every method that adds one returns the name of its output.

    Args:
        name: of the graph.
        weights_path: safetensors file that will lie beside the graph.
    """

    def __init__(self, name: str, weights_path: Path) -> None:
        self._name = name
        self._weights_path = weights_path
        self._index = read_safetensors_index(weights_path)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._floats: dict[str, str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        name = f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def halve(self, x: str, axis: int) -> tuple[str, str]:
        """Split a value into two equal parts."""
        name = f"Split_{len(self._nodes)}"
        first, second = f"{name}_0", f"{name}_1"
        node = helper.make_node("Split", [x], [first, second], name, axis=axis, num_outputs=2)
        self._nodes.append(node)
        return first, second

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """A small array that is kept in the graph file itself."""
        array = np.asarray(value, dtype=dtype)
        name = f"constant_{len(self._initializers)}"
        self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        """A vector of integers: shapes, axes, bounds."""
        return self.constant(values, np.int64)

    def weight(self, name: str) -> str:
        """A tensor of the safetensors file, as float32 whatever its stored type."""
        if name in self._floats:
            return self._floats[name]
        stored = self._index[name]
        tensor = TensorProto(name=name, data_type=stored.dtype, dims=stored.shape)
        tensor.data_location = TensorProto.EXTERNAL
        places = ("location", self._weights_path.name), ("offset", stored.offset)
        for key, value in (*places, ("length", stored.num_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers[name] = tensor
        is_float32 = stored.dtype == TensorProto.FLOAT
        self._floats[name] = name if is_float32 else self.add("Cast", name, to=TensorProto.FLOAT)
        return self._floats[name]

    def has_weight(self, name: str) -> bool:
        """Whether the file holds a tensor of this name."""
        return name in self._index

    def input(self, name: str, dtype: int, shape: list[int | str]) -> str:
        """Declare an input; a word in `shape` is a free dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value: str, name: str, dtype: int, shape: list[int | str]) -> None:
        """Declare what `value` is called outside."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def save(self, path: Path) -> None:
        """Check the graph and write it.

        Raises:
            ConfigError: `path` is not in the folder of the weights, where runtimes look.
        """
        if path.parent.resolve() != self._weights_path.parent.resolve():
            raise ConfigError(f"{path} must lie beside {self._weights_path}")
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        model.producer_name = "duologue"
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(str(path), full_check=True)
