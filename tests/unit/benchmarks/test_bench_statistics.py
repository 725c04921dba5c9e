# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.benchmarks.statistics import (
    Summary,
    mean_interval,
    percentile,
    percentile_interval,
)

values_of_a_run = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
shares = st.floats(0.0, 1.0)


@given(values_of_a_run, shares)
def test_a_percentile_is_a_value_that_the_share_does_not_exceed(values, q):
    found = percentile(values, q)
    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9
    assert sum(value < found for value in values) < max(q * len(values), 1e-9) + 1e-9


@given(values_of_a_run, shares, shares)
def test_percentiles_never_fall(values, one, other):
    low, high = sorted((one, other))
    assert percentile(values, low) <= percentile(values, high)


@given(values_of_a_run, shares, st.randoms())
def test_order_does_not_matter(values, q, random):
    shuffled = values[:]
    random.shuffle(shuffled)
    assert percentile(shuffled, q) == percentile(values, q)
    assert percentile_interval(shuffled, q) == percentile_interval(values, q)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_known_bounds_enclose_the_percentile(values, q):
    interval = percentile_interval(values, q)
    if interval.low is not None:
        assert interval.low <= percentile(values, q)
    if interval.high is not None:
        assert interval.high >= percentile(values, q)


@pytest.mark.parametrize(("count", "q"), [(30, 0.5), (200, 0.9), (600, 0.99)])
def test_intervals_cover_the_truth_as_often_as_they_say(count, q):
    generator = np.random.default_rng(5)
    hits = 0
    for _ in range(1000):
        interval = percentile_interval(generator.random(count).tolist(), q)
        assert interval.low is not None
        hits += interval.low <= q and (interval.high is None or q <= interval.high)
    # 95 % or a little more, as ranks are whole numbers; three standard errors are 2 %.
    assert 930 <= hits <= 1000


def test_too_few_values_leave_bounds_unknown():
    assert percentile_interval([1.0, 2.0, 3.0], 0.5).low is None
    assert percentile_interval([float(i) for i in range(50)], 0.99).high is None
    assert percentile_interval([float(i) for i in range(400)], 0.99).high is not None


def test_the_median_s_interval_of_thirty_values_has_the_ranks_of_the_tables():
    """Ranks 10 and 21 of 30: the usual table of non-parametric intervals."""
    interval = percentile_interval([float(i) for i in range(1, 31)], 0.5)
    assert (interval.low, interval.high) == (10.0, 21.0)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_the_mean_s_interval_lies_within_the_values_and_is_the_same_again(values):
    interval = mean_interval(values)
    assert interval == mean_interval(values)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_the_mean_s_interval_shrinks_with_more_values():
    generator = np.random.default_rng(1)
    few, many = generator.normal(5.0, 1.0, 10), generator.normal(5.0, 1.0, 1000)
    widths = [i.high - i.low for i in (mean_interval(few.tolist()), mean_interval(many.tolist()))]
    assert widths[1] < widths[0] / 3
    assert abs(mean_interval(many.tolist()).low - 5.0) < 0.3


def test_nothing_is_known_of_no_values():
    assert Summary.of([]).to_json() == {
        "count": 0,
        "mean": None,
        "p50": None,
        "p90": None,
        "p99": None,
        "p50_ci": [None, None],
        "p99_ci": [None, None],
    }
    assert mean_interval([1.0]).low is None


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=80))
def test_scaling_a_summary_is_summarising_scaled_values(values):
    scaled = Summary.of(values).scaled(1024.0)
    assert scaled == Summary.of([value * 1024.0 for value in values])
