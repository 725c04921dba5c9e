# SPDX-License-Identifier: Apache-2.0
"""Both ends of a step: from the sequences' rows to hidden states, and from scores to new rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

from duologue.runtime.backbone.device import BlockIds
from duologue.runtime.backbone.layout import EMBEDDING
from duologue.runtime.backbone.torch_body import TorchBody
from duologue.runtime.backbone.torch_columns import HeadColumns
from duologue.runtime.backbone.torch_ops import StepRows
from duologue.runtime.backbone.torch_rows import Tensor, upload
from duologue.runtime.backbone.torch_rules import advance, ban, choose
from duologue.runtime.backbone.torch_states import SlotStates


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


@dataclass(frozen=True, slots=True, eq=False)
class DeviceBlock:
    """Ids on their way to the host.

    Attributes:
        outcome: [n, B, K + 1], see `StepBuffers`.
        done: set behind the copy; None where nothing has to be waited for.
    """

    outcome: Tensor
    done: torch.cuda.Event | None

    def wait(self) -> BlockIds:
        """See `device.Block.wait`."""
        if self.done is not None:
            self.done.synchronize()
        numbers = self.outcome.numpy()
        return BlockIds(numbers[..., :-1], numbers[..., -1] > 0)


@dataclass(frozen=True, slots=True, eq=False)
class StepTables:
    """What the ends of a step read, on one device.

    Attributes:
        body: the model's weights.
        states: tables of the sequences.
        columns: what is scored.
        num_seats, num_rows: of the KV cache, the spare row behind each slot's last included.
    """

    body: TorchBody
    states: SlotStates
    columns: HeadColumns
    num_seats: int
    num_rows: int


class StepEnds(Protocol):
    """The ends of a step, in plain torch or in kernels."""

    def begin(self, buffers: StepBuffers) -> tuple[Tensor, StepRows]:
        """The sums of embeddings [B, hidden size] of the rows that are read, and their places."""
        ...

    def finish(self, logits: Tensor, buffers: StepBuffers, *, has_history: bool) -> None:
        """Choose by scores [B, W], write the new rows, and note the outcome.

        Args:
            logits: in the precision of the weights; may be overwritten.
            buffers: of the batch.
            has_history: whether a sequence penalises repetition.
        """
        ...


class PlainEnds:
    """`StepEnds` by torch's own operations.

    Args:
        tables: what they read.
        device: where.
    """

    def __init__(self, tables: StepTables, device: torch.device) -> None:
        self._tables, lm, columns = tables, tables.body.lm, tables.columns
        self._delays = torch.tensor(lm.delays, device=device)
        self._first_rows = torch.tensor(lm.logit_offsets[:-1], device=device)
        self._first_columns = torch.tensor(columns.offsets[:-1], device=device)
        self._ids = upload(columns.ids, device)

    def begin(self, buffers: StepBuffers) -> tuple[Tensor, StepRows]:
        """See `StepEnds.begin`."""
        tables, body, places = self._tables, self._tables.body, buffers.places
        view = tables.states.look(places, has_history=False)
        # Nobody reads the spare row: whoever rests writes there.
        at = torch.where(view.is_active, view.length, tables.num_rows - 1)
        angle = at.clamp(max=len(body.cos) - 1)
        rows = StepRows(
            seats=places.clamp(max=tables.num_seats - 1),
            places=at,
            lengths=torch.where(view.is_active, view.length + 1, 1),
            cos=body.cos.index_select(0, angle),
            sin=body.sin.index_select(0, angle),
        )
        hidden = F.embedding(view.row + self._first_rows, body.weights[EMBEDDING]).sum(dim=1)
        return hidden, rows

    def finish(self, logits: Tensor, buffers: StepBuffers, *, has_history: bool) -> None:
        """See `StepEnds.finish`."""
        tables, scores = self._tables, logits.float()
        view = tables.states.look(buffers.places, has_history=has_history)
        first = scores.index_select(1, self._first_columns)
        is_sound = ~(first.isnan() | first.isposinf()).any(dim=1)
        scores = ban(scores, view, self._delays)
        uniforms = buffers.uniforms.index_select(0, buffers.tick)[0]
        columns = choose(scores, view, uniforms, tables.columns)
        chosen = self._ids[columns + self._first_columns]
        after = advance(chosen, view, self._delays, tables.body.lm)
        # Whoever has no numbers rests from now on.
        after = dataclasses.replace(after, limit=after.limit * is_sound)
        tables.states.write(buffers.places, view, after)
        outcome = torch.cat([chosen, is_sound[:, None].long()], dim=1)
        buffers.outcome.index_copy_(0, buffers.tick, outcome[None])
        buffers.tick.add_(1).remainder_(len(buffers.outcome))
