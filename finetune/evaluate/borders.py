# SPDX-License-Identifier: Apache-2.0
"""Where turns begin and end, and whether a border can be heard as a click."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duologue.finetune.evaluate.dtw import dtw_path
from duologue.finetune.evaluate.spectrum import HOP_S, without_mean
from duologue.runtime.core import FloatArray, TurnTime

# A click is a bend of the wave many times sharper than the bends around it.
_CLICK_RATIO = 6.0
_AROUND_S = 0.02
_SOFT = 1e-3


def map_turns(
    spoken: FloatArray, reference: FloatArray, turns: Sequence[TurnTime]
) -> list[TurnTime]:
    """Carry the known borders of a reference over to other speech of the same text.

    Args:
        spoken: log-mel spectrum [T, bands].
        reference: log-mel spectrum [R, bands].
        turns: of the reference.

    Returns:
        The same turns in seconds of `spoken`.
    """
    path = dtw_path(without_mean(spoken), without_mean(reference))

    def carried(seconds: float) -> float:
        row = min(round(seconds / HOP_S), len(reference) - 1)
        return float(path[path[:, 1] == row, 0].mean() * HOP_S)

    return [TurnTime(t.speaker, carried(t.start_s), carried(t.end_s)) for t in turns]


def find_clicks(samples: FloatArray, sample_rate_hz: int, borders: Sequence[int]) -> list[int]:
    """Borders of chunks at which the wave jumps.

    Args:
        samples: mono [N], all chunks joined.
        sample_rate_hz: of `samples`.
        borders: first sample of every chunk but the first.

    Returns:
        The borders at which the second difference is more than six times the largest one of
        the 20 ms on both sides.
    """
    bend = np.abs(np.diff(samples, n=2))
    around = round(_AROUND_S * sample_rate_hz)
    clicks = []
    for border in borders:
        here = bend[max(0, border - 2) : border + 1]
        before = bend[max(0, border - around) : max(0, border - 2)]
        after = bend[border + 1 : border + around]
        usual = max((float(side.max()) for side in (before, after) if len(side)), default=0.0)
        if len(here) and float(here.max()) > max(_CLICK_RATIO * usual, _SOFT):
            clicks.append(border)
    return clicks
