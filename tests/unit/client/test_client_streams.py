# SPDX-License-Identifier: Apache-2.0
"""What only one of the two clients can show: threads, collection, tasks."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading

import fake_grpc_server as fake
import pytest

from duologue import client
from duologue.client import AsyncDialogueClient, CancelledError, DialogueClient

SEEN_S = 10.0


def one_then_silence(inputs, server):
    yield fake.chunk(0)
    server.release.wait(SEEN_S)


def test_dropped_stream_is_cancelled_by_its_collection(serve):
    server = serve(one_then_silence)
    with DialogueClient(server.url) as dialogue:
        stream = dialogue.stream("a")
        assert next(stream).index == 0
        del stream
        gc.collect()
        assert server.cancelled.wait(SEEN_S)


def test_interrupt_while_waiting_cancels_at_the_server(serve):
    def interrupt(chunk):
        raise KeyboardInterrupt

    server = serve(one_then_silence)
    with DialogueClient(server.url) as dialogue:
        stream = dialogue.stream("a", max_ahead_s=1.0)
        stream._acknowledge = interrupt
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        assert server.cancelled.wait(SEEN_S)
        assert list(stream) == []


def test_another_thread_can_cancel_a_waiting_stream(serve):
    server = serve(one_then_silence)
    with DialogueClient(server.url) as dialogue, dialogue.stream("a") as stream:
        next(stream)
        canceller = threading.Timer(0.1, stream.cancel)
        canceller.start()
        with pytest.raises(CancelledError):
            next(stream)
        canceller.join()
    assert server.cancelled.wait(SEEN_S)


def test_closed_stream_has_no_more_chunks(serve):
    server = serve(one_then_silence)
    with DialogueClient(server.url) as dialogue:
        stream = dialogue.stream("a")
        next(stream)
        stream.close()
        assert list(stream) == []


def test_address_may_carry_the_scheme(serve):
    server = serve(one_then_silence)
    with DialogueClient(f"grpc://{server.url}") as dialogue:
        assert dialogue.is_ready()


def test_cancelled_task_cancels_at_the_server(serve):
    server = serve(one_then_silence)

    async def consume():
        async with AsyncDialogueClient(server.url) as dialogue:
            async for _ in dialogue.stream("a"):
                pass

    async def cancel_midway():
        task = asyncio.create_task(consume())
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_midway())
    assert server.cancelled.wait(SEEN_S)


def test_event_loop_runs_on_while_a_stream_waits(serve):
    server = serve(one_then_silence)

    async def both():
        async with AsyncDialogueClient(server.url) as dialogue:
            stream = dialogue.stream("a")
            await stream.__anext__()
            waiting = asyncio.create_task(stream.__anext__())
            assert await dialogue.is_ready()  # answered while the other call is silent
            assert not waiting.done()
            stream.cancel()
            with pytest.raises(CancelledError):
                await waiting

    asyncio.run(both())


def test_import_of_the_client_leaves_everything_heavy_alone():
    code = "import sys, duologue.client; print(*{'grpc', 'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_can_be_had():
    assert all(getattr(client, name).__name__ == name for name in client.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        _ = client.Nobody
