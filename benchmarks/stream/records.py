# SPDX-License-Identifier: Apache-2.0
"""What is noted of each request while a load runs; all figures are computed from it later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A chunk that came.

    Attributes:
        at_s: moment on the monotonic clock.
        num_samples: its length.
    """

    at_s: float
    num_samples: int


@dataclass(frozen=True, slots=True, eq=False)
class RequestRecord:
    """One request from its caller's side.

    Attributes:
        workload: name of what was asked for.
        due_s: when it was due to be sent: its start in a closed loop, its scheduled arrival in
            an open one, so that a load that falls behind cannot hide the wait.
        started_s: when it was sent.
        ended_s: when its last chunk or its error came.
        sample_rate_hz: of the audio; 0 if none came.
        arrivals: chunks in order.
        seams: samples around the borders between chunks, for `clicks.seam_scores`.
        error: type and message of what went wrong, or None.
        is_warmup: not part of the figures.
    """

    workload: str
    due_s: float
    started_s: float
    ended_s: float
    sample_rate_hz: int
    arrivals: tuple[Arrival, ...]
    seams: tuple[Int16Array, ...] = ()
    error: str | None = None
    is_warmup: bool = False

    @property
    def audio_s(self) -> float:
        """Seconds of audio that came."""
        if not self.arrivals:
            return 0.0
        return sum(arrival.num_samples for arrival in self.arrivals) / self.sample_rate_hz

    @property
    def ttfa_s(self) -> float:
        """From when the request was due to its first audio; at least one chunk must have come."""
        return self.arrivals[0].at_s - self.due_s

    @property
    def first_chunk_s(self) -> float:
        """Length of the first chunk's audio."""
        return self.arrivals[0].num_samples / self.sample_rate_hz

    @property
    def rtf(self) -> float:
        """Seconds from sending to the end per second of audio; some audio must have come."""
        return (self.ended_s - self.started_s) / self.audio_s
