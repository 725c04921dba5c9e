# SPDX-License-Identifier: Apache-2.0
"""The sync and the asyncio clients behind one set of verbs."""

from __future__ import annotations

import asyncio


class SyncVerbs:
    """What a conformance test asks of a client, through a sync one."""

    def __init__(self, make):
        self.client = make()

    def chunks(self, script, *, take=None, cancel_after=None, **options):
        """All chunks; `take` leaves the stream early, `cancel_after` cancels it."""
        taken = []
        with self.client.stream(script, **options) as stream:
            while len(taken) != take and (chunk := next(stream, None)) is not None:
                taken.append(chunk)
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
    """The same through an asyncio client, in an event loop of its own."""

    def __init__(self, make):
        self.client = make()
        self.loop = asyncio.new_event_loop()

    def chunks(self, script, *, take=None, cancel_after=None, **options):
        return self._run(self._chunks(script, take, cancel_after, options))

    async def _chunks(self, script, take, cancel_after, options):
        taken = []
        async with self.client.stream(script, **options) as stream:
            while len(taken) != take and (chunk := await anext(stream, None)) is not None:
                taken.append(chunk)
                if len(taken) == cancel_after:
                    stream.cancel()
            await asyncio.sleep(0)
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
