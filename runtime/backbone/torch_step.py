# SPDX-License-Identifier: Apache-2.0
"""One whole decode step on the device: ids in, ids out, nothing for the host to decide.

Embedding sum through the one table of all channels, body, the heads in one product, bans of the
delay pattern, sampling, the delay pattern itself, and the new row back into the tables. All shapes
are fixed by the height of the batch, and nothing waits: one CUDA graph can hold it.
"""

from __future__ import annotations

import torch

from duologue.runtime.backbone.layout import FINAL_NORM, HEAD
from duologue.runtime.backbone.torch_ends import StepBuffers, StepEnds, StepTables
from duologue.runtime.backbone.torch_ops import StepOps, StepRows
from duologue.runtime.backbone.torch_rows import KvCache, Tensor, upload
from duologue.runtime.backbone.torch_weights import take_rows


class TorchStep:
    """Takes steps.

    Args:
        tables: weights and sequences.
        ops: how the parts of a layer are computed.
        ends: what stands before and behind the layers.
        cache: keys and values, each slot with one spare row behind its last, for those who rest.
        device: of all of them.
    """

    def __init__(
        self,
        tables: StepTables,
        ops: StepOps,
        ends: StepEnds,
        cache: KvCache,
        device: torch.device,
    ) -> None:
        self._body, self._ops, self._ends, self._cache = tables.body, ops, ends, cache
        head, columns = tables.body.matrices[HEAD], tables.columns
        # All rows: no copy. Some: a table of their own, so that only they are read.
        self._head = head if columns.are_all else take_rows(head, upload(columns.rows, device))

    def take(self, buffers: StepBuffers, *, has_history: bool) -> None:
        """Take one step; see `StepBuffers`.

        Args:
            buffers: of the batch.
            has_history: whether a sequence penalises repetition.
        """
        hidden, rows = self._ends.begin(buffers)
        update = None
        for layer in range(self._body.lm.num_layers):
            update = self._layer(layer, hidden, update, rows)
        hidden = self._ops.add_norm(hidden, update, self._body.weights[FINAL_NORM])
        logits = self._ops.project(hidden, self._head)
        self._ends.finish(logits, buffers, has_history=has_history)

    def _layer(self, layer: int, hidden: Tensor, update: Tensor | None, rows: StepRows) -> Tensor:
        """Pass a layer; what it adds to `hidden` last is left to the next norm."""
        weights, matrices, ops = self._body.weights, self._body.matrices, self._ops
        prefix = f"layers.{layer}."
        cache = self._cache.keys[layer], self._cache.values[layer]
        norms = weights[f"{prefix}q_norm.weight"], weights[f"{prefix}k_norm.weight"]
        normed = ops.add_norm(hidden, update, weights[f"{prefix}input_layernorm.weight"])
        joined = ops.project(normed, matrices[f"{prefix}qkv_proj.weight"])
        mixed = ops.attend(ops.store(joined, norms, cache, rows), cache, rows)
        update = ops.project(mixed, matrices[f"{prefix}o_proj.weight"])
        normed = ops.add_norm(hidden, update, weights[f"{prefix}post_attention_layernorm.weight"])
        gated = ops.gate(ops.project(normed, matrices[f"{prefix}gate_up_proj.weight"]))
        return ops.project(gated, matrices[f"{prefix}down_proj.weight"])
