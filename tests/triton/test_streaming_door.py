from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from live_gateway import wait_for
from raw_door import RawStream, is_final, pcm_of, values

from duologue.client import contract
from duologue.runtime.audio import to_int16
from duologue.runtime.core import SpeechRequest, Voice
from duologue.runtime.synthesizer import Synthesizer

SCRIPT = "[S1]Have you had breakfast?[S2]Not yet. Coffee first, then we shall see."
FRAMES = (contract.MAX_FRAMES, [60])


@pytest.fixture(scope="module")
def in_process() -> Iterator[Synthesizer]:
    with Synthesizer.load("noise") as synthesizer:
        yield synthesizer


def test_chunks_come_in_order_and_one_empty_final_response_ends_them(door: Any) -> None:
    with RawStream(door.url, (contract.SCRIPT, [SCRIPT]), (contract.SEED, [3]), FRAMES) as stream:
        results = list(stream)
        assert stream.nothing_follows()

    assert [is_final(result) for result in results] == [False] * (len(results) - 1) + [True]
    *chunks, empty = [values(result) for result in results]
    assert empty == {}
    assert len(chunks) > 2
    assert [int(chunk["CHUNK_IDX"][0]) for chunk in chunks] == list(range(len(chunks)))
    assert [bool(c["IS_LAST"][0]) for c in chunks] == [False] * (len(chunks) - 1) + [True]
    lengths = [len(chunk["PCM"]) for chunk in chunks]
    starts = [int(chunk["FIRST_SAMPLE"][0]) for chunk in chunks]
    assert starts == [sum(lengths[:i]) for i in range(len(lengths))]
    assert len({bytes(chunk["STREAM_ID"][0]) for chunk in chunks}) == 1
    assert ["FINISH_REASON" in chunk for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    assert chunks[-1]["TURN_SPEAKERS"].tolist() == [1, 2]


def test_audio_is_byte_for_byte_that_of_the_library(door: Any, in_process: Synthesizer) -> None:
    codec = in_process.bundle.codec
    codes = np.random.default_rng(1).integers(0, codec.codebook_size, (codec.num_codebooks, 9))
    request = SpeechRequest(
        SCRIPT,
        seed=17,
        max_frames=80,
        normalization="v0.7",
        voices={2: Voice(codes, "What I said.")},
    )
    expected = [to_int16(chunk.samples) for chunk in in_process.submit(request)]

    pairs = [
        (contract.SCRIPT, [SCRIPT]),
        (contract.SEED, [17]),
        (contract.MAX_FRAMES, [80]),
        (contract.NORMALIZATION, ["v0.7"]),
        (contract.VOICE_CODES, codes),
        (contract.VOICE_LENGTHS, [0, 9]),
        (contract.VOICE_TRANSCRIPTS, ["", "What I said."]),
    ]
    with RawStream(door.url, *pairs) as stream:
        got = [values(result) for result in stream][:-1]

    assert [chunk["PCM"].tolist() for chunk in got] == [chunk.tolist() for chunk in expected]


def test_turn_by_turn_gives_exact_borders(door: Any, in_process: Synthesizer) -> None:
    pairs = [
        (contract.SCRIPT, [SCRIPT]),
        (contract.SEED, [5]),
        (contract.MODE, ["turns"]),
        (contract.MAX_FRAMES, [60]),
    ]
    with RawStream(door.url, *pairs) as stream:
        chunks = [values(result) for result in stream][:-1]
    expected = in_process.synthesize(SCRIPT, seed=5, mode="turns", max_frames=60)

    assert {bytes(chunk["TURN_TIMING"][0]) for chunk in chunks} == {b"exact"}
    pcm = np.concatenate([chunk["PCM"] for chunk in chunks])
    np.testing.assert_array_equal(pcm, to_int16(expected.samples))
    times = [[time.start_s, time.end_s] for time in expected.turn_times]
    np.testing.assert_allclose(chunks[-1]["TURN_TIMES_S"], times, rtol=1e-6)


def test_a_drawn_seed_is_told_and_repeats_the_audio(door: Any) -> None:
    with RawStream(door.url, (contract.SCRIPT, [SCRIPT]), FRAMES) as stream:
        chunks = [values(result) for result in stream][:-1]
    seed = int(chunks[0]["SEED_USED"][0])

    again = pcm_of(door.url, SCRIPT, (contract.SEED, [seed]), FRAMES)

    np.testing.assert_array_equal(again, np.concatenate([chunk["PCM"] for chunk in chunks]))


def test_sampling_of_the_request_changes_the_audio(door: Any) -> None:
    def speak(text: str) -> Any:
        return pcm_of(door.url, SCRIPT, (contract.SEED, [5]), FRAMES, (contract.SAMPLING, [text]))

    assert not np.array_equal(speak('{"temperature": 2.0}'), speak('{"greedy": true}'))


def test_32_streams_at_once_sound_as_they_do_alone(door: Any) -> None:
    scripts = [f"[S1]Number {i} speaking.[S2]{'I hear you. ' * (i % 5 + 1)}" for i in range(32)]

    def speak(i: int) -> Any:
        return pcm_of(door.url, scripts[i], (contract.SEED, [i]), (contract.MAX_FRAMES, [30 + i]))

    alone = [speak(i) for i in range(32)]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(speak, range(32)))

    for solo, crowded in zip(alone, together, strict=True):
        np.testing.assert_array_equal(solo, crowded)


def test_a_paced_stream_waits_for_acknowledgements(door: Any) -> None:
    paced = [(contract.SCRIPT, [SCRIPT]), (contract.MAX_FRAMES, [100]), (contract.SEED, [2])]
    num_samples, chunks = 0, []
    with RawStream(door.url, *paced, (contract.MAX_AHEAD_S, [1.0])) as stream:
        result, error = stream.next()
        assert error is None
        chunk = values(result)
        # One second ahead, and what was on its way when the second was full.
        while not stream.nothing_follows(0.5):
            chunks.append(None)
        assert len(chunks) < 10
        stream_id = chunk["STREAM_ID"]
        num_samples = 10**9
        ack = [(contract.ACK_STREAM_ID, list(stream_id)), (contract.ACK_SAMPLES, [num_samples])]
        with RawStream(door.url, *ack) as acknowledgement:
            assert [values(answer) for answer in acknowledgement] == [{}]
        *_, last, empty = stream

    assert bool(values(last)["IS_LAST"][0])
    assert values(empty) == {}


def test_a_deadline_ends_a_stream_by_its_type(door: Any) -> None:
    paced = [(contract.MAX_AHEAD_S, [0.1]), (contract.DEADLINE_S, [0.5]), FRAMES]
    with RawStream(door.url, (contract.SCRIPT, [SCRIPT]), *paced) as stream:
        while True:
            _, error = stream.next()
            if error is not None:
                break

    assert error.startswith("DeadlineError: ")


def test_what_is_beyond_slots_and_queue_is_refused_and_nothing_else(door: Any) -> None:
    slots = Synthesizer.load("noise").bundle.limits.max_slots
    paced = [(contract.SCRIPT, [SCRIPT]), (contract.MAX_AHEAD_S, [0.05]), FRAMES]
    errors: list[str] = []

    with ExitStack() as stack:
        streams = [stack.enter_context(RawStream(door.url, *paced)) for _ in range(6 * slots)]

        def all_are_refused() -> bool:
            errors.extend(filter(None, (stream.arrived_error() for stream in streams)))
            return len(errors) >= slots

        # To cancel a stream whose refusal is on its way would keep Triton 2.51 from stopping.
        wait_for(all_are_refused, 30)

    door.wait_until_idle()
    assert {error.partition(":")[0] for error in errors} == {"CapacityError"}
    assert len(errors) == slots
