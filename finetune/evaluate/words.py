# SPDX-License-Identifier: Apache-2.0
"""Are the right words said? A sentence must be closest to its own reference, out of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duologue.finetune.evaluate.dtw import Doubles, dtw_distances
from duologue.finetune.evaluate.spectrum import without_mean
from duologue.runtime.core import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Identification:
    """Which reference each utterance is closest to.

    Attributes:
        distances: [utterances, references].
    """

    distances: Doubles

    @property
    def nearest(self) -> IntArray:
        """[utterances]: the place of the closest reference."""
        nearest: IntArray = self.distances.argmin(axis=1)
        return nearest

    @property
    def share_right(self) -> float:
        """How many are closest to the reference at their own place."""
        return float((self.nearest == np.arange(len(self.distances))).mean())


def identify(spoken: Sequence[FloatArray], references: Sequence[FloatArray]) -> Identification:
    """Compare every utterance with every reference.

    Args:
        spoken: log-mel spectra [T, bands]; number n is to say what reference number n says.
        references: as many or more.
    """
    centred = [without_mean(mel) for mel in references]
    return Identification(np.stack([dtw_distances(without_mean(mel), centred) for mel in spoken]))
