# SPDX-License-Identifier: Apache-2.0
"""One whole decode step on the device: ids in, ids out, nothing for the host to decide.

Embedding sum through the one table of all channels, body, the heads in one product, bans of the
delay pattern, sampling, the delay pattern itself, and the new row back into the tables. All shapes
are fixed by the height of the batch, and nothing waits: one CUDA graph can hold it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from duologue.runtime.backbone.layout import EMBEDDING, FINAL_NORM, head_name
from duologue.runtime.backbone.torch_body import TorchBody
from duologue.runtime.backbone.torch_columns import HeadColumns
from duologue.runtime.backbone.torch_ops import StepOps, StepRows
from duologue.runtime.backbone.torch_rows import KvCache, Tensor, upload
from duologue.runtime.backbone.torch_rules import advance, ban, choose
from duologue.runtime.backbone.torch_states import SlotStates, StepView


@dataclass(frozen=True, slots=True, eq=False)
class StepBuffers:
    """What a step of a batch of B reads and writes, always at the same addresses.

    Attributes:
        places: [B] slots; the idle place where the batch is short.
        uniforms: [n, B, K], random numbers of n steps in a row.
        tick: [1], which of the n steps comes next.
        outcome: [n, B, K + 1], chosen ids, and 1 behind them if the scores are numbers.
    """

    places: Tensor
    uniforms: Tensor
    tick: Tensor
    outcome: Tensor


def make_buffers(
    height: int, num_steps: int, num_channels: int, idle: int, device: torch.device
) -> StepBuffers:
    """Buffers of a batch of so many rows that all rest."""
    return StepBuffers(
        places=torch.full((height,), idle, device=device),
        uniforms=torch.zeros(num_steps, height, num_channels, dtype=torch.float64, device=device),
        tick=torch.zeros(1, dtype=torch.int64, device=device),
        outcome=torch.zeros(num_steps, height, num_channels + 1, dtype=torch.int64, device=device),
    )


class TorchStep:
    """Takes steps.

    Args:
        body: the model's weights.
        ops: how the parts are computed.
        states: tables of the sequences.
        cache: keys and values, each slot with one spare row behind its last, for those who rest.
        columns: what is scored.
        device: of all of them.
    """

    def __init__(
        self,
        body: TorchBody,
        ops: StepOps,
        states: SlotStates,
        cache: KvCache,
        columns: HeadColumns,
        device: torch.device,
    ) -> None:
        self._body, self._ops, self._states, self._cache = body, ops, states, cache
        self._columns, lm = columns, body.lm
        self._delays = torch.tensor(lm.delays, device=device)
        self._first_rows = torch.tensor(lm.logit_offsets[:-1], device=device)
        self._first_columns = torch.tensor(columns.offsets[:-1], device=device)
        self._ids = upload(columns.ids, device)
        head = body.weights[head_name(lm)]
        # All rows: no copy. Some: a table of their own, so that only they are read.
        self._head = head if columns.are_all else head[upload(columns.rows, device)]
        self._spare_row = cache.keys[0].shape[2] - 1
        self._last_seat = cache.keys[0].shape[0] - 1

    def take(self, buffers: StepBuffers, *, has_history: bool) -> None:
        """Take one step; see `StepBuffers`.

        Args:
            buffers: of the batch.
            has_history: whether a sequence penalises repetition.
        """
        view = self._states.look(buffers.places, has_history=has_history)
        scores = self._scores(view, buffers.places)
        first = scores.index_select(1, self._first_columns)
        is_sound = ~(first.isnan() | first.isposinf()).any(dim=1)
        scores = ban(scores, view, self._delays)
        uniforms = buffers.uniforms.index_select(0, buffers.tick)[0]
        columns = choose(scores, view, uniforms, self._columns)
        chosen = self._ids[columns + self._first_columns]
        after = advance(chosen, view, self._delays, self._body.lm)
        # Whoever has no numbers rests from now on.
        after = dataclasses.replace(after, limit=after.limit * is_sound)
        self._states.write(buffers.places, view, after)
        outcome = torch.cat([chosen, is_sound[:, None].long()], dim=1)
        buffers.outcome.index_copy_(0, buffers.tick, outcome[None])
        buffers.tick.add_(1).remainder_(len(buffers.outcome))

    def _scores(self, view: StepView, places: Tensor) -> Tensor:
        """Scores [B, W] in float32 behind the rows that are read."""
        body, lm = self._body, self._body.lm
        is_active = view.is_active
        # Nobody reads the spare row: whoever rests writes there.
        at = torch.where(is_active, view.length, self._spare_row)
        angle = at.clamp(max=len(body.cos) - 1)
        rows = StepRows(
            seats=places.clamp(max=self._last_seat),
            places=at,
            lengths=torch.where(is_active, view.length + 1, 1),
            cos=body.cos.index_select(0, angle),
            sin=body.sin.index_select(0, angle),
        )
        hidden = F.embedding(view.row + self._first_rows, body.weights[EMBEDDING]).sum(dim=1)
        update = None
        for layer in range(lm.num_layers):
            update = self._layer(layer, hidden, update, rows)
        hidden = self._ops.add_norm(hidden, update, body.weights[FINAL_NORM])
        return self._ops.project(hidden, self._head).float()

    def _layer(self, layer: int, hidden: Tensor, update: Tensor | None, rows: StepRows) -> Tensor:
        """Pass a layer; what it adds to `hidden` last is left to the next norm."""
        weights, ops, prefix = self._body.weights, self._ops, f"layers.{layer}."
        cache = self._cache.keys[layer], self._cache.values[layer]
        norms = weights[f"{prefix}q_norm.weight"], weights[f"{prefix}k_norm.weight"]
        normed = ops.add_norm(hidden, update, weights[f"{prefix}input_layernorm.weight"])
        joined = ops.project(normed, weights[f"{prefix}qkv_proj.weight"])
        mixed = ops.attend(ops.store(joined, norms, cache, rows), cache, rows)
        update = ops.project(mixed, weights[f"{prefix}o_proj.weight"])
        normed = ops.add_norm(hidden, update, weights[f"{prefix}post_attention_layernorm.weight"])
        gated = ops.gate(ops.project(normed, weights[f"{prefix}gate_up_proj.weight"]))
        return ops.project(gated, weights[f"{prefix}down_proj.weight"])
