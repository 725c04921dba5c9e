# SPDX-License-Identifier: Apache-2.0
"""Who runs in the next step: continuous batching over a fixed number of slots.

Policy only: no tensors, no threads, no clock. A step is one bounded piece of one prompt, or one
row for every sequence that may run, or both, so that a long prompt delays the running streams
by one piece at most. Where it is known how much audio each listener still has, those who have
least come first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from duologue.runtime.errors import CapacityError
from duologue.runtime.lm.sequence import Sequence, SequenceStatus

URGENT_S = 1.0
"""Who has less audio left than this may soon hear a gap."""
RELAXED_S = 4.0
"""Who has more audio left than this loses nothing by sitting out while others are urgent."""
_NOBODY: Mapping[Sequence, float] = {}


@dataclass(frozen=True, slots=True)
class PrefillPiece:
    """Rows [start, stop) of one prompt."""

    sequence: Sequence
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        """The prompt is read to its end, so the first row can be chosen."""
        return self.stop == len(self.sequence.prompt_rows)


@dataclass(frozen=True, slots=True)
class StepBatch:
    """What one step does: one row for each of `decode`, and at most one piece of prompt.

    Attributes:
        prefill: the piece.
        decode: who takes a row.
        is_full: nobody who could take a row sits out.
    """

    prefill: PrefillPiece | None
    decode: list[Sequence]
    is_full: bool = True

    @property
    def is_empty(self) -> bool:
        """Nothing can run."""
        return self.prefill is None and not self.decode


@dataclass(slots=True)
class Scheduler:
    """First come, first served to a slot; among those who have one, the most urgent first.

    Attributes:
        max_slots: sequences that run at the same time.
        max_waiting: sequences that may wait for a slot.
        max_prefill_rows: rows of a prompt that one step reads. Pieces always begin at
            multiples of it, so the split of a prompt does not depend on what else runs.
    """

    max_slots: int
    max_waiting: int
    max_prefill_rows: int
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    _free_slots: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._free_slots = list(range(self.max_slots - 1, -1, -1))

    def add(self, sequence: Sequence) -> None:
        """Put a new sequence at the end of the queue.

        Raises:
            CapacityError: every slot is taken and the queue is full.
        """
        in_line = len(self.waiting) - len(self._free_slots)
        if in_line >= self.max_waiting:
            raise CapacityError(
                f"all {self.max_slots} slots are taken and {self.max_waiting} requests wait; "
                "send the request again later"
            )
        self.waiting.append(sequence)

    def resume(self, sequence: Sequence) -> None:
        """Put the next pass of a request that runs already in front of the queue."""
        self.waiting.appendleft(sequence)

    def schedule(
        self,
        paused: Collection[Sequence] = (),
        ahead_s: Mapping[Sequence, float] = _NOBODY,
        *,
        may_rest: bool = False,
    ) -> StepBatch:
        """Seat waiting sequences and lay out the next step.

        Args:
            paused: running sequences that must not decode at present.
            ahead_s: seconds of audio that the listener of a sequence still has, as far as known.
            may_rest: leave the relaxed out while others are urgent, for a shorter step.
        """
        while self.waiting and self._free_slots:
            self._seat(self.waiting.popleft())
        unread = [s for s in self.running if not s.is_prefilled]
        # `min` takes the first of equals, hence the one that came first.
        first = min(unread, key=lambda s: ahead_s.get(s, RELAXED_S), default=None)
        ready = decode = [s for s in self.running if s.is_prefilled and s not in paused]
        if may_rest and any(ahead_s.get(s, RELAXED_S) < URGENT_S for s in [*unread, *decode]):
            decode = [s for s in decode if ahead_s.get(s, RELAXED_S) <= RELAXED_S]
        piece = None if first is None else self.piece(first)
        return StepBatch(piece, decode, is_full=len(decode) == len(ready))

    def finish(self, sequence: Sequence) -> int | None:
        """Take a sequence out, wherever it is.

        Returns:
            The slot that it leaves, or None if it had none.
        """
        sequence.status = SequenceStatus.FINISHED
        if sequence in self.waiting:
            self.waiting.remove(sequence)
            return None
        if sequence not in self.running:
            return None
        self.running.remove(sequence)
        slot, sequence.slot = sequence.slot, -1
        self._free_slots.append(slot)
        return slot

    def piece(self, sequence: Sequence) -> PrefillPiece:
        """The next rows of a prompt that are to be read."""
        start = sequence.num_prefilled
        stop = min(start + self.max_prefill_rows, len(sequence.prompt_rows))
        return PrefillPiece(sequence, start, stop)

    def _seat(self, sequence: Sequence) -> None:
        sequence.slot = self._free_slots.pop()
        sequence.status = SequenceStatus.RUNNING
        self.running.append(sequence)
