# SPDX-License-Identifier: Apache-2.0
"""Chunks of a stream as one piece of speech."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duologue.finetune.evaluate.measures import Generated
from duologue.runtime.core import FinishReason, PcmChunk


def join_chunks(chunks: Sequence[PcmChunk]) -> Generated:
    """A whole stream, with the places at which its chunks begin."""
    last = chunks[-1]
    return Generated(
        samples=np.concatenate([chunk.samples for chunk in chunks]),
        sample_rate_hz=last.sample_rate_hz,
        is_runaway=last.finish_reason is FinishReason.LENGTH,
        chunk_starts=tuple(chunk.first_sample for chunk in chunks),
    )
