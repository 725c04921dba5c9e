# SPDX-License-Identifier: Apache-2.0
"""Do chunks join without a click? A number per border, without units and without a reference.

A click is a kink: the second difference of the samples is far larger at the border than around
it. The score of a border is the largest second difference that spans it, divided by the root
mean square of those beside it. Speech that flows on scores about 1 on average and rarely more
than 4; a jump of the waveform scores far more. Loudness cancels out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from duologue.benchmarks.stream.records import Int16Array

SIDE_S = 0.01
"""Audio on each side of a border that its score looks at."""
_MIN_SIDE = 4
# One step of int16: borders inside digital silence are not divided by nothing.
_QUIET = 1.0


class SeamCollector:
    """Cuts the samples around each border out of the chunks of one stream, as they pass."""

    def __init__(self) -> None:
        self._tail: Int16Array = np.empty(0, dtype=np.int16)
        self.seams: list[Int16Array] = []

    def add(self, samples: Int16Array, sample_rate_hz: int) -> None:
        """Take the next chunk [N]."""
        side = max(_MIN_SIDE, round(SIDE_S * sample_rate_hz))
        if len(self._tail) == side and len(samples) >= side:
            self.seams.append(np.concatenate([self._tail, samples[:side]]))
        self._tail = samples[-side:].copy()


def seam_score(seam: Int16Array) -> float:
    """Score of one border in the middle of `seam` [2 * side].

    >>> smooth = np.arange(0, 40, dtype=np.int16) ** 2
    >>> jump = smooth + np.where(np.arange(40) < 20, 0, 3000).astype(np.int16)
    >>> seam_score(smooth), seam_score(jump) > 100
    (1.0, True)
    """
    bends = np.abs(np.diff(seam.astype(np.float64), n=2))
    # Second difference i spans samples i .. i + 2; two of them span the border.
    middle = len(seam) // 2 - 2
    across = bends[middle : middle + 2]
    beside = np.concatenate([bends[:middle], bends[middle + 2 :]])
    return float(across.max() / max(np.sqrt(np.mean(beside**2)), _QUIET))


def seam_scores(seams: Sequence[Int16Array]) -> list[float]:
    """Scores of all borders."""
    return [seam_score(seam) for seam in seams]
