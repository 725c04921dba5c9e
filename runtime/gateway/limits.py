# SPDX-License-Identifier: Apache-2.0
"""How much one caller, and all of them together, may ask for at a time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from duologue.client.errors import CapacityError
from duologue.runtime.gateway.faults import RateLimitError
from duologue.runtime.gateway.setting_groups import RateLimitSettings

# Callers that are remembered; the one that was silent for longest is forgotten first.
MAX_CALLERS = 10_000


class RateLimiter:
    """A bucket of tokens per caller: `burst_size` at once, refilled by the minute."""

    def __init__(
        self, settings: RateLimitSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep to the settings; the clock is one that never jumps."""
        self._settings = settings
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            RateLimitError: the caller's bucket is empty.
        """
        if not self._settings.enabled:
            return
        per_s = self._settings.requests_per_minute / 60
        now = self._clock()
        tokens, then = self._buckets.get(caller, (float(self._settings.burst_size), now))
        tokens = min(self._settings.burst_size, tokens + (now - then) * per_s)
        allowed = tokens >= 1
        self._buckets[caller] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(caller)
        while len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimitError(
                f"more than {self._settings.requests_per_minute:g} requests per minute; "
                "try again later",
                (1 - tokens) / per_s,
            )


class Admission:
    """Counts the dialogues that are spoken, and refuses one too many at once.

    Attributes:
        max_streams: places in all.
        num_running: at present.
        is_draining: nothing new is taken.
    """

    def __init__(self, max_streams: int) -> None:
        self.max_streams = max_streams
        self.num_running = 0
        self.is_draining = False

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place for one dialogue.

        Raises:
            CapacityError: all places are taken, or the server is about to stop.
        """
        if self.is_draining:
            raise CapacityError("the server is about to stop; try again later")
        if self.num_running >= self.max_streams:
            raise CapacityError(f"all {self.max_streams} streams are taken; try again later")
        self.num_running += 1
        try:
            yield
        finally:
            self.num_running -= 1
