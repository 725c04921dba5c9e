# SPDX-License-Identifier: Apache-2.0
"""One request's state while it is generated: no policy, no tensors on a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto

import numpy as np

from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import ChannelSampling, FinishReason, IntArray
from duologue.runtime.errors import PromptTooLongError
from duologue.runtime.lm.delay import DelayPattern, DelayState
from duologue.runtime.lm.draws import SeededDraws
from duologue.runtime.lm.processors import SamplingTable, sampling_table


class SequenceStatus(Enum):
    """Where a sequence is on its way through the scheduler."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt that becomes speech.

    Attributes:
        prompt_rows: [base, K], the delayed prompt without its forced tail.
        state: the place in the delay pattern.
        sampling: K settings.
        draws: random numbers of this sequence.
        max_frames: cap on frames; a runaway ends there.
        codebook_size: ids of channels 1.. below it are codes.
        seen: per logit column whether its id stands in the history of its channel, or None
            when no channel penalises repetition.

    Set by the scheduler:
        status, slot, num_prefilled.

    Set by `append`:
        new_rows, num_frames_taken.

    Derived:
        sampling_table: `sampling` as the processors read it, made once.
    """

    prompt_rows: IntArray
    state: DelayState
    sampling: tuple[ChannelSampling, ...]
    draws: SeededDraws
    max_frames: int
    codebook_size: int
    logit_offsets: tuple[int, ...]
    seen: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None

    status: SequenceStatus = SequenceStatus.WAITING
    slot: int = -1
    num_prefilled: int = 0

    new_rows: list[IntArray] = field(default_factory=list)
    num_frames_taken: int = 0

    sampling_table: SamplingTable = field(init=False)
    _first_columns: IntArray = field(init=False)
    _fill_columns: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.sampling_table = sampling_table(self.sampling)
        self._first_columns = np.array(self.logit_offsets[:-1], dtype=np.int64)
        self._fill_columns = (self._first_columns + self.state.pattern.fills)[1:]

    @property
    def banned_columns(self) -> IntArray:
        """Columns of the logits that must not be chosen in the next step."""
        if self.state.step >= self.state.pattern.max_delay:
            return self._fill_columns
        pairs = np.array(self.state.forbidden(), dtype=np.int64)
        columns: IntArray = self._first_columns[pairs[:, 0]] + pairs[:, 1]
        return columns

    @property
    def num_rows(self) -> int:
        """Rows read or written so far, hence rows in the KV cache once all are read."""
        return len(self.prompt_rows) + len(self.new_rows)

    @property
    def is_prefilled(self) -> bool:
        """The whole prompt is in the KV cache."""
        return self.num_prefilled == len(self.prompt_rows)

    @property
    def is_finished(self) -> bool:
        """No further step is wanted: drained, or the frames of the cap are whole.

        The second ends a drain, too, that began behind the cap: the slot has no row for it.
        """
        if self.state.is_finished:
            return True
        return len(self.new_rows) >= self.max_frames + self.state.pattern.max_delay

    @property
    def finish_reason(self) -> FinishReason:
        """Why a finished sequence ended."""
        return FinishReason.STOP if self.state.is_finished else FinishReason.LENGTH

    @property
    def num_frames(self) -> int:
        """Frames whose every channel has been generated."""
        whole = max(0, len(self.new_rows) - self.state.pattern.max_delay)
        return min(whole, self.state.num_speech_rows)

    def append(self, chosen: IntArray) -> None:
        """Take the chosen ids [K] of one step."""
        row = self.state.advance(chosen)
        self.new_rows.append(row)
        if self.seen is not None:
            self.seen[row + self._first_columns] = True

    def take_frames(self) -> IntArray:
        """The frames that became whole since the last call, as codes [K, T].

        Frames with an id that is no code are left out: the model's vocabulary may be larger
        than the codebook.
        """
        first, stop = self.num_frames_taken, self.num_frames
        self.num_frames_taken = stop
        pattern = self.state.pattern
        if stop <= first:
            return np.empty((len(pattern.delays), 0), dtype=np.int64)
        rows = np.stack(self.new_rows[first : stop + pattern.max_delay])
        codes = pattern.revert(rows).T.copy()
        codes[0] -= self.state.speech_start
        is_whole = ((codes >= 0) & (codes < self.codebook_size)).all(axis=0)
        return codes[:, is_whole]


def new_sequence(
    aligned_ids: IntArray,
    *,
    lm: LmConfig,
    tokens: TokenIds,
    sampling: tuple[ChannelSampling, ...],
    seed: int,
    max_frames: int,
    min_frames: int,
    max_rows: int,
    codebook_size: int,
) -> Sequence:
    """Delay a prompt and lay out the sequence that it starts.

    Args:
        aligned_ids: [T, K], the prompt before the delay.
        lm: shape of the model.
        tokens: its special ids.
        sampling: K settings.
        seed: key of the sequence's random numbers.
        max_frames: cap that the request asked for; lowered to what the slot holds.
        min_frames: fewest frames that the text can be spoken in.
        max_rows: rows that a slot holds.
        codebook_size: ids of channels 1.. below it are codes.

    Raises:
        PromptTooLongError: fewer than `min_frames` frames fit behind the prompt.
    """
    fills = (tokens.pad, *[tokens.speech_pad] * (lm.num_channels - 1))
    pattern = DelayPattern(lm.delays, fills)
    num_prompt_rows = len(aligned_ids)
    room = max_rows - num_prompt_rows - lm.max_delay
    if room < max(1, min(min_frames, max_frames)):
        raise PromptTooLongError(
            f"the prompt has {num_prompt_rows} rows and its text needs at least {min_frames} "
            f"frames of speech; a sequence holds {max_rows} rows in all: shorten the script or "
            "the reference voices"
        )
    delayed = pattern.apply(aligned_ids)
    state = DelayState(
        pattern=pattern,
        forced=delayed[num_prompt_rows:],
        speech_start=tokens.speech_start,
        speech_stop=tokens.speech_stop,
        end_of_speech=tokens.end_of_speech,
    )
    return Sequence(
        prompt_rows=delayed[:num_prompt_rows],
        state=state,
        sampling=sampling,
        draws=SeededDraws(seed, lm.num_channels),
        max_frames=min(max_frames, room),
        codebook_size=codebook_size,
        logit_offsets=lm.logit_offsets,
        seen=_history(delayed[:num_prompt_rows], sampling, lm.logit_offsets),
    )


def _history(
    rows: IntArray, sampling: tuple[ChannelSampling, ...], offsets: tuple[int, ...]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    if all(channel.repetition_penalty is None for channel in sampling):
        return None
    seen = np.zeros(offsets[-1], dtype=np.bool_)
    seen[(rows + np.asarray(offsets[:-1])).ravel()] = True
    return seen
