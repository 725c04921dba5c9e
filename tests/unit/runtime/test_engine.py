"""The engine with a language model and a codec without weights: streams, slots, endings."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import fakes
import numpy as np
import pytest

from duologue.runtime.codec_worker import CodecWorker
from duologue.runtime.core import FinishReason, PcmChunk, Script, Turn, TurnTiming
from duologue.runtime.engine import Engine
from duologue.runtime.errors import (
    CancelledError,
    CapacityError,
    DeadlineError,
    EngineError,
    PromptTooLongError,
)
from duologue.runtime.job import Job
from duologue.runtime.lm.sequence import Sequence, new_sequence
from duologue.runtime.passes import OnePass, PassOrder, TurnByTurn
from duologue.runtime.stream import SpeechStream

SCRIPT = Script((Turn(1, "one two"), Turn(2, "three")))


class Bench:
    """An engine on fakes."""

    def __init__(
        self,
        backbone: fakes.FakeBackbone,
        codec: fakes.FakeCodec,
        max_waiting: int,
        prefix_bytes: int = 0,
    ):
        self.backbone, self.codec = backbone, codec
        self.worker = CodecWorker(codec, max_batch=8)
        self.engine = Engine(
            backbone,
            self.worker,
            max_waiting=max_waiting,
            max_prefill_rows=8,
            prefix_bytes=prefix_bytes,
        )

    def start(self, seed: int = 0, max_frames: int = 40, **options: Any) -> SpeechStream:
        codes_only = options.pop("codes_only", False)
        settings = {"max_ahead_s": None, "max_backlog_samples": 10**9, **options}
        stream = SpeechStream(script=SCRIPT, seed=seed, sample_rate_hz=100, **settings)
        passes = OnePass(SCRIPT, partial(self._begin, seed), max_frames, expected_frames=20)
        job = Job(fakes.BUNDLE, passes, stream, codes_only=codes_only)
        self.engine.submit(job)
        return stream

    def _begin(self, seed: int, order: PassOrder) -> Sequence:
        prompt = np.random.default_rng(seed).integers(1, 200, (5 + seed % 19, fakes.NUM_CHANNELS))
        prompt[:, 1:] = fakes.NUM_CODES
        return new_sequence(
            prompt,
            lm=fakes.LM,
            tokens=fakes.TOKENS,
            sampling=fakes.BUNDLE.sampling,
            seed=seed,
            max_frames=order.max_frames or 40,
            min_frames=1,
            max_rows=self.backbone.max_rows,
            codebook_size=fakes.NUM_CODES,
        )

    def close(self) -> None:
        self.engine.close()
        self.worker.close()

    def await_paused(self, stream: SpeechStream, num_samples: int) -> None:
        give_up_at_s = time.monotonic() + 60
        while stream.delivered_samples < num_samples:
            assert time.monotonic() < give_up_at_s, "the producer stopped too early"
            time.sleep(0.002)

    def await_idle(self) -> None:
        give_up_at_s = time.monotonic() + 60
        while self.engine.stats.num_running or self.engine.stats.num_waiting:
            assert time.monotonic() < give_up_at_s, "a slot was not freed"
            time.sleep(0.002)


@pytest.fixture
def bench() -> Iterator[Any]:
    benches: list[Bench] = []

    def make(
        backbone: fakes.FakeBackbone | None = None,
        codec: fakes.FakeCodec | None = None,
        max_waiting: int = 100,
        prefix_bytes: int = 0,
    ) -> Bench:
        backbone, codec = backbone or fakes.FakeBackbone(), codec or fakes.FakeCodec()
        made = Bench(backbone, codec, max_waiting, prefix_bytes)
        benches.append(made)
        return made

    yield make
    for made in benches:
        if made.backbone.gate is not None:
            made.backbone.gate.release(10_000)
        made.close()


def _join(chunks: list[PcmChunk]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])


def test_a_stream_is_its_codes_spelled_out_in_order(bench: Any) -> None:
    stream = bench().start(seed=3)
    chunks = list(stream)
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    starts = np.cumsum([0, *[len(chunk.samples) for chunk in chunks]])[:-1]
    assert [chunk.first_sample for chunk in chunks] == starts.tolist()
    np.testing.assert_array_equal(_join(chunks), fakes.spell_out(stream.codes[None])[0])
    assert chunks[-1].finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert [t.speaker for t in chunks[-1].turn_times] == [1, 2]
    assert chunks[-1].turn_times[-1].end_s == pytest.approx(len(_join(chunks)) / 100)


def test_a_stream_does_not_depend_on_its_neighbours(bench: Any) -> None:
    alone = {}
    for seed in range(12):
        alone[seed] = _join(list(bench().start(seed=seed)))
    crowd = bench(fakes.FakeBackbone(max_slots=5))
    streams = {seed: crowd.start(seed=seed) for seed in alone}
    for seed, stream in streams.items():
        np.testing.assert_array_equal(_join(list(stream)), alone[seed])
    crowd.await_idle()
    assert sorted(set(crowd.backbone.released)) == [0, 1, 2, 3, 4]


def test_kept_prefixes_change_no_sample(bench: Any) -> None:
    plain, keeping = bench(), bench(prefix_bytes=10**6)
    seeds = [18, 13, 18, 18, 13, 13, 18]
    for seed in seeds:
        np.testing.assert_array_equal(
            _join(list(keeping.start(seed=seed))), _join(list(plain.start(seed=seed)))
        )
    streams = [keeping.start(seed=seed) for seed in seeds]
    for seed, stream in zip(seeds, streams, strict=True):
        np.testing.assert_array_equal(_join(list(stream)), _join(list(plain.start(seed=seed))))
    stats = keeping.engine.stats.prefixes
    assert (stats.lookups, plain.engine.stats.prefixes.lookups) == (2 * len(seeds), 0)
    assert stats.hits >= 8
    assert stats.rows_restored >= 8 * stats.hits


def test_a_prompt_that_ends_as_no_number_is_not_kept_for_others(bench: Any) -> None:
    backbone = fakes.FakeBackbone()
    made = bench(backbone, prefix_bytes=10**6)
    list(made.start(seed=18))
    sound = backbone._logits

    def sick(slots: Any) -> Any:
        logits = sound(slots)
        logits.values[:] = np.nan
        return logits

    backbone._logits = sick  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="not numbers"):
        list(made.start(seed=18))
    backbone._logits = sound  # type: ignore[method-assign]
    made.await_idle()
    assert made.engine.stats.prefixes.num_bytes == 0


def test_a_cap_ends_with_length_after_exactly_so_many_frames(bench: Any) -> None:
    made = bench(fakes.FakeBackbone(end_chance=0.0))
    for max_frames in (1, 2, 3, 7, 8, 30):
        stream = made.start(seed=1, max_frames=max_frames)
        chunks = list(stream)
        assert stream.codes.shape == (fakes.NUM_CHANNELS, max_frames)
        assert len(_join(chunks)) == max_frames * fakes.SAMPLES_PER_FRAME
        assert chunks[-1].finish_reason is FinishReason.LENGTH


def test_a_model_that_says_nothing_gives_one_empty_last_chunk(bench: Any) -> None:
    backbone = fakes.FakeBackbone()
    backbone._logits = lambda slots: _text_only(len(slots))  # type: ignore[method-assign]
    (chunk,) = list(bench(backbone).start())
    assert chunk.is_last
    assert len(chunk.samples) == 0
    assert chunk.finish_reason is FinishReason.STOP


def _text_only(num_rows: int) -> Any:
    values = np.zeros((num_rows, fakes.LM.logit_offsets[-1]), dtype=np.float32)
    values[:, 5] = 1
    return fakes.Logits(values, fakes.LM.logit_offsets)


def test_codes_only_makes_no_audio(bench: Any) -> None:
    made = bench()
    stream = made.start(seed=3, codes_only=True)
    (chunk,) = list(stream)
    assert len(chunk.samples) == 0
    assert made.codec.num_decodes == 0
    with_audio = made.start(seed=3)
    list(with_audio)
    np.testing.assert_array_equal(stream.codes, with_audio.codes)


def test_a_cancelled_stream_frees_its_slot_within_one_step(bench: Any) -> None:
    gate = threading.Semaphore(0)
    made = bench(fakes.FakeBackbone(end_chance=0.0, gate=gate))
    stream = made.start(max_frames=300)
    neighbour = made.start(seed=1, max_frames=30)
    gate.release(8)
    next(stream)
    steps_before = made.backbone.num_decodes
    stream.cancel()
    gate.release(1)
    give_up_at_s = time.monotonic() + 5
    while made.engine.stats.num_running != 1:
        assert time.monotonic() < give_up_at_s
        time.sleep(0.001)
    assert made.backbone.num_decodes <= max(steps_before, 8) + 1
    with pytest.raises(CancelledError):
        list(stream)
    gate.release(100)
    assert len(_join(list(neighbour))) == 30 * fakes.SAMPLES_PER_FRAME


def test_a_waiting_request_can_be_cancelled(bench: Any) -> None:
    gate = threading.Semaphore(0)
    made = bench(fakes.FakeBackbone(max_slots=1, gate=gate))
    made.start()
    waiting = made.start(seed=1)
    waiting.cancel()
    with pytest.raises(CancelledError):
        next(waiting)
    gate.release(500)
    made.await_idle()


def test_a_full_queue_refuses_and_loses_nothing(bench: Any) -> None:
    gate = threading.Semaphore(0)
    made = bench(fakes.FakeBackbone(max_slots=1, gate=gate), max_waiting=1)
    first = made.start()
    give_up_at_s = time.monotonic() + 5
    while not made.engine.stats.num_running:
        assert time.monotonic() < give_up_at_s
        time.sleep(0.001)
    second = made.start(seed=1)
    with pytest.raises(CapacityError):
        made.start(seed=2)
    gate.release(1000)
    assert list(first)[-1].is_last
    assert list(second)[-1].is_last


def test_a_fault_in_a_step_ends_every_running_stream_and_the_next_one_runs(bench: Any) -> None:
    gate = threading.Semaphore(0)
    made = bench(fakes.FakeBackbone(end_chance=0.0, fail_at=10, gate=gate))
    streams = [made.start(seed=seed) for seed in range(3)]
    gate.release(1000)
    for stream in streams:
        with pytest.raises(EngineError, match="the engine failed"):
            list(stream)
    made.await_idle()
    assert list(made.start(seed=7))[-1].is_last


def test_a_fault_in_the_codec_ends_only_the_streams_in_that_batch(bench: Any) -> None:
    made = bench(codec=fakes.FakeCodec(fail_at=2))
    with pytest.raises(EngineError, match="the codec failed"):
        list(made.start(seed=1, max_frames=40))
    made.await_idle()
    assert list(made.start(seed=2))[-1].is_last


def test_a_deadline_ends_the_stream_even_while_it_waits(bench: Any) -> None:
    gate = threading.Semaphore(0)
    made = bench(fakes.FakeBackbone(max_slots=1, gate=gate))
    made.start(max_ahead_s=0.01, deadline_at_s=None)
    late = made.start(seed=1, deadline_at_s=time.monotonic() + 0.05)
    gate.release(2)
    threading.Timer(0.1, gate.release, args=(500,)).start()
    with pytest.raises(DeadlineError):
        list(late)


def test_a_deadline_wakes_an_engine_in_which_all_are_paused(bench: Any) -> None:
    made = bench(fakes.FakeBackbone(end_chance=0.0))
    stream = made.start(max_frames=300, max_ahead_s=0.3, deadline_at_s=time.monotonic() + 0.2)
    with pytest.raises(DeadlineError):
        list(stream)
    made.await_idle()


def test_a_producer_waits_for_acknowledgements(bench: Any) -> None:
    made = bench(fakes.FakeBackbone(end_chance=0.0))
    stream = made.start(max_frames=200, max_ahead_s=1.0)
    other = made.start(seed=1, max_frames=200)
    assert list(other)[-1].is_last, "a slow reader costs its neighbours nothing"
    made.await_paused(stream, 100)
    held_back = stream.delivered_samples
    # One second is 100 samples; the window that reaches the limit may exceed it.
    longest_hop = 4 * fakes.SAMPLES_PER_FRAME
    assert 100 <= held_back < 100 + longest_hop
    num_samples = 0
    for chunk in stream:
        num_samples += len(chunk.samples)
        assert stream.delivered_samples <= num_samples + 100 + longest_hop
        stream.acknowledge(num_samples)
    assert num_samples == 200 * fakes.SAMPLES_PER_FRAME


def test_an_unpaced_producer_stops_at_the_cap_until_chunks_are_taken(bench: Any) -> None:
    made = bench(fakes.FakeBackbone(end_chance=0.0))
    stream = made.start(max_frames=200, max_backlog_samples=160)
    made.await_paused(stream, 160)
    assert len(_join(list(stream))) == 200 * fakes.SAMPLES_PER_FRAME


def test_turn_by_turn_gives_exact_borders_and_frees_every_slot(bench: Any) -> None:
    made = bench(fakes.FakeBackbone(max_slots=2))
    orders: list[PassOrder] = []

    def begin(order: PassOrder) -> Sequence:
        orders.append(order)
        return made._begin(100 + order.index, order)

    script = Script(tuple(Turn(1 + index % 2, f"turn {index}") for index in range(5)))
    passes = TurnByTurn(script, begin, None, lambda _: 40, 60, keeps_anchors=True)
    stream = SpeechStream(
        script=script, seed=0, sample_rate_hz=100, max_ahead_s=None, max_backlog_samples=10**9
    )
    made.engine.submit(Job(fakes.BUNDLE, passes, stream))
    neighbour = made.start(seed=3)
    chunks = list(stream)
    np.testing.assert_array_equal(_join(chunks), fakes.spell_out(stream.codes[None])[0])
    times = chunks[-1].turn_times
    assert [time.speaker for time in times] == [1, 2, 1, 2, 1]
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(times))
    assert times[-1].end_s == pytest.approx(len(_join(chunks)) / 100)
    assert {chunk.turn_timing for chunk in chunks} == {TurnTiming.EXACT}
    for order, time_ in zip(orders[1:], times, strict=False):
        assert order.history is not None
        # What stands in front of a turn is exactly what was spoken, up to the turn before it.
        end = round(time_.end_s * fakes.CODEC.frame_rate_hz)
        last = order.history.codes[:, -1]
        np.testing.assert_array_equal(last, stream.codes[:, end - 1])
        assert order.history.codes.shape[1] <= 60 + 40
    assert list(neighbour)[-1].is_last
    made.await_idle()


def test_a_next_turn_that_cannot_be_laid_out_ends_the_stream_with_its_error(bench: Any) -> None:
    made = bench()

    def begin(order: PassOrder) -> Sequence:
        if order.index == 1:
            raise PromptTooLongError("the second turn is too long")
        return made._begin(0, order)

    passes = TurnByTurn(SCRIPT, begin, None, lambda _: 40, 30, keeps_anchors=False)
    stream = SpeechStream(
        script=SCRIPT, seed=0, sample_rate_hz=100, max_ahead_s=None, max_backlog_samples=10**9
    )
    made.engine.submit(Job(fakes.BUNDLE, passes, stream))
    with pytest.raises(PromptTooLongError, match="second turn"):
        list(stream)
    made.await_idle()


def test_a_fault_between_two_turns_ends_that_stream_alone(bench: Any) -> None:
    made = bench()

    def begin(order: PassOrder) -> Sequence:
        if order.index == 1:
            raise RuntimeError("a fault that nobody foresaw")
        return made._begin(0, order)

    passes = TurnByTurn(SCRIPT, begin, None, lambda _: 40, 30, keeps_anchors=False)
    stream = SpeechStream(
        script=SCRIPT, seed=0, sample_rate_hz=100, max_ahead_s=None, max_backlog_samples=10**9
    )
    neighbour = made.start(seed=5)
    made.engine.submit(Job(fakes.BUNDLE, passes, stream))
    with pytest.raises(EngineError, match="the engine failed"):
        list(stream)
    assert list(neighbour)[-1].is_last
    made.await_idle()


def test_a_slot_that_cannot_be_released_does_not_stop_the_engine(bench: Any) -> None:
    backbone = fakes.FakeBackbone()

    def release(slot: int) -> None:
        backbone._digests.pop(slot, None)
        backbone._num_rows.pop(slot, None)
        raise RuntimeError("a fault that nobody foresaw")

    backbone.release = release  # type: ignore[method-assign]
    made = bench(backbone)
    for seed in range(6):
        assert list(made.start(seed=seed))[-1].is_last


def test_closing_ends_what_runs_with_an_error(bench: Any) -> None:
    made = bench(fakes.FakeBackbone(end_chance=0.0))
    stream = made.start(max_frames=300, max_ahead_s=0.1)
    made.close()
    with pytest.raises(EngineError, match="stopped"):
        list(stream)
    with pytest.raises(EngineError, match="stopped"):
        made.start()
