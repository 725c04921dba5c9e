# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests: never larger, and never longer on their way, than is allowed."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from duologue.client.patience import within
from duologue.runtime.gateway.faults import BodyTooLargeError, fault_of

BODY_TIMEOUT_S = 30.0


class BrokenBodyError(HTTPException):
    """A body that was given up while a route read it; routes pass no other errors on.

    Attributes:
        cause: why.
    """

    def __init__(self, cause: BodyTooLargeError) -> None:
        super().__init__(fault_of(cause).status, str(cause))
        self.cause = cause


def check_declared(length: str, limit: int) -> None:
    """Refuse a body by what its header says, before any of it is read.

    Args:
        length: the header; a body in pieces has none.
        limit: bytes that are allowed.

    Raises:
        BodyTooLargeError: it is larger.
    """
    if length.isdigit() and int(length) > limit:
        raise BodyTooLargeError(f"the body has {length} bytes; allowed: {limit}")


async def read_whole(receive: Receive, limit: int) -> Receive:
    """Read a small body before any route sees it; gives what the route is to read instead.

    Raises:
        BodyTooLargeError: it is larger than the limit, or takes too long.
    """
    bounded = _Bounded(receive, limit)
    messages = [await bounded.receive()]
    while not bounded.is_whole:
        messages.append(await bounded.receive())

    async def replayed() -> Message:
        return messages.pop(0) if messages else await receive()

    return replayed


class Pieces:
    """What a route reads instead of a large body: the same, within limits.

    The route hears of a body that breaks them by a `BrokenBodyError`.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        """Read from here, at most so many bytes."""
        self._receive = receive
        self._bounded = _Bounded(receive, limit)
        self._is_broken = False

    async def __call__(self) -> Message:
        """The next message, as ASGI wants it."""
        if self._bounded.is_whole:
            return await self._receive()
        try:
            return await self._bounded.receive()
        except BodyTooLargeError as error:
            self._is_broken = True
            raise BrokenBodyError(error) from None

    async def drain(self) -> None:
        """Read what a route has left of a body that is not too large.

        A caller who still sends would otherwise find the connection broken, and no answer.
        """
        with suppress(BodyTooLargeError):
            while not (self._bounded.is_whole or self._is_broken):
                await self._bounded.receive()


class _Bounded:
    """Counts what comes of a body, and how long that takes."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.is_whole = False
        self._receive = receive
        self._limit = limit
        self._size = 0
        self._deadline = time.monotonic() + BODY_TIMEOUT_S

    async def receive(self) -> Message:
        """The next message; the last one is the end of the body, or of the caller."""
        try:
            message = await within(self._receive(), self._deadline - time.monotonic())
        except asyncio.TimeoutError:
            raise BodyTooLargeError(f"the body did not come in {BODY_TIMEOUT_S:g} s") from None
        self._size += len(message.get("body", b""))
        if self._size > self._limit:
            raise BodyTooLargeError(f"the body has more than {self._limit} bytes")
        self.is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        return message
