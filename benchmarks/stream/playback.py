# SPDX-License-Identifier: Apache-2.0
"""What a listener would have heard: gaps between chunks, and playback that runs dry."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from duologue.benchmarks.stream.records import Arrival

TOLERANCE_S = 1e-6
"""Less than this is rounding of the clock, not a wait."""


@dataclass(frozen=True, slots=True)
class Playback:
    """How playing a stream went, from its first chunk on.

    Attributes:
        underruns: chunks that came after all audio before them had been played.
        stalled_s: silence that these waits made.
    """

    underruns: int
    stalled_s: float


def play(arrivals: Sequence[Arrival], sample_rate_hz: int) -> Playback:
    """Play chunks as they come: at once, or when those before them have been played.

    After an underrun playback goes on with the late chunk, so one long wait is one underrun.

    >>> play([Arrival(0.0, 10), Arrival(0.9, 10), Arrival(2.5, 10)], 10)
    Playback(underruns=1, stalled_s=0.5)
    """
    underruns, stalled_s = 0, 0.0
    played_until_s = arrivals[0].at_s if arrivals else 0.0
    for arrival in arrivals:
        late_s = arrival.at_s - played_until_s
        if late_s > TOLERANCE_S:
            underruns += 1
            stalled_s += late_s
        played_until_s = max(played_until_s, arrival.at_s) + arrival.num_samples / sample_rate_hz
    return Playback(underruns, stalled_s)


def gaps_s(arrivals: Sequence[Arrival]) -> list[float]:
    """Seconds between neighbouring chunks, one fewer than chunks.

    >>> gaps_s([Arrival(1.0, 5), Arrival(1.5, 5), Arrival(3.5, 5)])
    [0.5, 2.0]
    """
    return [after.at_s - before.at_s for before, after in itertools.pairwise(arrivals)]
