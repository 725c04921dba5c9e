# SPDX-License-Identifier: Apache-2.0
"""The torch engine on a GPU: steps are chosen, forced and written without the host.

Prompts are read as `TorchBackbone` reads them. From the second row on a sequence lives on the
device (`device.DecodesOnDevice`): one recorded step per height of batch, replayed in blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from duologue.runtime.backbone.device import DeviceSequence, WideArray
from duologue.runtime.backbone.precision import Attention
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.backbone.torch_columns import IdRanges, head_columns
from duologue.runtime.backbone.torch_ends import DeviceBlock, StepBuffers, StepTables, make_buffers
from duologue.runtime.backbone.torch_graphs import StepGraphs, batch_heights
from duologue.runtime.backbone.torch_rows import Tensor, upload
from duologue.runtime.backbone.torch_rules import can_choose
from duologue.runtime.backbone.torch_states import SlotStates
from duologue.runtime.backbone.torch_step import TorchStep
from duologue.runtime.backbone.torch_ways import Way, find_ways
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import EngineError

_log = logging.getLogger(__name__)

_BLOCK_STEPS = 4
_BEFORE_OTHERS = -1
"""Priority of the stream: a step is worth more than the codec's work beside it."""


class TorchDeviceBackbone(TorchBackbone):
    """A `Backbone` that `DecodesOnDevice`.

    Made for a GPU; on a CPU it does the same without recordings, which is how it is tested.

    Args:
        lm: shape of the model.
        weights_path: `lm.safetensors`, or its copy with matrices in 8 bits, which stay so.
        max_slots: sequences at the same time.
        max_rows: rows per sequence.
        dtype: "float32", "float16" or "bfloat16", of activations, KV cache and wide weights.
        device: "cpu", "cuda" or "cuda:N".
        attention: how attention of prompts is computed, see `precision`.
        deterministic: all batches have the height of the largest, so that products round alike
            whoever shares a step; a lone sequence pays for it.
        channel0_ids: ranges of ids that channel 0 chooses from, see `torch_columns`; None: all.

    Raises:
        ConfigError: a value is out of range, the weights do not fit the model, or memory does
            not suffice.
    """

    # Where sequences that rest write to.
    _SPARE_ROWS: ClassVar[int] = 1
    _KEEPS_NARROW: ClassVar[bool] = True

    def __init__(
        self,
        lm: LmConfig,
        weights_path: Path,
        *,
        max_slots: int,
        max_rows: int,
        dtype: str = "float32",
        device: str = "cpu",
        attention: Attention = "sdpa",
        deterministic: bool = False,
        channel0_ids: IdRanges | None = None,
    ) -> None:
        columns = head_columns(lm, channel0_ids)
        sizes: dict[str, Any] = {"max_slots": max_slots, "max_rows": max_rows}
        super().__init__(lm, weights_path, **sizes, dtype=dtype, device=device, attention=attention)
        self._columns, self._attention = columns, attention
        self._states = SlotStates(lm, columns, max_slots, self._device)
        self._heights = (max_slots,) if deterministic else batch_heights(max_slots)
        self._seated: dict[int, bool] = {}
        self._stream: torch.cuda.Stream | None = None
        if self._device.type == "cuda":
            self._stream = torch.cuda.Stream(  # type: ignore[no-untyped-call]
                self._device, priority=_BEFORE_OTHERS
            )
            torch.cuda.synchronize(self._device)
        self._graphs = self._make_graphs(next(find_ways(lm, attention, self._stream)))

    @property
    def max_block_steps(self) -> int:
        """See `device.DecodesOnDevice`."""
        return _BLOCK_STEPS

    def can_seat(self, sampling: WideArray) -> bool:
        """See `device.DecodesOnDevice.can_seat`."""
        return can_choose(self._columns, sampling)

    @torch.inference_mode()
    def seat(self, slot: int, sequence: DeviceSequence) -> None:
        """See `device.DecodesOnDevice.seat`.

        Raises:
            EngineError: the slot holds no prompt, or too few rows for the sequence.
        """
        length = self._slots.rows(slot)
        needed = length + sequence.max_steps - sequence.num_steps
        if length < 1 or needed > self.spec.max_rows:
            raise EngineError(
                f"slot {slot} holds {length} rows and its sequence may need {needed}; "
                f"allowed: at least 1, and up to {self.spec.max_rows}"
            )
        with self._on_stream():
            self._states.seat(slot, length, sequence)
        self._seated[slot] = sequence.seen is not None

    @torch.inference_mode()
    def launch(self, slots: Sequence[int], uniforms: WideArray) -> DeviceBlock:
        """See `device.DecodesOnDevice.launch`.

        Raises:
            EngineError: a slot comes twice or has no sequence, or the block is too long.
        """
        num_steps, batch, _ = uniforms.shape
        self._check_launch(slots, num_steps)
        buffers = self._graphs.buffers(batch)
        places = np.full(len(buffers.places), self._states.idle)
        places[:batch] = slots
        has_history = any(self._seated[slot] for slot in slots)
        with self._on_stream():
            buffers.places.copy_(upload(places, self._device))
            buffers.uniforms[:num_steps, :batch].copy_(upload(uniforms, self._device))
            buffers.tick.zero_()
            self._graphs.replay(batch, num_steps, has_history=has_history)
            return self._fetch(buffers.outcome[:num_steps, :batch])

    @torch.inference_mode()
    def release(self, slot: int) -> None:
        """Forget the sequence in a slot."""
        super().release(slot)
        if self._seated.pop(slot, None) is not None:
            with self._on_stream():
                self._states.rest(slot)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Record all steps before the first request comes, in the best way that works here.

        Raises:
            OutOfMemoryError: the GPU's memory does not suffice.
        """
        for way in self.ways:
            try:
                self.use(way)
            except torch.OutOfMemoryError:
                raise
            except way.failures as error:
                _log.warning("decode steps do not run by %s: %s", way.name, error)
                continue
            _log.info("decode steps run by %s", way.name)
            return

    @property
    def ways(self) -> list[Way]:
        """How steps can be taken here, the best first."""
        return list(find_ways(self.spec.lm, self._attention, self._stream))

    @torch.inference_mode()
    def use(self, way: Way) -> None:
        """Record all steps this way.

        Raises:
            Exception: one of `way.failures`; the engine then goes on as before.
        """
        graphs = self._make_graphs(way)
        graphs.warm_up()
        self._graphs = graphs

    def _make_graphs(self, way: Way) -> StepGraphs:
        num_seats, _, num_rows, _ = self._cache.keys[0].shape
        tables = StepTables(self._body, self._states, self._columns, num_seats, num_rows)
        ends = way.make_ends(tables, self._device)
        step = TorchStep(tables, way.ops, ends, self._cache, self._device)
        make = partial(
            make_buffers,
            num_steps=_BLOCK_STEPS,
            num_channels=self.spec.lm.num_channels,
            idle=self._states.idle,
            device=self._device,
        )

        def take(buffers: StepBuffers, has_history: bool) -> None:
            step.take(buffers, has_history=has_history)

        return StepGraphs(self._heights, make, take, way.record)

    def _check_launch(self, slots: Sequence[int], num_steps: int) -> None:
        is_known = set(slots) <= self._seated.keys() and len(set(slots)) == len(slots)
        if not is_known or not 1 <= num_steps <= _BLOCK_STEPS:
            raise EngineError(
                f"{num_steps} steps of slots {list(slots)}; allowed: 1 to {_BLOCK_STEPS}, of "
                f"different ones among {sorted(self._seated)}"
            )
        for slot in slots:
            # How many of the steps count is for the device to know.
            rows = self._slots.rows(slot) + num_steps
            self._slots.set(slot, min(rows, self.spec.max_rows))

    def _fetch(self, outcome: Tensor) -> DeviceBlock:
        if self._stream is None:
            return DeviceBlock(outcome.clone(), None)
        host = torch.empty(outcome.shape, dtype=outcome.dtype, pin_memory=True)
        host.copy_(outcome, non_blocking=True)
        return DeviceBlock(host, self._stream.record_event())

    def close(self) -> None:
        """Give the memory back once the device has done what it was given."""
        if self._stream is not None:
            self._stream.synchronize()
        super().close()

    def _on_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
