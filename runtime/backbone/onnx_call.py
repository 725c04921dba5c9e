# SPDX-License-Identifier: Apache-2.0
"""One call of the language model's graph: the memory of its slots, and buffers for what changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.runtime.backbone.base import BackboneSpec
from duologue.runtime.backbone.onnx_session import BoundRun, OnnxSession
from duologue.runtime.core import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class GraphMemory:
    """What stays where it is from call to call.

    Attributes:
        spec: of the engine.
        rotary: cosines and sines [max_rows, head_dim / 2].
        keys, values: per layer [max_slots, kv heads, max_rows, head_dim].
    """

    spec: BackboneSpec
    rotary: tuple[FloatArray, FloatArray]
    keys: list[FloatArray]
    values: list[FloatArray]

    @property
    def tables(self) -> tuple[list[FloatArray], list[FloatArray]]:
        """Keys and values."""
        return self.keys, self.values

    def bind(
        self,
        session: OnnxSession,
        span: range,
        num_rows: int,
        wanted: Mapping[str, FloatArray] | None = None,
    ) -> GraphCall:
        """Buffers for so many rows of each slot of a span, bound with the slots' memory.

        Args:
            session: the graph.
            span: neighbouring slots.
            num_rows: rows of each.
            wanted: further outputs of the graph and where to write them.
        """
        batch, lm = len(span), self.spec.lm
        logits = np.empty((batch, lm.logit_offsets[-1]), np.float32)
        inputs: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.empty((batch, num_rows, lm.num_channels), np.int64),
            "position_ids": np.empty((batch, num_rows), np.int64),
            "seqlens_k": np.empty(batch, np.int32),
            "total_length": np.empty(1, np.int32),
            "cos": self.rotary[0],
            "sin": self.rotary[1],
        }
        outputs: dict[str, npt.NDArray[Any]] = {"logits": logits, **(wanted or {})}
        for kind, tables in zip(("key", "value"), self.tables, strict=True):
            for layer, table in enumerate(tables):
                seats = table[span.start : span.stop]
                inputs[f"past_{kind}_{layer}"] = seats
                outputs[f"present_{kind}_{layer}"] = seats
        return GraphCall(session.bind(inputs, outputs), inputs, logits, np.arange(num_rows))


@dataclass(frozen=True, slots=True, eq=False)
class GraphCall:
    """The graph bound to the memory of neighbouring slots.

    Attributes:
        bound: may run again and again.
        inputs: buffers, by the names of the graph.
        logits: [B, sum(V_c)] of the latest run.
        steps: 0, 1, ... S - 1.
    """

    bound: BoundRun
    inputs: dict[str, npt.NDArray[Any]]
    logits: FloatArray
    steps: IntArray

    def run(self, input_ids: IntArray, starts: Sequence[int]) -> None:
        """Read [B, S, K] behind the rows that each slot holds.

        Raises:
            EngineError: onnxruntime failed.
        """
        positions = self.inputs["position_ids"]
        np.add(np.array(starts)[:, None], self.steps, out=positions)
        self.inputs["input_ids"][:] = input_ids
        self.inputs["seqlens_k"][:] = positions[:, -1]
        self.inputs["total_length"][0] = max(starts) + len(self.steps)
        self.bound.run()
