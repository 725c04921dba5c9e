from __future__ import annotations

import numpy as np
import pytest

from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import ChannelSampling, FinishReason
from duologue.runtime.lm.sequence import Sequence, new_sequence

LM = LmConfig((30, 9, 9), (0, 1, 3), 8, 8, 1, 1, 1, 8)
TOKENS = TokenIds(speech_start=20, speech_stop=28, end_of_speech=29, pad=0, speech_pad=8, eos=(0,))


def begin(max_frames: int, max_rows: int = 40) -> Sequence:
    return new_sequence(
        np.tile([1, 8, 8], (6, 1)),
        lm=LM,
        tokens=TOKENS,
        sampling=(ChannelSampling(),) * 3,
        seed=0,
        max_frames=max_frames,
        min_frames=1,
        max_rows=max_rows,
        codebook_size=8,
    )


def test_banned_columns_are_the_forbidden_ids_in_every_step() -> None:
    sequence = begin(max_frames=10)
    for _ in range(8):
        forbidden = [LM.logit_offsets[channel] + i for channel, i in sequence.state.forbidden()]
        assert sorted(sequence.banned_columns) == sorted(forbidden)
        sequence.append(np.array([21, 3, 4]))


@pytest.mark.parametrize("num_speech_rows", range(3, 30))
@pytest.mark.parametrize(("max_frames", "max_rows"), [(10, 40), (1000, 20)])
def test_speech_that_ends_about_the_cap_exceeds_neither_cap_nor_slot(
    num_speech_rows: int, max_frames: int, max_rows: int
) -> None:
    sequence = begin(max_frames, max_rows)
    while not sequence.is_finished:
        is_speech = len(sequence.new_rows) < num_speech_rows
        # The rows in the cache once the last one is read; the newest never is.
        assert sequence.num_rows < max_rows
        sequence.append(np.array([21 if is_speech else TOKENS.end_of_speech, 3, 4]))
    frames, cap = sequence.take_frames().shape[1], sequence.max_frames
    assert frames == min(num_speech_rows, cap)
    stops = num_speech_rows <= cap
    assert sequence.finish_reason is (FinishReason.STOP if stops else FinishReason.LENGTH)
