# SPDX-License-Identifier: Apache-2.0
"""How a script is spoken: in one pass, or turn by turn with the last turns as the prefix.

In one pass the model reads the whole script and speaks it to the end: the best flow, but script
and speech must fit into the context, and where a turn begins can only be estimated. Turn by turn,
the text and the codes of earlier turns stand where a voice stands (as MOSS-TTSD continues a
reference), so a script of any length is spoken in bounded memory, and each turn's times are exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from duologue.runtime.core import (
    FinishReason,
    IntArray,
    Script,
    TurnTiming,
)
from duologue.runtime.lm.sequence import Sequence
from duologue.runtime.text.timing import estimate_turn_spans

LEAST_SHARE = 0.5
"""Nobody speaks at twice the usual pace: what does not fit then, never fits."""
SAFE_SHARE = 1.5
"""With so much room the speech almost surely fits."""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What was said before: turns, and the codes [K, T] in which they were spoken."""

    script: Script
    codes: IntArray


@dataclass(frozen=True, slots=True)
class PassOrder:
    """One pass of the model.

    Attributes:
        script: the turns to be spoken.
        history: turns that stand in front, or None.
        index: number of the pass, from 0; draws of random numbers differ by it.
        max_frames: cap on the pass, or None for the bundle's cap on such a text.
        share: how much of the speech's expected length must fit behind the prompt.
    """

    script: Script
    history: History | None
    index: int
    max_frames: int | None
    share: float = LEAST_SHARE


BeginPass = Callable[[PassOrder], Sequence]
"""Lays out the sequence of a pass; raises `PromptTooLongError` if it cannot fit."""


class Passes(Protocol):
    """The passes of one request, one after the other."""

    @property
    def timing(self) -> TurnTiming:
        """How sure the borders of turns are."""
        ...

    def begin(self) -> Sequence:
        """The first pass.

        Raises:
            PromptTooLongError: the script cannot be spoken this way.
        """
        ...

    def next(self, finished: Sequence, codes: IntArray) -> Sequence | None:
        """The pass after a finished one, or None when all is said.

        Args:
            finished: the sequence that ended.
            codes: [K, T], everything spoken so far.
        """
        ...

    def turn_at(self, frame: int) -> int:
        """Index of the turn that is spoken at a frame, as far as it is known by then."""
        ...

    def spans(self, num_frames: int) -> list[tuple[int, int]]:
        """(start, end) of each turn in frames, once all `num_frames` are spoken."""
        ...

    @property
    def finish_reason(self) -> FinishReason:
        """Why the last pass ended; "length" if any pass was cut short."""
        ...


@dataclass(slots=True)
class OnePass:
    """The whole script in one pass.

    Attributes:
        script: what is spoken.
        begin_pass: lays out the sequence.
        max_frames: cap of the request, or None.
        expected_frames: length of the speech as the text suggests it.
        share: see `PassOrder`.
    """

    script: Script
    begin_pass: BeginPass
    max_frames: int | None
    expected_frames: int
    share: float = LEAST_SHARE
    timing: TurnTiming = TurnTiming.ESTIMATED
    finish_reason: FinishReason = FinishReason.STOP

    def begin(self) -> Sequence:
        """See `Passes.begin`."""
        return self.begin_pass(PassOrder(self.script, None, 0, self.max_frames, self.share))

    def next(self, finished: Sequence, codes: IntArray) -> Sequence | None:
        """See `Passes.next`."""
        self.finish_reason = finished.finish_reason
        return None

    def turn_at(self, frame: int) -> int:
        """See `Passes.turn_at`."""
        stops = [stop for _, stop in estimate_turn_spans(self.script, self.expected_frames)]
        return min(bisect_right(stops, frame), len(stops) - 1)

    def spans(self, num_frames: int) -> list[tuple[int, int]]:
        """See `Passes.spans`."""
        return estimate_turn_spans(self.script, num_frames)


@dataclass(slots=True)
class TurnByTurn:
    """One pass per turn.

    Attributes:
        script: what is spoken.
        begin_pass: lays out the sequence of a pass.
        max_frames: cap of the request on all turns together, or None.
        cap_of: the bundle's cap on a text, in frames.
        max_history_frames: frames of earlier turns that stand in front of a turn, at most.
        keeps_anchors: each speaker's first turn always stands in front, so that the sound
            of a speaker without a voice does not drift.
        borders: frames at which finished turns end.
    """

    script: Script
    begin_pass: BeginPass
    max_frames: int | None
    cap_of: Callable[[Script], int]
    max_history_frames: int
    keeps_anchors: bool
    timing: TurnTiming = TurnTiming.EXACT
    finish_reason: FinishReason = FinishReason.STOP
    borders: list[int] = field(default_factory=list)

    def begin(self) -> Sequence:
        """See `Passes.begin`."""
        return self._pass(0, None, self.max_frames)

    def check(self, max_rows: int) -> None:
        """Refuse a script with a turn that alone is too long, before anything is spoken.

        Args:
            max_rows: rows that a sequence holds.

        Raises:
            PromptTooLongError: names the first such turn by what it needs.
        """
        for turn in range(1, len(self.script.turns)):
            # A token is at least a byte: a turn far below the limit need not be laid out.
            if len(self.script.turns[turn].text.encode()) > max_rows // 4:
                self._pass(turn, None, self.max_frames)

    def next(self, finished: Sequence, codes: IntArray) -> Sequence | None:
        """See `Passes.next`."""
        if finished.finish_reason is FinishReason.LENGTH:
            self.finish_reason = FinishReason.LENGTH
        num_frames = codes.shape[1]
        self.borders.append(num_frames)
        turn = len(self.borders)
        left = None if self.max_frames is None else self.max_frames - num_frames
        if turn == len(self.script.turns) or (left is not None and left <= 0):
            return None
        return self._pass(turn, self._history(turn, codes), left)

    def turn_at(self, frame: int) -> int:
        """See `Passes.turn_at`."""
        return min(bisect_right(self.borders, frame), len(self.script.turns) - 1)

    def spans(self, num_frames: int) -> list[tuple[int, int]]:
        """See `Passes.spans`."""
        unsaid = [num_frames] * (len(self.script.turns) - len(self.borders))
        stops = [*self.borders, *unsaid]
        return list(zip([0, *stops[:-1]], stops, strict=True))

    def _pass(self, turn: int, history: History | None, max_frames: int | None) -> Sequence:
        script = Script((self.script.turns[turn],), self.script.format, self.script.names)
        cap = self.cap_of(script)
        max_frames = cap if max_frames is None else min(cap, max_frames)
        return self.begin_pass(PassOrder(script, history, turn, max_frames))

    def _history(self, turn: int, codes: IntArray) -> History | None:
        """The latest turns that fit, behind the first turn of each speaker."""
        starts = [0, *self.borders]
        lengths = [stop - start for start, stop in pairwise(starts)]
        kept = self._anchors(turn, lengths) if self.keeps_anchors else set()
        room = self.max_history_frames - sum(lengths[i] for i in kept)
        for earlier in range(turn - 1, -1, -1):
            if earlier in kept:
                continue
            room -= lengths[earlier]
            # The turn just before is worth more than the limit, unless it is very long.
            is_close = earlier == turn - 1 and lengths[earlier] <= self.max_history_frames
            if room < 0 and not is_close:
                break
            kept.add(earlier)
        spoken = [i for i in sorted(kept) if lengths[i] > 0]
        if not spoken:
            return None
        turns = tuple(self.script.turns[i] for i in spoken)
        pieces = [codes[:, starts[i] : starts[i + 1]] for i in spoken]
        return History(Script(turns), np.concatenate(pieces, axis=1))

    def _anchors(self, turn: int, lengths: list[int]) -> set[int]:
        """The first turn of each speaker so far that does not take all the room."""
        first: dict[int, int] = {}
        for index in range(turn):
            if 0 < lengths[index] <= self.max_history_frames // 2:
                first.setdefault(self.script.turns[index].speaker, index)
        return set(first.values())
