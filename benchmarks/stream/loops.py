# SPDX-License-Identifier: Apache-2.0
"""Closed and open loops: how requests are sent one after the other, or whatever happens.

Both give the records of all requests and the window in which the load was what it says: from the
first measured request on, and until the first caller of a closed loop finds nothing left to send
(or the last arrival of an open one).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from duologue.benchmarks.stream.listen import Listener
from duologue.benchmarks.stream.plan import Ask
from duologue.benchmarks.stream.records import RequestRecord

AskFor = Callable[[int], Ask]
Progress = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Load:
    """What a loop gives.

    Attributes:
        records: of all requests, warm-up included, in the order in which they were sent.
        start_s, stop_s: the window of the full load on the monotonic clock.
    """

    records: tuple[RequestRecord, ...]
    start_s: float
    stop_s: float

    @property
    def measured(self) -> list[RequestRecord]:
        """The records that count."""
        return [record for record in self.records if not record.is_warmup]


class _Tickets:
    """Numbers of requests, handed to callers until there are none left."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._next = 0
        self._lock = threading.Lock()
        self.sold_out_s: float | None = None

    def take(self) -> int | None:
        """The next number, or None; the first None stops the clock of the window."""
        with self._lock:
            if self._next == self._total:
                self.sold_out_s = self.sold_out_s or time.monotonic()
                return None
            self._next += 1
            return self._next - 1


def closed_loop(
    listener: Listener,
    ask: AskFor,
    *,
    concurrency: int,
    requests: int,
    warmup: int,
    progress: Progress = lambda: None,
) -> Load:
    """So many callers, each of which sends its next request when the last one has ended.

    Args:
        listener: sends requests.
        ask: request by its number.
        concurrency: callers.
        requests: that are measured.
        warmup: per caller, that come first.
        progress: told of each request that ended.
    """
    num_warmup = warmup * concurrency
    tickets = _Tickets(num_warmup + requests)

    def call() -> list[tuple[int, RequestRecord]]:
        mine = []
        while (ticket := tickets.take()) is not None:
            mine.append((ticket, listener.listen(ask(ticket), is_warmup=ticket < num_warmup)))
            progress()
        return mine

    with ThreadPoolExecutor(concurrency, thread_name_prefix="bench-caller") as pool:
        callers = [pool.submit(call) for _ in range(concurrency)]
        numbered = [pair for caller in callers for pair in caller.result()]
    assert tickets.sold_out_s is not None
    records = tuple(record for _, record in sorted(numbered, key=lambda pair: pair[0]))
    start_s = min(record.started_s for record in records if not record.is_warmup)
    return Load(records, start_s, max(start_s, tickets.sold_out_s))


def poisson_arrivals_s(rate_per_s: float, count: int, seed: int) -> list[float]:
    """Moments, from 0 on, at which requests arrive by chance; the first at once.

    >>> len(poisson_arrivals_s(2.0, 5, seed=1)), poisson_arrivals_s(2.0, 5, seed=1)[0]
    (5, 0.0)
    """
    pauses = np.random.default_rng(seed).exponential(1.0 / rate_per_s, max(0, count - 1))
    return [0.0, *np.cumsum(pauses).tolist()][:count]


def open_loop(
    listener: Listener,
    ask: AskFor,
    *,
    rate_per_s: float,
    requests: int,
    warmup: int,
    seed: int,
    progress: Progress = lambda: None,
) -> Load:
    """Requests arrive by chance, whatever the server does; none waits for another.

    Args:
        listener: sends requests.
        ask: request by its number.
        rate_per_s: arrivals per second on average.
        requests: that are measured.
        warmup: arrivals that come first.
        seed: of the arrivals.
        progress: told of each request that ended.
    """
    total = warmup + requests
    begin_s = time.monotonic()
    due_s = [begin_s + at_s for at_s in poisson_arrivals_s(rate_per_s, total, seed)]

    def call(ticket: int) -> RequestRecord:
        is_warmup = ticket < warmup
        record = listener.listen(ask(ticket), due_s=due_s[ticket], is_warmup=is_warmup)
        progress()
        return record

    # As many threads as requests at most: a caller never waits for a free one.
    with ThreadPoolExecutor(total, thread_name_prefix="bench-caller") as pool:
        callers: list[Future[RequestRecord]] = []
        for ticket, at_s in enumerate(due_s):
            time.sleep(max(0.0, at_s - time.monotonic()))
            callers.append(pool.submit(call, ticket))
        records = tuple(caller.result() for caller in callers)
    return Load(records, due_s[warmup], due_s[-1])
