# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from bench_records import record, steady

from duologue.benchmarks.stream.door import door_figures
from duologue.benchmarks.stream.levels import (
    audio_per_slice_s,
    mean_in_flight,
    stream_figures,
    throughput,
)
from duologue.benchmarks.stream.loops import Load


def test_figures_are_those_of_the_good_requests_and_failures_are_counted():
    records = [
        steady(4),
        record([(1.0, 50), (3.0, 150)]),
        record([(0.1, 50)], error="CapacityError: full"),
        record([], error="ServerUnavailableError: gone"),
        record([]),
    ]
    figures = stream_figures(records)
    assert figures["requests"] == 5
    assert figures["failures"] == 3
    assert figures["errors"] == {"CapacityError": 1, "ServerUnavailableError": 1, "no audio": 1}
    assert figures["audio_s"] == 4.0
    assert figures["ttfa_ms"]["p50"] == 500.0
    assert figures["ttfa_ms"]["p99"] == 1000.0
    assert figures["first_chunk_ms"]["p99"] == 500.0
    assert figures["rtf"] == 1.0
    assert figures["rtf_per_request"]["p99"] == 1.5
    assert figures["underruns"] == figures["underrun_requests"] == 1
    assert figures["stalled_s"] == 1.5


def test_first_audio_is_counted_from_when_the_request_was_due():
    figures = stream_figures([steady(2, start=7.0, due=5.0)])
    assert figures["ttfa_ms"]["p50"] == pytest.approx(2500.0)
    assert figures["rtf"] == pytest.approx(1.0)


def test_a_level_of_failures_alone_has_unknown_figures():
    figures = stream_figures([record([], error="EngineError: broke")])
    assert figures["failures"] == 1
    assert figures["rtf"] is None
    assert figures["ttfa_ms"]["p50"] is None


def test_throughput_counts_the_audio_of_the_window_whoever_it_belongs_to():
    warmup = steady(10, is_warmup=True)
    load = Load((warmup, steady(4, start=4.0)), start_s=4.0, stop_s=6.0)
    assert sum(audio_per_slice_s(load, 4)) == pytest.approx(3.5)
    found = throughput(load)
    assert found["audio_s_per_s"] == pytest.approx(1.75)
    low, high = found["audio_s_per_s_ci"]
    assert low < 1.75 < high


def test_a_window_without_length_has_no_throughput():
    assert throughput(Load((steady(1),), 1.0, 1.0))["audio_s_per_s"] is None


def test_requests_in_flight_are_weighed_by_their_time_in_the_window():
    load = Load((steady(4), steady(2, start=1.0)), start_s=0.0, stop_s=4.0)
    assert mean_in_flight(load) == pytest.approx((2.0 + 1.0) / 4.0)


def test_the_door_s_cost_is_the_difference_of_pairs():
    alone = record([(0.1, 50), (0.2, 50), (0.3, 50)])
    through = record([(0.11, 50), (0.212, 50), (0.316, 50)])
    found = door_figures([(alone, through)] * 8)
    assert found["failures"] == 0
    assert found["first_added_ms"]["p50"] == pytest.approx(10.0)
    assert found["chunk_added_ms"]["p50"] == pytest.approx(3.0)
    assert found["gap_added_ms"]["mean"] == pytest.approx(3.0)
    assert found["gap_added_ms"]["count"] == 16


def test_pairs_that_are_not_alike_are_failures():
    alone = steady(3)
    odd = [steady(2), record([], error="EngineError: broke"), steady(3, samples=60)]
    found = door_figures([(alone, other) for other in odd])
    assert found["failures"] == 3
    assert found["first_added_ms"]["count"] == 0
