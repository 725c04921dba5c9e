from __future__ import annotations

import asyncio

import pytest

from duologue.client.patience import within


def test_what_comes_in_time_is_given_and_what_does_not_is_cancelled() -> None:
    async def run() -> None:
        assert await within(asyncio.sleep(0, "here"), 30) == "here"
        late = asyncio.ensure_future(asyncio.sleep(600))
        with pytest.raises(asyncio.TimeoutError):
            await within(late, 0.01)
        assert late.cancelled()

    asyncio.run(run())


def test_an_error_of_what_is_awaited_passes_through() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(within(fail(), 30))


def test_a_cancellation_in_the_same_turn_as_the_result_is_not_lost() -> None:
    async def run() -> None:
        result = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(within(result, 30))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        result.set_result("too late")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())


def test_a_cancellation_reaches_what_is_awaited() -> None:
    async def run() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(600))
        waiting = asyncio.ensure_future(within(inner, 600))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert inner.cancelled()

    asyncio.run(run())
