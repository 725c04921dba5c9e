# SPDX-License-Identifier: Apache-2.0
"""Where ids are chosen: on the host, or on the device of a backbone that decodes by itself.

There steps are launched ahead: while the host reads the ids of one block, the device takes the
steps of the next, so it never waits for the host. A sequence that ended inside a block is known to
have ended one block later; on the device it rests from its last row on, and what stands behind
that row is not read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from duologue.runtime.backbone.device import Block, DecodesOnDevice, DeviceSequence
from duologue.runtime.core import IntArray, Logits
from duologue.runtime.lm.processors import BoolArray
from duologue.runtime.lm.sampling import choose, sound_rows
from duologue.runtime.lm.sequence import Sequence as Speech
from duologue.runtime.lm.sequence import SequenceStatus

_FEW = 8
"""With so few sequences the host keeps up step by step."""
_FIRST_FRAMES = 8
"""So many frames are waited for by somebody who has heard nothing yet."""


@dataclass(frozen=True, slots=True, eq=False)
class StepIds:
    """What B sequences chose in one step, before forcing and draining.

    Attributes:
        sequences: B of them.
        chosen: [B, K].
        is_sound: [B], whether the scores were numbers.
    """

    sequences: Sequence[Speech]
    chosen: IntArray
    is_sound: BoolArray

    def rows(self) -> Iterator[tuple[Speech, IntArray, bool]]:
        """One after the other."""
        return zip(self.sequences, self.chosen, self.is_sound.tolist(), strict=True)


def choose_on_host(sequences: Sequence[Speech], logits: Logits) -> StepIds:
    """Choose by scores that came to the host, of B rows."""
    is_sound = sound_rows(logits)
    if is_sound.all():
        return StepIds(sequences, choose(logits, sequences), is_sound)
    chosen = np.zeros((len(sequences), len(logits.offsets) - 1), dtype=np.int64)
    if is_sound.any():
        able = list(itertools.compress(sequences, is_sound))
        chosen[is_sound] = choose(Logits(logits.values[is_sound], logits.offsets), able)
    return StepIds(sequences, chosen, is_sound)


@dataclass(frozen=True, slots=True, eq=False)
class _Flight:
    block: Block
    sequences: list[Speech]
    num_steps: int


class DeviceBlocks:
    """Launches blocks, and reads each when the next is on its way.

    Args:
        backbone: whose device takes the steps.
    """

    def __init__(self, backbone: DecodesOnDevice) -> None:
        self._backbone = backbone
        self._ahead: dict[Speech, int] = {}
        self._flight: _Flight | None = None

    @property
    def is_flying(self) -> bool:
        """A block has not been read."""
        return self._flight is not None

    def split(self, sequences: Sequence[Speech]) -> tuple[list[Speech], list[Speech]]:
        """Those who decode on the device, seated there if they were not, and those who cannot."""
        seated: list[Speech] = []
        others: list[Speech] = []
        for sequence in sequences:
            (seated if self._seat(sequence) else others).append(sequence)
        return seated, others

    def advance(self, sequences: Sequence[Speech], *, is_brief: bool) -> list[StepIds]:
        """Launch a block, and give the steps of the block before.

        Args:
            sequences: those that take steps; `split` has seated them.
            is_brief: something waits for the end of the block.
        """
        for left in [s for s in self._ahead if s.status is SequenceStatus.FINISHED]:
            del self._ahead[left]
        before, self._flight = self._flight, self._launch(sequences, is_brief)
        return [] if before is None else self._read(before)

    def forget(self) -> None:
        """Drop what is on its way: its sequences have ended, and it may bring the same fault."""
        self._flight = None
        self._ahead.clear()

    def _seat(self, sequence: Speech) -> bool:
        if sequence in self._ahead:
            return True
        if not self._backbone.can_seat(sequence.sampling_table):
            return False
        self._backbone.seat(sequence.slot, _describe(sequence))
        self._ahead[sequence] = 0
        return True

    def _launch(self, sequences: Sequence[Speech], is_brief: bool) -> _Flight | None:
        able = [s for s in sequences if self._steps_left(s) > 0]
        if not able:
            return None
        num_steps = 1
        if not is_brief and (len(able) > _FEW or not any(_is_young(s) for s in able)):
            longest = max(self._steps_left(s) for s in able)
            num_steps = min(self._backbone.max_block_steps, longest)
        starts = [s.state.step + self._ahead[s] for s in able]
        uniforms = [
            [s.draws.row(start + step) for s, start in zip(able, starts, strict=True)]
            for step in range(num_steps)
        ]
        block = self._backbone.launch([s.slot for s in able], np.array(uniforms))
        for sequence in able:
            self._ahead[sequence] += num_steps
        return _Flight(block, able, num_steps)

    def _read(self, flight: _Flight) -> list[StepIds]:
        ids = flight.block.wait()
        for sequence in flight.sequences:
            if sequence in self._ahead:
                self._ahead[sequence] -= flight.num_steps
        return [
            StepIds(flight.sequences, chosen, is_sound)
            for chosen, is_sound in zip(ids.chosen, ids.is_sound, strict=True)
        ]

    def _steps_left(self, sequence: Speech) -> int:
        return _max_steps(sequence) - sequence.state.step - self._ahead[sequence]


def _max_steps(sequence: Speech) -> int:
    """Rows at which a sequence ends; see `Sequence.is_finished`."""
    return sequence.max_frames + sequence.state.pattern.max_delay


def _is_young(sequence: Speech) -> bool:
    return sequence.state.step < sequence.state.pattern.max_delay + _FIRST_FRAMES


def _describe(sequence: Speech) -> DeviceSequence:
    state = sequence.state
    return DeviceSequence(
        last_row=sequence.new_rows[-1],
        num_steps=state.step,
        max_steps=_max_steps(sequence),
        rows_to_drain=state.rows_to_drain,
        forced=state.forced,
        fills=np.array(state.pattern.fills),
        speech_start=state.speech_start,
        speech_stop=state.speech_stop,
        end_of_speech=state.end_of_speech,
        sampling=sequence.sampling_table,
        seen=sequence.seen,
    )
