# SPDX-License-Identifier: Apache-2.0
"""Are the turns said in the order in which they stand in the script?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duologue.finetune.evaluate.dtw import dtw_distances
from duologue.finetune.evaluate.spectrum import HOP_S, without_mean
from duologue.runtime.core import FloatArray, TurnTime


def is_in_order(spoken: FloatArray, reference: FloatArray, turns: Sequence[TurnTime]) -> bool:
    """Whether speech is nearer to a reference than to any in which two neighbours change places.

    Args:
        spoken: log-mel spectrum [T, bands].
        reference: log-mel spectrum [R, bands].
        turns: of the reference; with one turn the answer is yes.
    """
    borders = [round(turn.start_s / HOP_S) for turn in turns[1:]]
    pieces = np.split(reference, borders)
    orders = [pieces]
    for place in range(len(pieces) - 1):
        first, second = pieces[place : place + 2]
        orders.append([*pieces[:place], second, first, *pieces[place + 2 :]])
    candidates = [without_mean(np.concatenate(order)) for order in orders]
    return int(dtw_distances(without_mean(spoken), candidates).argmin()) == 0
