# SPDX-License-Identifier: Apache-2.0
"""The error tree of the client: the server's types by the same names, and two of its own.

The types are this side's own classes, so that the client needs nothing of the runtime.
"""

from __future__ import annotations

import re

from duologue.client.contract import ERROR_SEPARATOR


class DuologueError(Exception):
    """Root of all errors that the client raises on purpose."""


class ScriptError(DuologueError):
    """The script cannot be read as turns.

    Attributes:
        line: 1-based line of the fault, or None when the fault has no place.
        column: 1-based column of the fault, or None.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        place = re.match(r"line (\d+), column (\d+): ", message)
        self.line = int(place[1]) if place else None
        self.column = int(place[2]) if place else None


class VoiceError(DuologueError):
    """A voice is unknown, or its audio, codes or transcript cannot be used."""


class RequestError(DuologueError):
    """A request is malformed: missing, of the wrong type or shape, or out of range."""


class PromptTooLongError(DuologueError):
    """Prompt and speech together do not fit into the context of the model."""


class CapacityError(DuologueError):
    """The server is full at present; the same request may be sent again later.

    Attributes:
        retry_after_s: seconds after which the server wants to be asked again; None where it did
            not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(DuologueError):
    """The request's own deadline passed before its audio was complete."""


class CancelledError(DuologueError):
    """The stream was cancelled, by this side or by the server."""


class EngineUnavailableError(DuologueError):
    """An engine was asked for that cannot run there; the message says what to install."""


class EngineError(DuologueError):
    """The server failed while it made the audio, or said something that has no type here."""


class ServerUnavailableError(DuologueError):
    """Nothing answers at the address, or the connection broke."""


class StreamTimeoutError(DuologueError):
    """The connection stands, but no chunk came within the time allowed."""

    @classmethod
    def after(cls, address: str, timeout_s: float) -> StreamTimeoutError:
        """The error of a client that waited for so long and then cancelled; not raised."""
        return cls(f"{address} sent nothing for {timeout_s:g} s; the request is cancelled")


class AccessError(DuologueError):
    """The server wants an API key, or one that may do more."""


_BY_NAME: dict[str, type[DuologueError]] = {
    cls.__name__: cls
    for cls in (
        AccessError,
        ScriptError,
        VoiceError,
        RequestError,
        PromptTooLongError,
        CapacityError,
        DeadlineError,
        CancelledError,
        EngineUnavailableError,
        EngineError,
    )
}


# How Triton begins when a request contradicts a model's configuration.
_TRITON_REFUSAL = re.compile(
    r"(\[request id: [^\]]*\] )?"
    r"(unexpected (inference input|shape for input)|inference input '|expected \d+ inputs?|input ')"
)


def error_from_wire(text: str) -> DuologueError:
    """Turn the text of an error response back into the type that was raised.

    Args:
        text: "<type>: <message>" as the server wrote it, or whatever else came.

    Returns:
        The error, not raised. For an unknown type it is `RequestError` where Triton itself
        refused a tensor that contradicts the model's configuration, else `EngineError`.

    >>> error_from_wire("CapacityError: all 4 slots are taken")
    CapacityError('all 4 slots are taken')
    >>> error_from_wire("unexpected inference input 'VOLUME' for model 'dialogue_tts'")
    RequestError("unexpected inference input 'VOLUME' for model 'dialogue_tts'")
    >>> error_from_wire("Stub process is not healthy.")
    EngineError('Stub process is not healthy.')
    """
    name, separator, message = text.partition(ERROR_SEPARATOR)
    cls = _BY_NAME.get(name.strip())
    if cls is None or not separator:
        return RequestError(text) if _TRITON_REFUSAL.match(text) else EngineError(text)
    return cls(message)
