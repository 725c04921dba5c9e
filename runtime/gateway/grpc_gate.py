# SPDX-License-Identifier: Apache-2.0
"""A gate in front of Triton's gRPC: the same keys and limits as at the HTTP door.

Triton itself stays on loopback. A call is let in by its key before anything of it is looked at;
then only what a client of ours needs goes through (streams, whole requests, readiness), one
request per stream, and nothing of the caller's metadata: some of it can crash a server.
"""

# ruff: noqa: N802 - the methods bear the names of the protocol

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import grpc
from grpc import aio
from starlette.datastructures import Headers
from tritonclient.grpc import service_pb2_grpc

from duologue.client import contract
from duologue.client.errors import (
    AccessError,
    CapacityError,
    DuologueError,
    EngineError,
    RequestError,
    ServerUnavailableError,
    StreamTimeoutError,
)
from duologue.client.patience import within
from duologue.client.rpc import END_TIMEOUT_S
from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.faults import ForbiddenError, StalledError, fault_of
from duologue.runtime.gateway.house import House
from duologue.runtime.gateway.keys import Visitor, visitor_with
from duologue.runtime.keys import SPEAK

STREAM_MODELS = (contract.STREAMING_MODEL,)
WHOLE_MODELS = (contract.ENSEMBLE_MODEL, contract.ENCODER_MODEL)
# Reference audio of 30 s and more; scripts are smaller.
MAX_MESSAGE_BYTES = 8_000_000
_KEEPALIVE_MS = 10_000
_REQUEST_TIMEOUT_S = 10.0
FINAL = "triton_final_response"
_CODES: tuple[tuple[type[DuologueError], grpc.StatusCode], ...] = (
    (ForbiddenError, grpc.StatusCode.PERMISSION_DENIED),
    (AccessError, grpc.StatusCode.UNAUTHENTICATED),
    (CapacityError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (StalledError, grpc.StatusCode.CANCELLED),
    (EngineError, grpc.StatusCode.INTERNAL),
)


async def open_gate(house: House, triton_url: str, address: str) -> aio.Server:
    """Listen at an address; stopped by whoever called.

    Args:
        house: its keys and limits hold here, too.
        triton_url: "host:port" of Triton on loopback.
        address: "host:port" to listen at.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    server = aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ]
    )
    gate = _Gate(house, triton_url)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(gate, server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"the gRPC door cannot listen at {address}") from error
    await server.start()
    return server


class _Gate(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """What goes through; all other methods answer that they are not there."""

    def __init__(self, house: House, triton_url: str) -> None:
        self._house = house
        self._channel = aio.insecure_channel(
            triton_url,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._triton = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def ServerLive(self, request: Any, context: Any) -> Any:
        return await self._ask(self._triton.ServerLive, request, context)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return await self._ask(self._triton.ServerReady, request, context)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return await self._ask(self._triton.ModelReady, request, context)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """A whole request: the ensemble, or reference audio to codes."""
        try:
            visitor = await self._let_in(context)
            _check_model(request, WHOLE_MODELS)
            self._house.rates.take(visitor)
            with self._house.admission.admitted(visitor):
                return await self._forward(self._triton.ModelInfer(request), context)
        except DuologueError as error:
            await _refuse(error, context)

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> None:
        """A stream of one request: a script, or an acknowledgement."""
        # No generator: one that is left in the middle keeps its place until it is collected.
        try:
            try:
                visitor = await self._let_in(context)
            finally:
                # Clients of asyncio lose a refusal that overtakes their request.
                request = await _first(requests)
            if request is None:
                return
            _check_model(request, STREAM_MODELS)
            place: AbstractContextManager[None] = nullcontext()
            if any(tensor.name == contract.SCRIPT.name for tensor in request.inputs):
                self._house.rates.take(visitor)
                place = self._house.admission.admitted(visitor)
            with place:
                await self._stream(request, requests, context)
        except DuologueError as error:
            await _refuse(error, context)
        except aio.AioRpcError as error:
            await _refuse(_failure(error), context)

    async def _stream(self, request: Any, requests: AsyncIterator[Any], context: Any) -> None:
        call = self._triton.ModelStreamInfer(iter([request]))
        second = asyncio.ensure_future(anext(requests, None))
        has_ended = False
        try:
            while True:
                timeout_s = self._house.settings.api.timeout
                response = await self._house.outage.wait_for(call.read(), timeout_s)
                if response is aio.EOF:
                    has_ended = True
                    return
                is_over = _is_over(response)
                if is_over:
                    # Triton 2.51 keeps a request for ever whose cancel overtakes its end.
                    has_ended = await _drained(call)
                await self._send(response, context)
                if is_over:
                    return
                if second.done() and second.result() is not None:
                    raise RequestError("the stream holds a second request; allowed: one")
        except asyncio.TimeoutError:
            raise StreamTimeoutError("no audio came in time") from None
        finally:
            second.cancel()
            with suppress(asyncio.CancelledError, aio.AioRpcError):
                await second
            if not has_ended:
                # The caller left, or is sent away: this is what frees its slot.
                call.cancel()

    async def _send(self, response: Any, context: Any) -> None:
        try:
            await within(context.write(response), self._house.settings.api.stall_timeout)
        except asyncio.TimeoutError:
            raise StalledError("the caller took nothing for too long") from None

    async def _ask(self, method: Any, request: Any, context: Any) -> Any:
        try:
            await self._let_in(context, scope=None)
            return await self._forward(method(request), context)
        except DuologueError as error:
            await _refuse(error, context)

    async def _forward(self, call: Any, context: Any) -> Any:
        try:
            return await self._house.outage.wait_for(call, self._house.settings.api.timeout)
        except aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise _failure(error) from error
            # A refusal of the model's, whose type stands in its details.
            await context.abort(error.code(), error.details())
        except asyncio.TimeoutError:
            raise StreamTimeoutError("no answer came in time") from None

    async def _let_in(self, context: Any, scope: str | None = SPEAK) -> Visitor:
        """Who calls; nothing of the call has been read yet."""
        pairs = [
            (name, value)
            for name, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        ]
        host = context.peer().rpartition(":")[0].partition(":")[2]
        try:
            self._house.outage.check()
            return await visitor_with(self._house.keys, Headers(dict(pairs)), host, scope)
        except DuologueError as error:
            self._house.metrics.refused(fault_of(error).code)
            raise


def _check_model(request: Any, allowed: tuple[str, ...]) -> None:
    if request.model_name not in allowed:
        raise RequestError(f"the model is none of those served here: {', '.join(allowed)}")


def _failure(error: aio.AioRpcError) -> DuologueError:
    """What a call to Triton failed of; its own words tell of addresses behind the door."""
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return ServerUnavailableError("no answer from the speech server")
    return EngineError(f"the speech server answered {error.code().name}")


def _is_over(response: Any) -> bool:
    final = response.infer_response.parameters.get(FINAL)
    return bool(response.error_message) or (final is not None and bool(final.bool_param))


async def _first(requests: AsyncIterator[Any]) -> Any:
    """The first request of a stream, or None where none comes in its time."""
    with suppress(asyncio.TimeoutError):
        return await within(anext(requests, None), _REQUEST_TIMEOUT_S)
    return None


async def _drained(call: Any) -> bool:
    """Whether the call has ended in order within its time."""
    with suppress(asyncio.TimeoutError, aio.AioRpcError):
        while await within(call.read(), END_TIMEOUT_S) is not aio.EOF:
            pass
        return True
    return False


async def _refuse(error: DuologueError, context: Any) -> None:
    found = (code for kind, code in _CODES if isinstance(error, kind))
    code = next(found, grpc.StatusCode.UNAVAILABLE)
    await context.abort(code, fault_of(error).message)
