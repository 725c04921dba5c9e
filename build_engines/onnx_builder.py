# SPDX-License-Identifier: Apache-2.0
"""A tiny builder of ONNX graphs whose weights stay in a safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from duologue.runtime.backbone.tensor_file import StoredTensor

OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"
_ELEMENT_TYPES = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "U8": TensorProto.UINT8,
}

Shape = Sequence[int | str]


class GraphBuilder:
    """Collects nodes, inputs, outputs and weights, and names what lies between them.

    Args:
        name: of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, element_type: int, shape: Shape) -> str:
        """Declare an input; returns its name."""
        self._inputs.append(helper.make_tensor_value_info(name, element_type, shape))
        return name

    def output(self, name: str, element_type: int, shape: Shape) -> None:
        """Declare a value as an output."""
        self._outputs.append(helper.make_tensor_value_info(name, element_type, shape))

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Put a small array into the graph; the same name is put in once."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(values, name)
        return name

    def weight(self, name: str, tensor: StoredTensor, file_name: str) -> str:
        """Point to a tensor in a file beside the graph; returns it as float32 (or uint8).

        Args:
            name: of the tensor.
            tensor: gives type, shape and place.
            file_name: the file's name, relative to the graph.
        """
        if name in self._initializers:
            return name if tensor.dtype in ("F32", "U8") else f"{name}.float32"
        proto = TensorProto(name=name, data_type=_ELEMENT_TYPES[tensor.dtype], dims=tensor.shape)
        proto.data_location = TensorProto.EXTERNAL
        place = {"location": file_name, "offset": tensor.offset, "length": tensor.data.nbytes}
        for key, value in place.items():
            proto.external_data.add(key=key, value=str(value))
        self._initializers[name] = proto
        if tensor.dtype in ("F32", "U8"):
            return name
        return self.node("Cast", [name], name=f"{name}.float32", to=TensorProto.FLOAT)

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        *,
        name: str = "",
        domain: str = "",
        **attrs: Any,
    ) -> str:
        """Add an operator with one output; returns the output's name."""
        return self.nodes(operator, inputs, [name or self._fresh(operator)], domain, **attrs)[0]

    def nodes(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        domain: str = "",
        **attrs: Any,
    ) -> list[str]:
        """Add an operator with named outputs; returns their names."""
        self._nodes.append(
            helper.make_node(
                operator, list(inputs), list(outputs), name=outputs[0], domain=domain, **attrs
            )
        )
        return list(outputs)

    def ints(self, *values: int) -> str:
        """A constant list of int64."""
        name = "ints_" + "_".join(str(value) for value in values)
        return self.constant(name, np.array(values, dtype=np.int64))

    def save(self, path: Path) -> None:
        """Write the graph; the files it points to must lie beside it when it is loaded."""
        graph = helper.make_graph(
            self._nodes,
            self._name,
            self._inputs,
            self._outputs,
            list(self._initializers.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="duologue"
        )
        path.write_bytes(model.SerializeToString(deterministic=True))

    def _fresh(self, operator: str) -> str:
        return f"{operator}_{len(self._nodes)}"
