# SPDX-License-Identifier: Apache-2.0
"""What both HTTP clients promise, held against a fake gateway on a real socket."""

from __future__ import annotations

import socket
import threading

import fake_http_server as fake
import numpy as np
import pytest
from fake_http_server import Cut, Hold, Refusal, delta, done, failure, refusal, three_chunks

from duologue.client import (
    CancelledError,
    CapacityError,
    EngineError,
    RequestError,
    ScriptError,
    ServerUnavailableError,
    StreamTimeoutError,
    TurnTime,
    Voice,
)

SEEN_S = fake.SEEN_S


def one_then_silence(body, server):
    yield delta(0)
    yield Hold()


def test_chunks_come_in_order_with_all_their_fields(serve_http, connect_http):
    chunks = connect_http(serve_http(three_chunks).url).chunks("[S1]Hello.")
    assert [chunk.index for chunk in chunks] == [0, 1, 2]
    assert [chunk.first_sample for chunk in chunks] == [0, 4, 8]
    assert [chunk.turn for chunk in chunks] == [0, 0, 1]
    assert [chunk.speaker for chunk in chunks] == [1, 1, 2]
    assert [chunk.is_last for chunk in chunks] == [False, False, True]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "stop"]
    assert chunks[1].samples.dtype == np.int16
    assert chunks[1].samples.tolist() == [1, 1, 1, 1]
    assert [chunk.turn_times for chunk in chunks[:2]] == [(), ()]
    assert chunks[2].turn_times == (TurnTime(1, 0.0, 0.5), TurnTime(2, 0.5, 1.25))
    assert {(c.sample_rate_hz, c.stream_id, c.seed) for c in chunks} == {(24_000, "r-1", 7)}
    assert {c.turn_timing for c in chunks} == {"exact"}


def test_whole_speech_joins_the_chunks(serve_http, connect_http):
    speech = connect_http(serve_http(three_chunks).url).synthesize("[S1]Hello.")
    assert speech.samples.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (speech.finish_reason, speech.seed) == ("stop", 7)


def test_every_option_is_sent_by_the_gateways_name(serve_http, connect_http):
    server = serve_http(three_chunks)
    voices = {1: "anna", 2: Voice(np.arange(6, dtype=np.int32).reshape(2, 3), "What I said.")}
    connect_http(server.url).chunks(
        "[S1]你好",
        voices=voices,
        seed=np.int64(5),
        greedy=True,
        temperature=0.5,
        top_k=9,
        top_p=0.25,
        repetition_penalty=1.5,
        normalization="v0.7",
        text_frontend="zh_en",
        mode="turns",
        max_frames=20,
        deadline_s=4.0,
        max_ahead_s=2.0,
    )
    assert server.bodies == [
        (
            "/v1/audio/dialogue",
            {
                "input": "[S1]你好",
                "stream_format": "ndjson",
                "response_format": "pcm",
                "voices": {
                    "1": "anna",
                    "2": {"codes": [[0, 1, 2], [3, 4, 5]], "transcript": "What I said."},
                },
                "seed": 5,
                "greedy": True,
                "temperature": 0.5,
                "top_k": 9,
                "top_p": 0.25,
                "repetition_penalty": 1.5,
                "normalization": "v0.7",
                "text_frontend": "zh_en",
                "mode": "turns",
                "max_new_tokens": 20,
                "deadline_s": 4.0,
                "max_ahead_s": 2.0,
            },
        )
    ]


@pytest.mark.parametrize("value", [float("nan"), {1}, 1j])
def test_option_that_json_cannot_carry_is_refused(serve_http, connect_http, value):
    server = serve_http(three_chunks)
    with pytest.raises(RequestError, match="cannot be sent"):
        connect_http(server.url).chunks("a", temperature=value)
    assert server.bodies == []


def test_last_event_without_samples_is_an_empty_last_chunk(serve_http, connect_http):
    def plot(body, server):
        yield delta(0)
        yield done("length")

    chunks = connect_http(serve_http(plot).url).chunks("a")
    assert [len(chunk.samples) for chunk in chunks] == [4, 0]
    assert (chunks[1].is_last, chunks[1].first_sample) == (True, 4)
    assert (chunks[1].turn, chunks[1].finish_reason) == (0, "length")


def test_lines_may_come_in_pieces_and_with_strange_line_ends_within(serve_http, connect_http):
    def plot(body, server):
        line = (b'{"type":"note","text":"a\xe2\x80\xa8b\xc2\x85c"}\n') + (
            fake.json.dumps(delta(0)).encode() + b"\n"
        )
        yield from (line[i : i + 7] for i in range(0, len(line), 7))
        yield fake.json.dumps(done()).encode()  # even the last line's end may be missing

    assert len(connect_http(serve_http(plot).url).chunks("a")) == 2


def test_error_in_mid_stream_has_its_type(serve_http, connect_http):
    def plot(body, server):
        yield delta(0)
        yield failure("server_full", "all slots are taken")

    with pytest.raises(CapacityError, match="all slots are taken"):
        connect_http(serve_http(plot).url).chunks("a")


def test_refused_script_has_its_place(serve_http, connect_http):
    def plot(body, server):
        yield refusal(400, "invalid_script", "line 2, column 5: speaker 9 is unknown")

    with pytest.raises(ScriptError, match="speaker 9 is unknown") as caught:
        connect_http(serve_http(plot).url).chunks("a")
    assert (caught.value.line, caught.value.column) == (2, 5)


def test_answer_of_somebody_else_says_who_and_what(serve_http, connect_http):
    def plot(body, server):
        yield Refusal(502, b"<html>\nBad gateway</html>")

    with pytest.raises(ServerUnavailableError, match=r"localhost:\d+ answered 502: <html> Bad"):
        connect_http(serve_http(plot).url).chunks("a")


def test_answer_without_the_gateways_headers_is_an_error(serve_http, connect_http):
    with pytest.raises(EngineError, match="without a sample rate"):
        connect_http(serve_http(three_chunks, headers={}).url).chunks("a")


@pytest.mark.parametrize(
    "line",
    [
        b"no json\n",
        b"[1]\n",
        b'{"type":"speech.audio.delta"}\n',
        b'{"type":"speech.audio.delta","audio":"AAA","turn":0,"speaker":1}\n',
        b'{"type":"speech.audio.delta","audio":"AA==","turn":0,"speaker":1}\n',
        b'{"type":"speech.audio.done","finish_reason":"stop","voice_segments":[{}]}\n',
    ],
)
def test_line_that_is_no_event_ends_the_stream(serve_http, connect_http, line):
    def plot(body, server):
        yield line
        yield Hold()

    server = serve_http(plot)
    with pytest.raises(EngineError, match="no event"):
        connect_http(server.url).chunks("a")
    assert server.left.wait(SEEN_S)


def test_end_without_the_last_event_is_an_error(serve_http, connect_http):
    def plot(body, server):
        yield delta(0)
        yield delta(1, is_last=True)

    with pytest.raises(EngineError, match="ended after 1 chunks"):
        connect_http(serve_http(plot).url).chunks("a")


def test_broken_connection_is_server_unavailable(serve_http, connect_http):
    def plot(body, server):
        yield delta(0)
        yield Cut()

    with pytest.raises(ServerUnavailableError, match="no answer from http://localhost"):
        connect_http(serve_http(plot).url).chunks("a")


def test_nothing_at_the_address_is_server_unavailable(connect_http):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        client = connect_http(f"http://127.0.0.1:{taken.getsockname()[1]}", timeout_s=5)
        assert not client.is_ready()
        with pytest.raises(ServerUnavailableError, match=r"no answer from http://127\.0\.0\.1"):
            client.chunks("a")
        with pytest.raises(ServerUnavailableError):
            client.sample_rate_hz()


def test_leaving_early_cancels_at_the_server(serve_http, connect_http):
    server = serve_http(one_then_silence)
    assert len(connect_http(server.url).chunks("a", take=1)) == 1
    assert server.left.wait(SEEN_S)


def test_cancel_ends_the_iteration_with_cancelled(serve_http, connect_http):
    server = serve_http(one_then_silence)
    with pytest.raises(CancelledError):
        connect_http(server.url).chunks("a", cancel_after=1)
    assert server.left.wait(SEEN_S)


def test_cancel_after_the_last_chunk_is_no_error(serve_http, connect_http):
    assert len(connect_http(serve_http(three_chunks).url).chunks("a", cancel_after=3)) == 3


@pytest.mark.parametrize("num_chunks", [0, 1])
def test_watchdog_ends_a_silent_stream(serve_http, connect_http, num_chunks):
    def plot(body, server):
        yield from (delta(index) for index in range(num_chunks))
        yield Hold()

    server = serve_http(plot)
    with pytest.raises(StreamTimeoutError, match=r"nothing for 0\.2 s"):
        connect_http(server.url, chunk_timeout_s=0.2).chunks("a")
    assert server.left.wait(SEEN_S)


def test_slow_chunks_within_the_timeout_are_waited_for(serve_http, connect_http):
    def plot(body, server):
        for index in range(3):
            server.release.wait(0.15)
            yield delta(index, is_last=index == 2)
        yield done()

    assert len(connect_http(serve_http(plot).url, chunk_timeout_s=10).chunks("a")) == 3


def test_many_streams_share_a_client(serve_http, connect_http):
    together = threading.Barrier(16)

    def plot(body, server):
        together.wait(SEEN_S)  # passes only if all streams run at the same time
        yield delta(int(body["input"]), is_last=True)
        yield done()

    scripts = [str(number) for number in range(16)]
    for script, chunks in zip(
        scripts, connect_http(serve_http(plot).url).many(scripts), strict=True
    ):
        assert [chunk.samples[0] for chunk in chunks] == [int(script)]
