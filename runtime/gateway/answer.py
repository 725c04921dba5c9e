# SPDX-License-Identifier: Apache-2.0
"""The HTTP answer that carries speech: sent while it is made, ended when the caller leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from duologue.client.errors import CancelledError
from duologue.client.patience import within
from duologue.client.types import AudioChunk
from duologue.client.wav import wav_header
from duologue.runtime.gateway.encode import MEDIA_TYPES, AudioFormat
from duologue.runtime.gateway.faults import Fault, StalledError, fault_of
from duologue.runtime.gateway.speaking import Piece

_T = TypeVar("_T")
_BYTES_PER_SAMPLE = 2
_WAV_HEADER_BYTES = 44


class Writer(Protocol):
    """Writes pieces as the body of an answer."""

    media_type: str

    def write(self, piece: Piece) -> bytes:
        """The bytes for one piece; may be none."""
        ...

    def fail(self, fault: Fault) -> bytes | None:
        """The bytes that tell of an error in mid-stream; None cuts the answer off."""
        ...


class AudioWriter:
    """The body is the audio itself."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.media_type = MEDIA_TYPES[audio_format]

    def write(self, piece: Piece) -> bytes:
        """See `Writer`."""
        return piece.data

    def fail(self, fault: Fault) -> bytes | None:
        """Audio that ends early must not look whole."""
        return None


class SpeechAnswer(Response):
    """Sends pieces as they come.

    Nothing is sent before the first piece, so that an error until then has a status of its own.
    When the caller goes away, or takes nothing for too long, the generator is closed at once.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[Piece, None],
        writer: Writer,
        *,
        stall_timeout_s: float,
        is_whole: bool = False,
    ) -> None:
        """Take over a generator.

        Args:
            pieces: not begun yet; always closed.
            writer: of the body.
            stall_timeout_s: seconds that the caller may take no byte.
            is_whole: send all at once, with its length.
        """
        super().__init__(media_type=writer.media_type)
        self._pieces = pieces
        self._writer = writer
        self._stall_timeout_s = stall_timeout_s
        self._is_whole = is_whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI wants it."""
        writing = asyncio.ensure_future(self._answer(scope, receive, send))
        leaving = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (writing, leaving):
                task.cancel()
            results = await asyncio.gather(writing, leaving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient_send(message: Message) -> None:
            try:
                await within(send(message), self._stall_timeout_s)
            except asyncio.TimeoutError:
                raise StalledError("the caller took nothing of the answer for too long") from None

        async with aclosing(self._pieces) as pieces:
            try:
                first = await pieces.__anext__()
            except Exception as error:
                await fault_response(fault_of(error))(scope, receive, patient_send)
                return
            try:
                if self._is_whole:
                    await self._send_whole(first, pieces, scope, receive, patient_send)
                else:
                    await self._send_pieces(first, pieces, patient_send)
            except StalledError as error:
                await throw_into(pieces, error)

    async def _send_pieces(
        self, first: Piece, pieces: AsyncGenerator[Piece, None], send: Send
    ) -> None:
        headers = [*self.raw_headers, *_raw(describing_headers(first))]
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_body(send, self._writer.write(first))
        try:
            async for piece in pieces:
                await _send_body(send, self._writer.write(piece))
        except StalledError:
            raise
        except Exception as error:
            told = self._writer.fail(fault_of(error))
            if told is None:
                return  # without its last part: the caller's HTTP library reports it as broken
            await _send_body(send, told)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_whole(
        self,
        first: Piece,
        pieces: AsyncGenerator[Piece, None],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        parts, last = [self._writer.write(first)], first
        try:
            async for last in pieces:
                parts.append(self._writer.write(last))
        except Exception as error:
            await fault_response(fault_of(error))(scope, receive, send)
            return
        headers = describing_headers(last)
        headers["x-finish-reason"] = last.chunk.finish_reason or ""
        body = b"".join(parts)
        if self.media_type == MEDIA_TYPES["wav"]:
            body = _with_length(body, last.sample_rate_hz)
        response = Response(body, headers=headers, media_type=self.media_type)
        await response(scope, receive, send)


def whole_body(pieces: Sequence[Piece], audio_format: AudioFormat) -> bytes:
    """All pieces of a stream as one file that says how long it is."""
    body = b"".join(piece.data for piece in pieces)
    return _with_length(body, pieces[-1].sample_rate_hz) if audio_format == "wav" else body


async def while_present(request: Request, work: Awaitable[_T]) -> _T:
    """The result of work that is given up when the caller leaves.

    Raises:
        CancelledError: the caller left; nobody hears of it any more.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CancelledError("the caller left")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def throw_into(pieces: AsyncGenerator[Piece, None], error: StalledError) -> None:
    """Tell a generator why it ends, so that log and metrics name it."""
    with suppress(StalledError, StopAsyncIteration):
        await pieces.athrow(error)


def fault_response(fault: Fault) -> JSONResponse:
    """An error as a whole answer."""
    return JSONResponse(fault.body, fault.status, fault.headers)


def describing_headers(piece: Piece) -> dict[str, str]:
    """What is known of the audio from its first piece on."""
    chunk: AudioChunk = piece.chunk
    return {
        "x-sample-rate": str(piece.sample_rate_hz),
        "x-seed": str(chunk.seed),
        "cache-control": "no-store",
        # Proxies that gather answers would undo the streaming.
        "x-accel-buffering": "no",
    }


def _with_length(wav: bytes, sample_rate_hz: int) -> bytes:
    """A streamed WAV file, now that its length is known."""
    samples = wav[_WAV_HEADER_BYTES:]
    return wav_header(sample_rate_hz, len(samples) // _BYTES_PER_SAMPLE) + samples


async def _send_body(send: Send, data: bytes) -> None:
    if data:
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
