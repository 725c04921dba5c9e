# SPDX-License-Identifier: Apache-2.0
"""What only one of the two HTTP clients can show: threads, collection, tasks, slow callers."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest
from fake_http_server import SEEN_S, Hold, delta

from duologue.client import AsyncHttpDialogueClient, CancelledError, HttpDialogueClient


def one_then_silence(body, server):
    yield delta(0)
    yield Hold()


def silence(body, server):
    yield Hold()


def until_asked(server):
    while not server.bodies:
        time.sleep(0.01)


def test_another_thread_can_cancel_a_stream_that_has_not_begun(serve_http):
    server = serve_http(silence)
    with HttpDialogueClient(server.url) as client, client.stream("a") as stream:

        def cancel():
            until_asked(server)
            stream.cancel()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        with pytest.raises(CancelledError):
            next(stream)
        canceller.join()
    assert server.left.wait(SEEN_S)


def test_another_thread_can_close_the_client_of_a_stream_that_waits(serve_http):
    server = serve_http(silence)
    client = HttpDialogueClient(server.url)
    stream = client.stream("a")

    def close():
        until_asked(server)
        client.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(CancelledError):
        next(stream)
    closer.join()
    assert server.left.wait(SEEN_S)
    with pytest.raises(CancelledError, match="the client is closed"):
        client.stream("a")


def test_dropped_stream_is_cancelled_by_its_collection(serve_http):
    server = serve_http(one_then_silence)
    with HttpDialogueClient(server.url) as client:
        stream = client.stream("a")
        assert next(stream).index == 0
        del stream
        gc.collect()
        assert server.left.wait(SEEN_S)


def test_dropped_client_ends_its_thread_and_its_streams(serve_http):
    server = serve_http(one_then_silence)
    client = HttpDialogueClient(server.url)
    stream = client.stream("a")
    next(stream)
    thread = next(t for t in threading.enumerate() if t.name == "duologue-http")
    del client, stream
    gc.collect()
    assert server.left.wait(SEEN_S)
    assert not thread.is_alive()


def test_process_that_ends_with_an_open_stream_ends_quietly(serve_http):
    server = serve_http(one_then_silence)
    code = (
        "import sys; from duologue.client import HttpDialogueClient\n"
        "client = HttpDialogueClient(sys.argv[1]); stream = client.stream('a'); next(stream)"
    )
    command = [sys.executable, "-c", code, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert server.left.wait(SEEN_S)


def test_cancelled_task_cancels_at_the_server(serve_http):
    server = serve_http(silence)

    async def consume():
        async with AsyncHttpDialogueClient(server.url) as client:
            async for _ in client.stream("a"):
                pass

    async def cancel_midway():
        task = asyncio.create_task(consume())
        while not server.bodies:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_midway())
    assert server.left.wait(SEEN_S)


def test_slow_caller_leaves_the_audio_with_the_server(serve_http):
    written = []

    def plot(body, server):
        for index in range(400):
            yield delta(index, size=24_000)
            written.append(index)

    server = serve_http(plot)
    with HttpDialogueClient(server.url) as client, client.stream("a") as stream:
        next(stream)
        # Until the buffers of the connection are full; then nothing is taken any more.
        count = -1
        while count != len(written):
            count = len(written)
            time.sleep(0.3)
        assert count < 400
        assert next(stream).index == 1
