# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from bench_records import RATE_HZ
from hypothesis import given
from hypothesis import strategies as st

from duologue.benchmarks.stream.listen import Listener
from duologue.benchmarks.stream.loops import closed_loop, open_loop, poisson_arrivals_s
from duologue.benchmarks.stream.plan import Ask
from duologue.client.errors import CapacityError, DuologueError
from duologue.client.types import AudioChunk


class FakeSpeaker:
    """Speaks one chunk per word; counts who speaks at the same time; fails on request."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.closed = 0
        self.scripts = []

    def stream(self, script, **options):
        if script == "refuse":
            raise CapacityError("full")
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.scripts.append(script)
        return FakeStream(self, script.split())


class FakeStream:
    def __init__(self, speaker, words):
        self.speaker, self.words = speaker, words

    def __iter__(self):
        for index, word in enumerate(self.words):
            if word == "break":
                raise DuologueError("broken")
            yield AudioChunk(
                samples=np.zeros(10, np.int16),
                sample_rate_hz=RATE_HZ,
                index=index,
                first_sample=10 * index,
                turn=0,
                speaker=1,
                turn_timing="exact",
                stream_id="s",
                seed=1,
            )

    def close(self):
        with self.speaker.lock:
            self.speaker.now -= 1
            self.speaker.closed += 1


@pytest.fixture
def speaker():
    return FakeSpeaker()


def _ask(script):
    return Ask("en_30s", script, {})


def _listener(speaker, **options):
    return Listener(speaker, (DuologueError,), **options)


def test_a_record_tells_what_came(speaker):
    record = _listener(speaker).listen(_ask("one two three"), is_warmup=False)
    assert record.error is None
    assert record.audio_s == pytest.approx(0.3)
    assert record.started_s <= record.arrivals[0].at_s <= record.ended_s
    assert speaker.closed == 1


def test_a_broken_stream_is_a_record_with_what_came_until_then(speaker):
    record = _listener(speaker).listen(_ask("one break"), is_warmup=False)
    assert record.error == "DuologueError: broken"
    assert record.audio_s == pytest.approx(0.1)
    assert speaker.closed == 1
    refused = _listener(speaker).listen(_ask("refuse"), is_warmup=False)
    assert refused.error == "CapacityError: full"


def test_a_fault_of_the_benchmark_is_no_failed_request(speaker):
    with pytest.raises(AttributeError):
        _listener(speaker).listen(Ask("en_30s", None, {}), is_warmup=False)


def test_a_listener_in_real_time_takes_no_chunk_before_its_time(speaker):
    started_s = time.monotonic()
    record = _listener(speaker, buffer_s=0.1).listen(_ask("a b c d"), is_warmup=False)
    # 0.4 s of audio, of which 0.1 s may be left when the last chunk is asked for.
    assert record.arrivals[-1].at_s - started_s >= 0.19
    assert record.error is None


def test_a_closed_loop_sends_each_request_once_and_no_more_at_a_time_than_callers(speaker):
    ended = []
    load = closed_loop(
        _listener(speaker),
        lambda index: _ask(f"number {index}"),
        concurrency=3,
        requests=20,
        warmup=2,
        progress=lambda: ended.append(1),
    )
    assert sorted(speaker.scripts) == sorted(f"number {i}" for i in range(26))
    assert len(ended) == 26
    assert [record.is_warmup for record in load.records] == [True] * 6 + [False] * 20
    assert len(load.measured) == 20
    assert speaker.most <= 3
    assert load.start_s <= load.stop_s
    assert all(record.started_s <= load.stop_s for record in load.records)


def test_a_closed_loop_counts_failures_and_goes_on(speaker):
    load = closed_loop(
        _listener(speaker),
        lambda index: _ask("refuse" if index % 2 else "fine"),
        concurrency=2,
        requests=10,
        warmup=0,
    )
    assert sum(record.error is not None for record in load.measured) == 5


def test_an_open_loop_sends_at_the_moments_drawn(speaker):
    load = open_loop(
        _listener(speaker),
        lambda index: _ask(f"number {index}"),
        rate_per_s=200.0,
        requests=10,
        warmup=2,
        seed=4,
    )
    offsets = [record.due_s - load.records[0].due_s for record in load.records]
    assert offsets == pytest.approx(poisson_arrivals_s(200.0, 12, 4), abs=1e-6)
    assert [record.is_warmup for record in load.records] == [True] * 2 + [False] * 10
    assert all(record.started_s >= record.due_s for record in load.records)
    assert (load.start_s, load.stop_s) == (load.records[2].due_s, load.records[-1].due_s)


@given(st.floats(0.01, 1000), st.integers(1, 50), st.integers(0, 2**31))
def test_arrivals_rise_from_zero_and_are_the_same_again(rate_per_s, count, seed):
    moments = poisson_arrivals_s(rate_per_s, count, seed)
    assert moments == poisson_arrivals_s(rate_per_s, count, seed)
    assert len(moments) == count
    assert moments[0] == 0.0
    assert moments == sorted(moments)


def test_arrivals_come_at_the_rate_asked_for_and_by_chance():
    pauses = np.diff(poisson_arrivals_s(4.0, 20_001, 1))
    assert np.mean(pauses) == pytest.approx(0.25, rel=0.03)
    # Exponential pauses vary as much as they last.
    assert np.std(pauses) == pytest.approx(0.25, rel=0.03)
