from __future__ import annotations

import numpy as np

from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import ChannelSampling
from duologue.runtime.lm.sequence import new_sequence

LM = LmConfig((30, 9, 9), (0, 1, 3), 8, 8, 1, 1, 1, 8)
TOKENS = TokenIds(speech_start=20, speech_stop=28, end_of_speech=29, pad=0, speech_pad=8, eos=(0,))


def test_banned_columns_are_the_forbidden_ids_in_every_step() -> None:
    sequence = new_sequence(
        np.tile([1, 8, 8], (6, 1)),
        lm=LM,
        tokens=TOKENS,
        sampling=(ChannelSampling(),) * 3,
        seed=0,
        max_frames=10,
        min_frames=1,
        max_rows=40,
        codebook_size=8,
    )
    for _ in range(8):
        forbidden = [LM.logit_offsets[channel] + i for channel, i in sequence.state.forbidden()]
        assert sorted(sequence.banned_columns) == sorted(forbidden)
        sequence.append(np.array([21, 3, 4]))
