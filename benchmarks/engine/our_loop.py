# SPDX-License-Identifier: Apache-2.0
"""Decode steps as the engine thread takes them: backbone, choice of ids, delay pattern.

Where the backbone decodes on its own device, blocks of steps are launched ahead and read one later,
as the engine does; a step's time is its share of the time from one block's end to the next's.
"""

from __future__ import annotations

import time

import numpy as np

from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.samples import LoopTimes
from duologue.runtime.backbone.base import Backbone, PrefixHandle
from duologue.runtime.backbone.device import DecodesOnDevice
from duologue.runtime.config import Bundle
from duologue.runtime.core import IntArray, Logits
from duologue.runtime.device_blocks import DeviceBlocks
from duologue.runtime.lm.sampling import choose
from duologue.runtime.lm.sequence import Sequence, new_sequence


def speech_rows(bundle: Bundle, num_rows: int, seed: int) -> IntArray:
    """Aligned rows [num_rows, K] of random speech, which every model can read."""
    lm, tokens = bundle.lm, bundle.tokens
    lowest = np.array([tokens.speech_start, *[0] * (lm.num_channels - 1)])
    generator = np.random.default_rng(seed)
    size = (num_rows, lm.num_channels)
    codes: IntArray = generator.integers(0, bundle.codec.codebook_size, size)
    rows: IntArray = lowest + codes
    return rows


class OurLoop:
    """Runs rounds of steps on one of our engines.

    Args:
        bundle: description of the model.
        backbone: its language model, with slots for the largest batch.
        plan: sizes.
    """

    def __init__(self, bundle: Bundle, backbone: Backbone, plan: EnginePlan) -> None:
        self._bundle = bundle
        self._backbone = backbone
        self._plan = plan

    def run_round(self, cell: Cell, times: LoopTimes) -> None:
        """Fill the slots of a cell, take the plan's steps, and add what they took."""
        sequences = [self._sequence(cell, slot) for slot in range(cell.batch)]
        try:
            started_s = time.perf_counter()
            logits = self._prefill(sequences[0])
            times.prefill_s.append(time.perf_counter() - started_s)
            self._copy_to_others(sequences, cell.context)
            for sequence in sequences:
                sequence.append(choose(logits, [sequence])[0])
            if not self._run_blocks(sequences, times):
                for step in range(self._plan.warmup_steps + self._plan.steps):
                    noted = times if step >= self._plan.warmup_steps else LoopTimes()
                    self._step(sequences, noted)
        finally:
            for slot in range(cell.batch):
                self._backbone.release(slot)

    def _sequence(self, cell: Cell, slot: int) -> Sequence:
        sequence = new_sequence(
            speech_rows(self._bundle, cell.context, self._plan.seed),
            lm=self._bundle.lm,
            tokens=self._bundle.tokens,
            sampling=self._bundle.sampling,
            seed=self._plan.seed + slot,
            max_frames=self._plan.rows_needed,
            min_frames=1,
            # The steps stop before the slots are full; the drain's rows are never reached.
            max_rows=self._backbone.spec.max_rows + self._bundle.lm.max_delay,
            codebook_size=self._bundle.codec.codebook_size,
        )
        sequence.slot = slot
        # A device ends sequences by itself: not for what they say, and not before the slot is full.
        sequence.state.speech_start, sequence.state.speech_stop = 0, self._bundle.lm.vocab_sizes[0]
        sequence.max_frames -= self._bundle.lm.max_delay - 1
        return sequence

    def _prefill(self, sequence: Sequence) -> Logits:
        rows, size = sequence.prompt_rows, self._plan.max_prefill_rows
        logits = None
        for start in range(0, len(rows), size):
            piece = rows[start : start + size]
            is_last = start + size >= len(rows)
            logits = self._backbone.prefill(sequence.slot, piece, start, is_last=is_last)
        assert logits is not None
        return logits

    def _copy_to_others(self, sequences: list[Sequence], context: int) -> None:
        """All sequences read the same prompt, each from memory of its own."""
        if len(sequences) == 1:
            return
        prefix: PrefixHandle = self._backbone.save_prefix(sequences[0].slot, context)
        for sequence in sequences[1:]:
            self._backbone.load_prefix(sequence.slot, prefix)

    def _step(self, sequences: list[Sequence], times: LoopTimes) -> None:
        started_s = time.perf_counter()
        input_ids = np.stack([sequence.new_rows[-1] for sequence in sequences])
        logits = self._backbone.decode([sequence.slot for sequence in sequences], input_ids)
        decoded_s = time.perf_counter()
        for sequence, ids in zip(sequences, choose(logits, sequences), strict=True):
            sequence.append(ids)
        ended_s = time.perf_counter()
        times.step_s.append(ended_s - started_s)
        times.sampling_s.append(ended_s - decoded_s)

    def _run_blocks(self, sequences: list[Sequence], times: LoopTimes) -> bool:
        """Take all steps on the backbone's device; False if it does not decode there."""
        if not isinstance(self._backbone, DecodesOnDevice):
            return False
        blocks = DeviceBlocks(self._backbone)
        seated, others = blocks.split(sequences)
        if others:
            return False
        num_taken, num_wanted = 0, self._plan.warmup_steps + self._plan.steps
        ended_s = time.perf_counter()
        while num_taken < num_wanted:
            steps = blocks.advance(seated, is_brief=False)
            read_s = time.perf_counter()
            for step in steps:
                for sequence, ids, _ in step.rows():
                    sequence.append(ids)
            started_s, ended_s = ended_s, time.perf_counter()
            for _ in steps[max(0, self._plan.warmup_steps - num_taken) : num_wanted - num_taken]:
                times.step_s.append((ended_s - started_s) / len(steps))
                times.sampling_s.append((ended_s - read_s) / len(steps))
            num_taken += len(steps)
        return True
