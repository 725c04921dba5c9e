# SPDX-License-Identifier: Apache-2.0
"""Both ends of a step by the kernels of `torch_end_kernels`. Importing this file needs `triton`."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
import triton

from duologue.runtime.backbone.layout import EMBEDDING
from duologue.runtime.backbone.torch_end_kernels import begin_kernel, finish_kernel, keys_kernel
from duologue.runtime.backbone.torch_ends import StepBuffers, StepTables
from duologue.runtime.backbone.torch_ops import StepRows
from duologue.runtime.backbone.torch_rows import Tensor, upload
from duologue.runtime.backbone.torch_rules import NUM_CANDIDATES

_BLOCK = 1024
_NUM_WARPS = 8


class KernelEnds:
    """`StepEnds` by kernels of our own, and torch's search for the best keys between them.

    Args:
        tables: what they read.
        device: where.
    """

    def __init__(self, tables: StepTables, device: torch.device) -> None:
        self._tables, lm, columns = tables, tables.body.lm, tables.columns
        sizes = np.diff(columns.offsets)
        self._channel_of = upload(np.repeat(np.arange(lm.num_channels), sizes), device)
        self._first_columns = upload(np.array(columns.offsets[:-1]), device)
        self._first_rows = upload(np.array(lm.logit_offsets[:-1]), device)
        self._delays = upload(np.array(lm.delays), device)
        self._ids = upload(columns.ids, device)
        self._seen = tables.states.seen.view(torch.uint8)

    def begin(self, buffers: StepBuffers) -> tuple[Tensor, StepRows]:
        """See `StepEnds.begin`."""
        tables, body, lm = self._tables, self._tables.body, self._tables.body.lm
        table, batch, half = body.weights[EMBEDDING], len(buffers.places), lm.head_dim // 2
        hidden = table.new_empty(batch, lm.hidden_size)
        seats, at, lengths = (torch.empty_like(buffers.places) for _ in range(3))
        cos, sin = (body.cos.new_empty(batch, half) for _ in range(2))
        begin_kernel[(batch, triton.cdiv(lm.hidden_size, _BLOCK))](
            buffers.places,
            tables.states.numbers,
            self._first_rows,
            table,
            body.cos,
            body.sin,
            hidden,
            seats,
            at,
            lengths,
            cos,
            sin,
            lm.hidden_size,
            tables.num_seats - 1,
            tables.num_rows - 1,
            len(body.cos) - 1,
            NUMBERS=tables.states.numbers.shape[1],
            ROW=tables.states.places["row"],
            CHANNELS=lm.num_channels,
            HALF=half,
            BLOCK_HALF=triton.next_power_of_2(half),
            BLOCK=_BLOCK,
        )
        return hidden, StepRows(seats, at, lengths, cos, sin)

    def finish(self, logits: Tensor, buffers: StepBuffers, *, has_history: bool) -> None:
        """See `StepEnds.finish`."""
        states, lm = self._tables.states, self._tables.body.lm
        places, width = states.places, logits.shape[1]
        best = self._best_keys(self._keys(logits, buffers, has_history=has_history))
        finish_kernel[(len(logits),)](
            best,
            logits,
            buffers.places,
            states.numbers,
            states.reals,
            self._seen,
            buffers.uniforms,
            buffers.tick,
            buffers.outcome,
            self._ids,
            self._first_columns,
            self._first_rows,
            states.column_of,
            self._delays,
            width,
            NUMBERS=states.numbers.shape[1],
            ROW=places["row"],
            SPEECH=places["speech"],
            FILLS=places["fills"],
            TOP_K=places["top_k"],
            DOES_SAMPLE=places["does_sample"],
            FORCED=places["forced"],
            CHANNELS=lm.num_channels,
            DEPTH=max(1, lm.max_delay),
            MAX_DELAY=lm.max_delay,
            HAS_HISTORY=has_history,
            BLOCK_CHANNELS=triton.next_power_of_2(lm.num_channels),
            CANDIDATES=NUM_CANDIDATES,
            num_warps=_NUM_WARPS,
        )
        buffers.tick.add_(1).remainder_(len(buffers.outcome))

    def _keys(self, logits: Tensor, buffers: StepBuffers, *, has_history: bool) -> Tensor:
        """Keys [B, W] that order by score and then by column; see `torch_rules`."""
        states, lm = self._tables.states, self._tables.body.lm
        batch, width = logits.shape
        keys = logits.new_empty(batch, width, dtype=torch.int64)
        keys_kernel[(batch, triton.cdiv(width, _BLOCK))](
            logits,
            buffers.places,
            states.numbers,
            states.reals,
            self._seen,
            self._channel_of,
            self._first_columns,
            self._delays,
            keys,
            width,
            NUMBERS=states.numbers.shape[1],
            END_COLUMN=states.places["end_column"],
            FILL_COLUMNS=states.places["fill_columns"],
            CHANNELS=lm.num_channels,
            MAX_DELAY=lm.max_delay,
            HAS_HISTORY=has_history,
            BLOCK=_BLOCK,
        )
        return keys

    def _best_keys(self, keys: Tensor) -> Tensor:
        """The best of each channel [B, K, NUM_CANDIDATES], best first."""
        offsets, found = self._tables.columns.offsets, []
        for first, stop in self._tables.columns.runs:
            size = offsets[first + 1] - offsets[first]
            block = keys[:, offsets[first] : offsets[stop]].reshape(len(keys), stop - first, size)
            best, _ = block.topk(min(size, NUM_CANDIDATES), dim=2)
            missing = NUM_CANDIDATES - best.shape[2]
            found.append(F.pad(best, (0, missing), value=torch.iinfo(torch.int64).min))
        return torch.cat(found, dim=1)
