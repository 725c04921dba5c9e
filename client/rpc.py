# SPDX-License-Identifier: Apache-2.0
"""What the sync and the asyncio client share about the connection itself."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from duologue.client import contract
from duologue.client.errors import (
    AccessError,
    CancelledError,
    CapacityError,
    DuologueError,
    EngineError,
    RequestError,
    ServerUnavailableError,
    error_from_wire,
)

DEFAULT_URL = "localhost:8001"

# How long to wait for the server to close a stream whose last chunk has come.
END_TIMEOUT_S = 1.0

RATE_PARAMETER = "sample_rate_hz"

_TOO_LARGE = "message larger than max"
_REFUSALS: dict[grpc.StatusCode, type[DuologueError]] = {
    grpc.StatusCode.UNAUTHENTICATED: AccessError,
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
    grpc.StatusCode.INVALID_ARGUMENT: RequestError,
}

_SCHEME = "grpc://"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def split_scheme(url: str) -> str:
    """The address that gRPC wants: "host:port" without "grpc://".

    Raises:
        RequestError: the url has no port, or is of another protocol.
    """
    address = url.removeprefix(_SCHEME)
    host, separator, port = address.rpartition(":")
    if not (host and separator and port.isdigit()) or "/" in address:
        raise RequestError(f"the server's address is {url!r}; allowed: HOST:PORT")
    return address


def channel_options(address: str) -> list[tuple[str, int]]:
    """Settings of a channel: messages of any size, no proxy between a machine and itself."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # gRPC's own two minutes would keep out those who wait for a server that starts again.
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if address.rpartition(":")[0] in _LOOPBACK:
        options.append(("grpc.enable_http_proxy", 0))
    return options


def key_metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """Metadata that shows an API key; none without one.

    Raises:
        RequestError: no metadata can carry the key.

    >>> key_metadata("s3cret")
    (('authorization', 'Bearer s3cret'),)
    """
    if api_key is None:
        return ()
    if not (api_key.isascii() and api_key.isprintable()):
        raise RequestError("the API key holds characters that no metadata can carry")
    return (("authorization", f"Bearer {api_key}"),)


def error_from_rpc(error: Any, address: str) -> DuologueError:
    """Turn the failure of a call (not an error response within it) into a type of ours.

    Args:
        error: a `grpc.RpcError` that has a code and details.
        address: of the server, for the message.

    Returns:
        The error, not raised.
    """
    code, details = error.code(), error.details()
    if code == grpc.StatusCode.CANCELLED:
        return CancelledError("the stream was cancelled")
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ServerUnavailableError(f"no answer from {address}: {details}")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC itself says so of a message that is too large; a gate, of a server that is full.
        is_too_large = _TOO_LARGE in (details or "")
        return RequestError(details) if is_too_large else CapacityError(details)
    if code in _REFUSALS:
        return _REFUSALS[code](details)
    return EngineError(f"{address} answered {code.name}: {details}")


def refusal_from_rpc(error: Any, address: str) -> DuologueError:
    """As `error_from_rpc`, for calls whose refusals carry a type of ours in their details."""
    if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL):
        return error_from_wire(error.details())
    return error_from_rpc(error, address)


def ready_request() -> Any:
    """Asks whether the streaming model is loaded."""
    return service_pb2.ModelReadyRequest(name=contract.STREAMING_MODEL)


def config_request() -> Any:
    """Asks for the configuration of the streaming model."""
    return service_pb2.ModelConfigRequest(name=contract.STREAMING_MODEL)


def rate_from_config(response: Any) -> int | None:
    """The sample rate as the model's configuration has it, or None if it does not say."""
    text = response.config.parameters[RATE_PARAMETER].string_value
    return int(text) if text.isdigit() else None
