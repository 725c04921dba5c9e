# SPDX-License-Identifier: Apache-2.0
"""Random numbers of one sequence, addressed by (step, channel)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BLOCK_STEPS = 64


class SeededDraws:
    """Uniform numbers keyed by (seed, step, channel), whatever runs beside the sequence.

    Numpy's Philox is counter-based: number `step * K + channel` of the stream that belongs to
    a seed is the same on every machine and in every order of asking. Blocks of steps are
    drawn at once because making a generator costs more than using it.
    """

    def __init__(self, seed: int, num_channels: int) -> None:
        self.seed = seed
        self._num_channels = num_channels
        self._block_idx = -1
        self._block = np.empty((0, num_channels), dtype=np.float64)

    def row(self, step: int) -> npt.NDArray[np.float64]:
        """The numbers of one step: [K] in [0, 1)."""
        block_idx, place = divmod(step, _BLOCK_STEPS)
        if block_idx != self._block_idx:
            self._block_idx, self._block = block_idx, self._draw(block_idx)
        row: npt.NDArray[np.float64] = self._block[place]
        return row

    def _draw(self, block_idx: int) -> npt.NDArray[np.float64]:
        size = (_BLOCK_STEPS, self._num_channels)
        counter = [0, block_idx, 0, 0]
        bits = np.random.Philox(key=self.seed, counter=counter)
        return np.random.Generator(bits).random(size)
