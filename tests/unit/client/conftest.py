# SPDX-License-Identifier: Apache-2.0
"""Fake servers, and the sync and the asyncio client behind one set of verbs."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from fake_grpc_server import FakeTriton

from duologue.client import AsyncDialogueClient, DialogueClient


class SyncVerbs:
    """What a conformance test asks of a client, through `DialogueClient`."""

    def __init__(self, url, **kwargs):
        self.client = DialogueClient(url, **kwargs)

    def chunks(self, script, *, take=None, cancel_after=None, **options):
        """All chunks; `take` leaves the stream early, `cancel_after` cancels it."""
        taken = []
        with self.client.stream(script, **options) as stream:
            for chunk in stream:
                taken.append(chunk)
                if len(taken) == take:
                    break
                if len(taken) == cancel_after:
                    stream.cancel()
        return taken

    def many(self, scripts):
        streams = [self.client.stream(script) for script in scripts]
        return [list(stream) for stream in streams]

    def synthesize(self, script, **options):
        return self.client.synthesize(script, **options)

    def is_ready(self):
        return self.client.is_ready()

    def sample_rate_hz(self):
        return self.client.sample_rate_hz

    def close(self):
        self.client.close()


class AsyncVerbs:
    """The same through `AsyncDialogueClient`, in an event loop of its own."""

    def __init__(self, url, **kwargs):
        self.client = AsyncDialogueClient(url, **kwargs)
        self.loop = asyncio.new_event_loop()

    def chunks(self, script, *, take=None, cancel_after=None, **options):
        return self._run(self._chunks(script, take, cancel_after, options))

    async def _chunks(self, script, take, cancel_after, options):
        taken = []
        async with self.client.stream(script, **options) as stream:
            async for chunk in stream:
                taken.append(chunk)
                if len(taken) == take:
                    break
                if len(taken) == cancel_after:
                    stream.cancel()
        return taken

    def many(self, scripts):
        async def gather():
            return await asyncio.gather(*(self._chunks(s, None, None, {}) for s in scripts))

        return self._run(gather())

    def synthesize(self, script, **options):
        return self._run(self.client.synthesize(script, **options))

    def is_ready(self):
        return self._run(self.client.is_ready())

    def sample_rate_hz(self):
        return self._run(self.client.sample_rate_hz())

    def close(self):
        self._run(self.client.close())
        self.loop.close()

    def _run(self, coroutine):
        return self.loop.run_until_complete(coroutine)


@pytest.fixture
def serve():
    """Start a fake server on a plot; stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(plot, **kwargs):
            server = FakeTriton(plot, **kwargs)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(params=[SyncVerbs, AsyncVerbs], ids=["sync", "asyncio"])
def connect(request):
    """Connect either client to a url; closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(url, **kwargs):
            verbs = request.param(url, **kwargs)
            stack.callback(verbs.close)
            return verbs

        yield start
