# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.benchmarks.stream.playback import gaps_s, play
from duologue.benchmarks.stream.records import Arrival

RATE_HZ = 100
streams = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), min_size=1, max_size=30)


def _arrivals(stream, start=0):
    """Pauses and lengths in hundredths of a second to chunks."""
    moments = itertools.accumulate((pause for pause, _ in stream), initial=start)
    next(moments)
    return [Arrival(at / 100, length) for at, (_, length) in zip(moments, stream, strict=True)]


def _heard(arrivals):
    """Playback by the definition, sample by sample in hundredths of a second."""
    clock = round(arrivals[0].at_s * 100)
    underruns = silence = 0
    for arrival in arrivals:
        at = round(arrival.at_s * 100)
        if at > clock:
            underruns, silence, clock = underruns + 1, silence + at - clock, at
        clock += arrival.num_samples
    return underruns, silence / 100


@given(streams)
def test_playback_is_what_a_player_would_do(stream):
    arrivals = _arrivals(stream)
    played = play(arrivals, RATE_HZ)
    underruns, silence_s = _heard(arrivals)
    assert played.underruns == underruns
    assert played.stalled_s == pytest.approx(silence_s)


@given(streams, st.integers(1, 10_000))
def test_when_the_first_chunk_comes_does_not_matter(stream, delay):
    early, late = _arrivals(stream), _arrivals(stream, start=delay)
    assert play(early, RATE_HZ).underruns == play(late, RATE_HZ).underruns


@given(streams)
def test_chunks_that_come_at_once_never_run_dry(stream):
    arrivals = [Arrival(1.0, length) for _, length in stream]
    assert play(arrivals, RATE_HZ) == play([], RATE_HZ)


@given(streams, st.data())
def test_a_chunk_that_comes_earlier_makes_nothing_worse(stream, data):
    arrivals = _arrivals(stream)
    place = data.draw(st.integers(0, len(arrivals) - 1))
    moments = [arrival.at_s for arrival in arrivals]
    earliest = moments[place - 1] if place > 1 else moments[0]
    sooner = [*arrivals]
    if place > 0:
        sooner[place] = Arrival(earliest, arrivals[place].num_samples)
    assert play(sooner, RATE_HZ).stalled_s <= play(arrivals, RATE_HZ).stalled_s + 1e-9


@given(streams)
def test_gaps_add_up_to_the_time_between_first_and_last(stream):
    arrivals = _arrivals(stream)
    gaps = gaps_s(arrivals)
    assert len(gaps) == len(arrivals) - 1
    assert sum(gaps) == pytest.approx(arrivals[-1].at_s - arrivals[0].at_s)


def test_a_chunk_that_comes_when_the_last_sample_sounds_is_in_time():
    assert play([Arrival(0.0, 50), Arrival(0.5, 50)], RATE_HZ).underruns == 0
    assert play([Arrival(0.0, 50), Arrival(0.51, 50)], RATE_HZ).underruns == 1
