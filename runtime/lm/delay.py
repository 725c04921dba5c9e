# SPDX-License-Identifier: Apache-2.0
"""The delay pattern: how K aligned channels become a staircase, and how frames come back.

The rules are those of MOSS-TTSD v0.7 (`modeling_asteroid.py`, `_sample`; `generation_utils.py`,
`shifting_inputs` and `process_batch`), written for any number of channels and any delays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duologue.runtime.core import IntArray


@dataclass(frozen=True, slots=True)
class DelayPattern:
    """Channel k lags `delays[k]` rows behind channel 0.

    With delays 0, 1, 2 and four aligned frames a, b, c, d (`.` is the fill of a channel):

        aligned [T, K]      delayed [S, K]
        a0 a1 a2            a0 .  .
        b0 b1 b2            b0 a1 .
        c0 c1 c2            c0 b1 a2
        d0 d1 d2            d0 c1 b2
                            .  d1 c2
                            .  .  d2

    Attributes:
        delays: one per channel, 0 first, never falling.
        fills: one id per channel, standing where no frame reaches.
    """

    delays: tuple[int, ...]
    fills: tuple[int, ...]

    @property
    def max_delay(self) -> int:
        """Rows by which the last channel lags."""
        return self.delays[-1]

    def apply(self, aligned: IntArray) -> IntArray:
        """Delay the channels.

        Args:
            aligned: [T, K].

        Returns:
            [T + max_delay, K].

        >>> pattern = DelayPattern(delays=(0, 1), fills=(9, 7))
        >>> pattern.apply(np.array([[1, 2], [3, 4]])).tolist()
        [[1, 7], [3, 2], [9, 4]]
        """
        num_frames, num_channels = aligned.shape
        delayed = np.empty((num_frames + self.max_delay, num_channels), dtype=np.int64)
        delayed[:] = self.fills
        for channel, delay in enumerate(self.delays):
            delayed[delay : delay + num_frames, channel] = aligned[:, channel]
        return delayed

    def revert(self, delayed: IntArray) -> IntArray:
        """Undo `apply`.

        Args:
            delayed: [S, K], S >= max_delay.

        Returns:
            [S - max_delay, K].

        >>> pattern = DelayPattern(delays=(0, 1), fills=(9, 7))
        >>> pattern.revert(np.array([[1, 7], [3, 2], [9, 4]])).tolist()
        [[1, 2], [3, 4]]
        """
        num_frames = len(delayed) - self.max_delay
        columns = [delayed[d : d + num_frames, c] for c, d in enumerate(self.delays)]
        return np.stack(columns, axis=1)


@dataclass(slots=True)
class DelayState:
    """Where one sequence stands in the pattern while it is generated.

    Three phases: the tail of the prompt is forced channel by channel while the staircase
    fills; then every channel is free; after the first id of channel 0 that is not speech the
    staircase drains, one channel after the other.

    Attributes:
        pattern: the delays.
        forced: [max_delay, K], the last rows of the delayed prompt.
        speech_start, speech_stop: ids of channel 0 that are speech, half open.
        end_of_speech: forbidden in channel 0 before a first whole frame can exist.
        step: rows written so far.
        rows_to_drain: None before the trigger; then rows that are still to be written.
        num_speech_rows: rows before the trigger, hence the frames that count.
    """

    pattern: DelayPattern
    forced: IntArray
    speech_start: int
    speech_stop: int
    end_of_speech: int
    step: int = 0
    rows_to_drain: int | None = None
    num_speech_rows: int = 0

    def forbidden(self) -> list[tuple[int, int]]:
        """(channel, id) pairs that must not be chosen in this step.

        A channel that is free never says its fill; channel 0 does not end the speech while
        the prompt's tail is being forced.
        """
        pattern = self.pattern
        banned = [
            (channel, pattern.fills[channel])
            for channel in range(1, len(pattern.delays))
            if self.step >= pattern.delays[channel]
        ]
        if self.step < pattern.max_delay:
            banned.append((0, self.end_of_speech))
        return banned

    @property
    def is_finished(self) -> bool:
        """Every channel has drained."""
        return self.rows_to_drain == 0

    def advance(self, chosen: IntArray) -> IntArray:
        """Take the chosen ids of one step and give the row that is written.

        Args:
            chosen: [K], one id per channel.

        Returns:
            [K]: forced and drained channels replaced. Channel 0 of the trigger row is kept.
        """
        pattern, row = self.pattern, chosen.copy()
        is_speech = self.speech_start <= chosen[0] < self.speech_stop
        is_trigger = self.rows_to_drain is None and not is_speech
        if is_trigger:
            self.rows_to_drain = pattern.max_delay
        self._force(row)
        if self.rows_to_drain is None:
            self.num_speech_rows += 1
        elif not is_trigger:
            self._drain(row)
        if self.rows_to_drain:
            self.rows_to_drain -= 1
        self.step += 1
        return row

    def _force(self, row: IntArray) -> None:
        for channel, delay in enumerate(self.pattern.delays):
            if delay > self.step:
                row[channel] = self.forced[self.step, channel]

    def _drain(self, row: IntArray) -> None:
        assert self.rows_to_drain is not None
        rows_since_trigger = self.pattern.max_delay - self.rows_to_drain
        for channel, delay in enumerate(self.pattern.delays):
            if delay <= rows_since_trigger:
                row[channel] = self.pattern.fills[channel]
