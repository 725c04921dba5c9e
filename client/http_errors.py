# SPDX-License-Identifier: Apache-2.0
"""Errors of the gateway back to their types: the one place that knows its codes."""

from __future__ import annotations

import json

from duologue.client.errors import (
    AccessError,
    CancelledError,
    CapacityError,
    DeadlineError,
    DuologueError,
    EngineError,
    EngineUnavailableError,
    PromptTooLongError,
    RequestError,
    ScriptError,
    ServerUnavailableError,
    StreamTimeoutError,
    VoiceError,
)

_SHOWN = 200
_TYPES: dict[str, type[DuologueError]] = {
    "invalid_api_key": AccessError,
    "insufficient_scope": AccessError,
    "host_not_allowed": AccessError,
    "voice_not_found": VoiceError,
    "voice_exists": VoiceError,
    "invalid_voice": VoiceError,
    "invalid_script": ScriptError,
    "text_too_long": ScriptError,
    "context_length_exceeded": PromptTooLongError,
    "model_not_found": RequestError,
    "body_too_large": RequestError,
    "unsupported_parameter": RequestError,
    "invalid_request": RequestError,
    "invalid_body": RequestError,
    "rate_limit_exceeded": CapacityError,
    "server_full": CapacityError,
    "storage_full": CapacityError,
    "deadline_exceeded": DeadlineError,
    "no_audio_in_time": StreamTimeoutError,
    "reader_stalled": CancelledError,
    "cancelled": CancelledError,
    "engine_unavailable": EngineUnavailableError,
    "server_restarting": ServerUnavailableError,
    "server_unavailable": ServerUnavailableError,
    "storage_unavailable": ServerUnavailableError,
    "engine_error": EngineError,
    "internal_error": EngineError,
}
# What stands between client and gateway may answer in its place, in words of its own.
_TYPES_BY_STATUS: dict[int, type[DuologueError]] = {
    401: AccessError,
    403: AccessError,
    429: CapacityError,
    502: ServerUnavailableError,
    503: ServerUnavailableError,
    504: ServerUnavailableError,
}


def error_from_answer(
    status: int, body: bytes, address: str, retry_after: str | None = None
) -> DuologueError:
    """Turn an answer that is no audio back into the type that was raised.

    Args:
        status: of the answer.
        body: the gateway's JSON, or whatever else came.
        address: of the server, for the message.
        retry_after: header of that name, if the answer has one.

    Returns:
        The error, not raised.

    >>> body = b'{"error": {"code": "server_full", "message": "all 4 slots are taken"}}'
    >>> error_from_answer(503, body, "http://localhost:9000")
    CapacityError('all 4 slots are taken')
    """
    try:
        error = json.loads(body)["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        code, message = "", body[:_SHOWN].decode(errors="replace")
    if code in _TYPES:
        cls = _TYPES[code]
    else:
        cls = _TYPES_BY_STATUS.get(status, RequestError if 400 <= status < 500 else EngineError)
        message = f"{address} answered {status}: {' '.join(message.split())}"
    if issubclass(cls, CapacityError):
        return cls(message, _seconds(retry_after))
    return cls(message)


def _seconds(retry_after: str | None) -> float | None:
    """What a `Retry-After` says in seconds; the dates that it may hold instead tell nothing."""
    text = (retry_after or "").strip()
    return float(text) if text.isascii() and text.isdecimal() else None
