# SPDX-License-Identifier: Apache-2.0
"""What `bench stream` does to a server."""

from __future__ import annotations

from dataclasses import dataclass

from duologue.benchmarks.workload import CodeShape, Workload
from duologue.client.errors import RequestError
from duologue.client.types import SpeechKwargs


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Loads, one level after the other.

    Attributes:
        workloads: dialogues, taken in turns.
        concurrencies: levels of the closed loop: so many callers, each of which sends its next
            request when the last one has ended.
        rates_per_s: levels of the open loop: requests arrive by chance (Poisson), so many per
            second on average, whatever the server does.
        requests: measured requests per level.
        warmup: requests per level and caller that come first and do not count; in an open loop,
            requests.
        max_seconds: cap on the audio of a request below the workload's own; None: no other cap.
        buffer_s: listen in real time: take a chunk only when no more than so much audio is left
            to be played, and let the server be no further ahead of that than `ahead_s`. None
            takes chunks as fast as they come.
        ahead_s: see `buffer_s`.
        seed: of the first request; each later one has the next seed.
    """

    workloads: tuple[Workload, ...]
    concurrencies: tuple[int, ...] = ()
    rates_per_s: tuple[float, ...] = ()
    requests: int = 200
    warmup: int = 2
    max_seconds: float | None = None
    buffer_s: float | None = None
    ahead_s: float = 2.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.workloads:
            raise RequestError("workloads is empty; allowed: one or more")
        if self.requests < 1 or self.warmup < 0:
            raise RequestError(
                f"requests is {self.requests}, warmup is {self.warmup}; allowed: 1 and 0 or more"
            )
        levels = (*self.concurrencies, *self.rates_per_s)
        if not levels or min(levels) <= 0:
            raise RequestError(f"levels are {levels}; allowed: at least one, all above 0")

    def ask(self, index: int, shape: CodeShape) -> Ask:
        """Request number `index` of a level, from 0 on."""
        workload = self.workloads[index % len(self.workloads)]
        options = workload.options(shape, self.seed + index, self.max_seconds)
        if self.buffer_s is not None:
            options["max_ahead_s"] = self.ahead_s
        return Ask(workload.name, workload.script, options)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A request before it is sent.

    Attributes:
        workload: name of the dialogue.
        script: its text.
        options: for `DialogueClient.stream`.
    """

    workload: str
    script: str
    options: SpeechKwargs
