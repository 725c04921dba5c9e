# SPDX-License-Identifier: Apache-2.0
"""Percentiles and how sure they are: pure functions of a list of values.

A percentile's interval comes from order statistics, which assume nothing about how the values
are distributed; a mean's from the bootstrap with a fixed seed, so that a report is the same when
it is made again from the same values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds between which a figure lies with a confidence of 95 %; a bound may be unknown.

    Attributes:
        low: None where so few values say nothing about it.
        high: likewise.
    """

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles of one quantity.

    Attributes:
        count: how many values.
        mean: their mean; None of no values, as all others.
        p50, p90, p99: see `percentile`.
        p50_ci: the median's interval.
        p99_ci: of the 99th percentile; its upper bound needs several hundred values.
    """

    count: int
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    p50_ci: Interval = Interval(None, None)
    p99_ci: Interval = Interval(None, None)

    @staticmethod
    def of(values: Sequence[float]) -> Summary:
        """Summarise finite values in any order."""
        if not values:
            return Summary(0)
        return Summary(
            count=len(values),
            mean=float(np.mean(values)),
            p50=percentile(values, 0.5),
            p90=percentile(values, 0.9),
            p99=percentile(values, 0.99),
            p50_ci=percentile_interval(values, 0.5),
            p99_ci=percentile_interval(values, 0.99),
        )

    def scaled(self, factor: float) -> Summary:
        """The summary of the values times a positive factor, e.g. for another unit."""

        def times(value: float | None) -> float | None:
            return None if value is None else value * factor

        def both(interval: Interval) -> Interval:
            return Interval(times(interval.low), times(interval.high))

        return Summary(
            self.count,
            times(self.mean),
            times(self.p50),
            times(self.p90),
            times(self.p99),
            both(self.p50_ci),
            both(self.p99_ci),
        )

    def to_json(self) -> dict[str, object]:
        """Plain values for a report; intervals as [low, high]."""
        fields = asdict(self)
        for name in ("p50_ci", "p99_ci"):
            interval: Interval = getattr(self, name)
            fields[name] = [interval.low, interval.high]
        return fields


def percentile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least a share q of the values do not exceed.

    One of the values themselves, never a mixture of two: a p99 has been somebody's wait.

    Args:
        values: at least one, in any order.
        q: 0 to 1.

    >>> percentile([30.0, 10.0, 20.0, 40.0], 0.5), percentile([1.0, 2.0], 0.99)
    (20.0, 2.0)
    """
    assert values, "a percentile of no values"
    rank = min(max(1, math.ceil(q * len(values))), len(values))
    return sorted(values)[rank - 1]


def percentile_interval(values: Sequence[float], q: float) -> Interval:
    """Two of the values that enclose the true percentile with a confidence of 95 %.

    How many of n values lie below the true percentile is binomial (n, q); each tail beyond the
    bounds has a probability of at most 2.5 %. With too few values a bound is unknown.

    >>> percentile_interval([float(i) for i in range(1, 11)], 0.5)
    Interval(low=2.0, high=9.0)
    >>> percentile_interval([1.0, 2.0, 3.0], 0.99)
    Interval(low=2.0, high=None)
    """
    ordered, count = sorted(values), len(values)
    tail = (1.0 - CONFIDENCE) / 2.0
    below = np.cumsum(_binomial(count, q))
    # The value of rank r lies above the percentile when fewer than r values lie below it.
    low_rank = int(np.searchsorted(below, tail, side="right"))
    high_rank = int(np.searchsorted(below, 1.0 - tail, side="left")) + 1
    return Interval(
        ordered[low_rank - 1] if low_rank >= 1 else None,
        ordered[high_rank - 1] if high_rank <= count else None,
    )


def _binomial(count: int, q: float) -> list[float]:
    """Probabilities of 0 .. count hits, by logarithms so that large counts work."""
    if q in (0.0, 1.0):
        return [float(hits == q * count) for hits in range(count + 1)]
    log_q, log_rest = math.log(q), math.log1p(-q)
    whole = math.lgamma(count + 1)
    return [
        math.exp(
            whole
            - math.lgamma(hits + 1)
            - math.lgamma(count - hits + 1)
            + hits * log_q
            + (count - hits) * log_rest
        )
        for hits in range(count + 1)
    ]


def mean_interval(values: Sequence[float]) -> Interval:
    """Where the true mean lies with a confidence of 95 %, by resampling (the bootstrap).

    Of fewer than two values nothing is known.
    """
    if len(values) < 2:
        return Interval(None, None)
    generator = np.random.default_rng(_SEED)
    array = np.asarray(values, dtype=np.float64)
    means = [float(generator.choice(array, len(array)).mean()) for _ in range(_RESAMPLES)]
    tail = (1.0 - CONFIDENCE) / 2.0
    return Interval(percentile(means, tail), percentile(means, 1.0 - tail))
