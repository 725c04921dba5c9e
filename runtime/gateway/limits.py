# SPDX-License-Identifier: Apache-2.0
"""How much one caller, and all of them together, may ask for at a time."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from duologue.client.errors import CapacityError
from duologue.runtime.gateway.faults import RateLimitError
from duologue.runtime.gateway.keys import Visitor
from duologue.runtime.gateway.setting_groups import RateLimitSettings

NOBODY = Visitor()
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

    def take(self, visitor: Visitor) -> None:
        """Count one request; the limits of a key win over those of the settings.

        Raises:
            RateLimitError: the caller's bucket is empty.
        """
        if not self._settings.enabled and visitor.requests_per_minute is None:
            return
        per_minute = visitor.requests_per_minute or self._settings.requests_per_minute
        burst = visitor.burst_size or self._settings.burst_size
        now = self._clock()
        tokens, then = self._buckets.get(visitor.name, (float(burst), now))
        tokens = min(burst, tokens + (now - then) * per_minute / 60)
        allowed = tokens >= 1
        self._buckets[visitor.name] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(visitor.name)
        while len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimitError(
                f"more than {per_minute:g} requests per minute; try again later",
                (1 - tokens) / per_minute * 60,
            )


class Admission:
    """Counts the dialogues that are spoken, and refuses one too many at once.

    Attributes:
        max_streams: places in all.
        num_running: at present.
        is_draining: nothing new is taken.
    """

    def __init__(self, max_streams: int, max_streams_per_caller: int | None = None) -> None:
        """Count from nothing.

        Args:
            max_streams: places in all.
            max_streams_per_caller: of them for one caller; None is all of them.
        """
        self.max_streams = max_streams
        self.num_running = 0
        self.is_draining = False
        self._max_per_caller = max_streams_per_caller
        self._by_caller: Counter[str] = Counter()

    def check(self) -> None:
        """Refuse what would find no place now.

        Raises:
            CapacityError: all places are taken, or the server is about to stop.
        """
        if self.is_draining:
            raise CapacityError("the server is about to stop; try again later")
        if self.num_running >= self.max_streams:
            raise CapacityError(f"all {self.max_streams} streams are taken; try again later")

    @contextmanager
    def admitted(self, visitor: Visitor = NOBODY) -> Iterator[None]:
        """A place for one dialogue.

        Raises:
            RateLimitError: the caller has as many places as it may have.
            CapacityError: all places are taken, or the server is about to stop.
        """
        limit = visitor.max_streams or self._max_per_caller
        if limit is not None and self._by_caller[visitor.name] >= limit:
            raise RateLimitError(f"{limit} streams at a time are allowed; end one first", 1.0)
        self.check()
        self.num_running += 1
        self._by_caller[visitor.name] += 1
        try:
            yield
        finally:
            self.num_running -= 1
            self._by_caller[visitor.name] -= 1
            if not self._by_caller[visitor.name]:
                del self._by_caller[visitor.name]
