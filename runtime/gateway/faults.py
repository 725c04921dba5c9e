# SPDX-License-Identifier: Apache-2.0
"""Errors to HTTP: the one place where a type becomes a status and a body in OpenAI's shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

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


class UnknownVoiceError(VoiceError):
    """No voice goes by that name."""


class VoiceExistsError(VoiceError):
    """A voice of that name exists already, or the name is not free."""


class StorageFullError(DuologueError):
    """The server has no room for another voice."""


class StorageError(DuologueError):
    """The server's voices cannot be read or written at present."""


class KeyFileError(StorageError):
    """The file of the API keys cannot be looked at in time."""


class UnknownModelError(RequestError):
    """No model goes by that name."""


class UnsupportedError(RequestError):
    """Something that this model cannot do was asked for.

    Attributes:
        param: the field that asks for it.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class BodyTooLargeError(RequestError):
    """The body of the request is larger than the door takes."""


class TextTooLongError(ScriptError):
    """The script has more characters than the door takes."""


class ForbiddenError(AccessError):
    """The caller's key is known, and does not go that far."""


class HostNotAllowedError(AccessError):
    """The request came under a name that is none of this server's."""


class RateLimitError(CapacityError):
    """The caller sent more requests than it may.

    Attributes:
        retry_after_s: seconds until the next one is taken.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AwayError(ServerUnavailableError):
    """The model is being started again, or is not there yet.

    Attributes:
        retry_after_s: about as long as that takes.
    """

    retry_after_s = 5.0


class StalledError(DuologueError):
    """The caller took nothing of the answer for too long."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as it goes out.

    Attributes:
        status: of HTTP.
        type: OpenAI's kind, e.g. "invalid_request_error".
        code: ours, stable, for programs.
        message: for people; says nothing of the inside of the server.
        param: the field at fault, or None.
        retry_after_s: when to try again, or None when that makes no sense.
    """

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the body."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.code == BODY_TOO_LARGE:
            # What is left of the body is not read: the connection cannot be used again.
            headers["Connection"] = "close"
        return headers

    @property
    def is_ours(self) -> bool:
        """The server is at fault, not the caller and not the load."""
        return self.status >= 500 and self.status != 503


BODY_TOO_LARGE = "body_too_large"
_CALLER = "invalid_request_error"
_SERVER = "server_error"
# The first match decides, so a subclass stands before its base. A text replaces the error's own
# where that would tell of addresses and processes behind the door.
_TABLE: tuple[tuple[type[DuologueError], int, str, str, str | None], ...] = (
    (ForbiddenError, 403, _CALLER, "insufficient_scope", None),
    (HostNotAllowedError, 403, _CALLER, "host_not_allowed", None),
    (AccessError, 401, _CALLER, "invalid_api_key", None),
    (UnknownVoiceError, 404, _CALLER, "voice_not_found", None),
    (VoiceExistsError, 409, _CALLER, "voice_exists", None),
    (StorageFullError, 507, _SERVER, "storage_full", "the server has no room for more voices"),
    (KeyFileError, 503, _SERVER, "storage_unavailable", "the server's keys cannot be read now"),
    (StorageError, 503, _SERVER, "storage_unavailable", "the server's voices cannot be used now"),
    (UnknownModelError, 404, _CALLER, "model_not_found", None),
    (BodyTooLargeError, 413, _CALLER, BODY_TOO_LARGE, None),
    (UnsupportedError, 400, _CALLER, "unsupported_parameter", None),
    (TextTooLongError, 413, _CALLER, "text_too_long", None),
    (ScriptError, 400, _CALLER, "invalid_script", None),
    (VoiceError, 400, _CALLER, "invalid_voice", None),
    (PromptTooLongError, 400, _CALLER, "context_length_exceeded", None),
    (RequestError, 400, _CALLER, "invalid_request", None),
    (RateLimitError, 429, "rate_limit_error", "rate_limit_exceeded", None),
    (CapacityError, 503, _SERVER, "server_full", None),
    (DeadlineError, 504, _SERVER, "deadline_exceeded", None),
    (StreamTimeoutError, 504, _SERVER, "no_audio_in_time", "the model gave no audio in time"),
    (StalledError, 408, _CALLER, "reader_stalled", None),
    (CancelledError, 503, _SERVER, "cancelled", "the server ended the request; try again"),
    (EngineUnavailableError, 503, _SERVER, "engine_unavailable", "the engine cannot run here"),
    (AwayError, 503, _SERVER, "server_restarting", "the speech server is away; try again"),
    (ServerUnavailableError, 503, _SERVER, "server_unavailable", "the speech server is down"),
    (EngineError, 500, _SERVER, "engine_error", "the server failed while it made the audio"),
)
_RETRY_AFTER_S = 1.0


def fault_of(error: Exception) -> Fault:
    """What a caller is told about an error.

    >>> fault_of(CapacityError("all 4 slots are taken")).status
    503
    >>> fault_of(KeyError("x")).message
    'the server failed; its log says more'
    """
    for kind, status, type_, code, text in _TABLE:
        if isinstance(error, kind):
            retry = getattr(error, "retry_after_s", None)
            if retry is None and status == 503:
                retry = _RETRY_AFTER_S
            param = getattr(error, "param", "input" if isinstance(error, ScriptError) else None)
            return Fault(status, type_, code, text or str(error), param, retry)
    return Fault(500, _SERVER, "internal_error", "the server failed; its log says more")
