# SPDX-License-Identifier: Apache-2.0
"""What both gRPC clients promise, held against a fake server on a real socket."""

from __future__ import annotations

import socket
import threading

import fake_grpc_server as fake
import grpc
import numpy as np
import pytest

from duologue.client import (
    CancelledError,
    CapacityError,
    EngineError,
    RequestError,
    ScriptError,
    ServerUnavailableError,
    StreamTimeoutError,
    TurnTime,
    contract,
)

SEEN_S = 10.0


def three_chunks(inputs, server):
    yield fake.chunk(0)
    yield fake.chunk(1)
    yield fake.chunk(2, is_last=True)
    yield fake.final()


def test_chunks_come_in_order_with_all_their_fields(serve, connect):
    chunks = connect(serve(three_chunks).url).chunks("[S1]Hello.")
    assert [chunk.index for chunk in chunks] == [0, 1, 2]
    assert [chunk.first_sample for chunk in chunks] == [0, 4, 8]
    assert [chunk.turn for chunk in chunks] == [0, 0, 1]
    assert [chunk.speaker for chunk in chunks] == [1, 1, 2]
    assert [chunk.is_last for chunk in chunks] == [False, False, True]
    assert [chunk.finish_reason for chunk in chunks] == [None, None, "stop"]
    assert chunks[1].samples.dtype == np.int16
    assert chunks[1].samples.tolist() == [1, 1, 1, 1]
    assert chunks[1].samples_f32.tolist() == [1 / 32768] * 4
    assert chunks[1].turn_times == ()
    assert chunks[2].turn_times == (TurnTime(1, 0.0, 0.5), TurnTime(2, 0.5, 1.25))
    assert {(c.sample_rate_hz, c.stream_id, c.seed) for c in chunks} == {(24_000, "s-1", 7)}
    assert {c.turn_timing for c in chunks} == {"estimated"}


def test_whole_speech_joins_the_chunks(serve, connect):
    speech = connect(serve(three_chunks).url).synthesize("[S1]Hello.")
    assert speech.samples.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert speech.duration_s == 12 / 24_000
    assert (speech.finish_reason, speech.seed) == ("stop", 7)


def test_final_flag_may_come_with_the_last_chunk(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0, is_last=True, final=True)

    assert len(connect(serve(plot).url).chunks("a")) == 1


def test_a_missing_final_flag_does_not_hold_the_stream(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0, is_last=True)
        server.release.wait(SEEN_S)

    server = serve(plot)
    assert len(connect(server.url).chunks("a")) == 1
    assert server.cancelled.wait(SEEN_S)


def test_a_complete_stream_is_not_cancelled(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0, is_last=True)
        assert not server.cancelled.wait(0.2)
        yield fake.final()

    server = serve(plot)
    assert len(connect(server.url).chunks("a")) == 1
    assert not server.cancelled.is_set()


@pytest.mark.parametrize("num_chunks", [0, 2])
def test_final_without_last_chunk_is_an_error(serve, connect, num_chunks):
    def plot(inputs, server):
        yield from (fake.chunk(index) for index in range(num_chunks))
        yield fake.final()
        server.release.wait(SEEN_S)

    with pytest.raises(EngineError, match=f"ended after {num_chunks} chunks"):
        connect(serve(plot).url).chunks("a")


def test_end_of_call_without_last_chunk_is_an_error(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0)

    with pytest.raises(EngineError, match="ended after 1 chunks"):
        connect(serve(plot).url).synthesize("a")


def test_error_in_mid_stream_has_its_type_and_place(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0)
        yield fake.error("ScriptError: line 2, column 5: speaker 9 is unknown")
        yield fake.final()

    with pytest.raises(ScriptError, match="speaker 9 is unknown") as caught:
        connect(serve(plot).url).chunks("a")
    assert (caught.value.line, caught.value.column) == (2, 5)


def test_error_without_final_ends_the_stream_and_frees_the_server(serve, connect):
    def plot(inputs, server):
        yield fake.error("CapacityError: all slots are taken")
        server.release.wait(SEEN_S)

    server = serve(plot)
    with pytest.raises(CapacityError):
        connect(server.url).chunks("a")
    assert server.cancelled.wait(SEEN_S)


def test_response_without_a_tensor_names_it(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0, without=contract.SPEAKER)

    with pytest.raises(EngineError, match="no tensor SPEAKER"):
        connect(serve(plot).url).chunks("a")


def test_leaving_early_cancels_at_the_server(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0)
        server.release.wait(SEEN_S)
        yield fake.chunk(1)

    server = serve(plot)
    assert len(connect(server.url).chunks("a", take=1)) == 1
    assert server.cancelled.wait(SEEN_S)


def test_cancel_ends_the_iteration_with_cancelled(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0)
        server.release.wait(SEEN_S)

    server = serve(plot)
    with pytest.raises(CancelledError):
        connect(server.url).chunks("a", cancel_after=1)
    assert server.cancelled.wait(SEEN_S)


def test_cancel_after_the_last_chunk_is_no_error(serve, connect):
    assert len(connect(serve(three_chunks).url).chunks("a", cancel_after=3)) == 3


def test_watchdog_ends_a_silent_stream(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0)
        server.release.wait(SEEN_S)

    server = serve(plot)
    with pytest.raises(StreamTimeoutError, match=r"nothing for 0\.2 s"):
        connect(server.url, chunk_timeout_s=0.2).chunks("a")
    assert server.cancelled.wait(SEEN_S)


def test_refused_connection_is_server_unavailable(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        client = connect(f"127.0.0.1:{taken.getsockname()[1]}", timeout_s=5)
        assert not client.is_ready()
        with pytest.raises(ServerUnavailableError, match=r"no answer from 127\.0\.0\.1"):
            client.chunks("a")
        with pytest.raises(ServerUnavailableError):
            client.sample_rate_hz()


def test_lost_connection_is_server_unavailable(serve, connect):
    def plot(inputs, server):
        yield fake.chunk(0)
        yield grpc.StatusCode.UNAVAILABLE

    with pytest.raises(ServerUnavailableError, match="the plot wants it"):
        connect(serve(plot).url).chunks("a")


def test_other_failures_of_a_call_name_their_code(serve, connect):
    def plot(inputs, server):
        yield grpc.StatusCode.INTERNAL

    with pytest.raises(EngineError, match="INTERNAL: the plot wants it"):
        connect(serve(plot).url).chunks("a")


def test_many_streams_share_a_client(serve, connect):
    together = threading.Barrier(16)

    def plot(inputs, server):
        (script,) = inputs["SCRIPT"]
        together.wait(SEEN_S)  # passes only if all streams run at the same time
        yield fake.chunk(0, stream_id=script)
        yield fake.chunk(1, stream_id=script, is_last=True)
        yield fake.final()

    scripts = [f"[S1]{number}" for number in range(16)]
    for script, chunks in zip(scripts, connect(serve(plot).url).many(scripts), strict=True):
        assert [(chunk.stream_id, chunk.index) for chunk in chunks] == [(script, 0), (script, 1)]


def test_requests_ask_for_the_empty_final_and_never_for_grpc_errors(serve, connect):
    server = serve(three_chunks)
    connect(server.url).chunks("a")
    (request,) = server.requests
    assert request.parameters["triton_enable_empty_final_response"].bool_param
    assert request.model_name == "dialogue_tts"
    assert all("triton_grpc_error" not in metadata for metadata in server.metadata)


def test_paced_stream_acknowledges_what_was_taken(serve, connect):
    server = serve(three_chunks)
    connect(server.url).chunks("a", max_ahead_s=2.0)
    assert server.acks == [("s-1", 4), ("s-1", 8)]


def test_unpaced_stream_acknowledges_nothing(serve, connect):
    server = serve(three_chunks)
    connect(server.url).chunks("a")
    assert server.acks == []


def test_ready_is_what_the_server_says(serve, connect):
    server = serve(three_chunks)
    client = connect(server.url)
    assert client.is_ready()
    server.ready = False
    assert not client.is_ready()


def test_sample_rate_comes_from_the_model_configuration(serve, connect):
    server = serve(three_chunks, rate_hz=16_000)
    assert connect(server.url).sample_rate_hz() == 16_000
    assert server.requests == []


def test_sample_rate_is_probed_where_the_configuration_is_closed(serve, connect):
    server = serve(three_chunks, rate_hz=None)
    client = connect(server.url)
    assert [client.sample_rate_hz(), client.sample_rate_hz()] == [24_000, 24_000]
    (request,) = server.requests
    assert fake.read_inputs(request)["MAX_FRAMES"].tolist() == [1]


@pytest.mark.parametrize("url", ["localhost", "http://localhost:8000", ":8001", "host:port"])
def test_address_without_host_and_port_is_refused(connect, url):
    with pytest.raises(RequestError, match="allowed: HOST:PORT"):
        connect(url)
