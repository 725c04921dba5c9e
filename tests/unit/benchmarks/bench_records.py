# SPDX-License-Identifier: Apache-2.0
"""Records as a load would make them."""

from __future__ import annotations

import itertools

from duologue.benchmarks.stream.records import Arrival, RequestRecord

RATE_HZ = 100


def record(arrivals, *, start=0.0, due=None, error=None, is_warmup=False, seams=()):
    """A request at 100 samples per second whose chunks (moment, samples) came so."""
    came = tuple(Arrival(start + at, samples) for at, samples in arrivals)
    return RequestRecord(
        workload="en_30s",
        due_s=start if due is None else due,
        started_s=start,
        ended_s=came[-1].at_s if came else start,
        sample_rate_hz=RATE_HZ if came else 0,
        arrivals=came,
        seams=tuple(seams),
        error=error,
        is_warmup=is_warmup,
    )


def steady(count, *, gap=0.5, samples=50, **options):
    """`count` chunks, the first after one gap."""
    return record(
        [(gap * i, samples) for i in itertools.islice(itertools.count(1), count)], **options
    )
