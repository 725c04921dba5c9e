# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a running server, and how often it may."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from duologue.runtime.errors import EngineError

SERVER_ENDED = "server_ended"
MODEL_DIED = "model_died"
NO_ANSWER = "no_answer"
START_FAILED = "start_failed"
GATEWAY_ENDED = "gateway_ended"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of the server or of the gateway.

    Attributes:
        kind: one of the names above, for metrics and programs.
        text: what happened, for people.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How a failed server is started again.

    Attributes:
        max_restarts: as many failures are mended within the window; the next one ends it all.
        window_s: a failure longer ago than this is forgotten.
        first_delay_s: wait before the second restart within the window; the first is at once.
        max_delay_s: the wait doubles each time, up to this.
    """

    max_restarts: int = 5
    window_s: float = 600.0
    first_delay_s: float = 1.0
    max_delay_s: float = 30.0


class RestartBudget:
    """Counts the failures of one thing against a policy."""

    def __init__(
        self, name: str, policy: RestartPolicy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with nothing spent.

        Args:
            name: of what fails, for people.
            policy: how often it may.
            clock: one that never jumps.
        """
        self._name = name
        self._policy = policy
        self._clock = clock
        self._failed_at_s: deque[float] = deque()

    def spend(self, failure: Failure) -> float:
        """Count a failure.

        Returns:
            Seconds to wait before the restart.

        Raises:
            EngineError: it was one too many; says how many there were, and the last one.
        """
        policy, now = self._policy, self._clock()
        while self._failed_at_s and self._failed_at_s[0] < now - policy.window_s:
            self._failed_at_s.popleft()
        self._failed_at_s.append(now)
        count = len(self._failed_at_s)
        if count > policy.max_restarts:
            times = "once" if count == 1 else f"{count} times in {policy.window_s / 60:g} min"
            raise EngineError(
                f"the {self._name} failed {times} and is not started again: {failure.text}"
            )
        if count == 1:
            return 0.0
        delay_s: float = policy.first_delay_s * 2.0 ** (count - 2)
        return min(policy.max_delay_s, delay_s)
