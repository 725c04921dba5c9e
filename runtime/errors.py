# SPDX-License-Identifier: Apache-2.0
"""The error tree of the runtime: everything a caller can cause has a type of its own."""

from __future__ import annotations


class DuologueError(Exception):
    """Root of all errors that duologue raises on purpose.

    A message says what was wrong, what was got, and what is allowed.
    """


class ConfigError(DuologueError):
    """A configuration or bundle field has a value that cannot work; names the field."""


class ScriptError(DuologueError):
    """The script cannot be read as turns.

    Attributes:
        line: 1-based line of the fault, or None when the fault has no place.
        column: 1-based column of the fault, or None.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        place = "" if line is None else f"line {line}, column {column or 1}: "
        super().__init__(place + message)
        self.line = line
        self.column = column


class VoiceError(DuologueError):
    """A voice is unknown, or its audio, codes or transcript cannot be used."""


class RequestError(DuologueError):
    """A request is malformed: missing, of the wrong type or shape, or out of range."""


class PromptTooLongError(DuologueError):
    """Prompt and speech together do not fit into the context of the model."""


class CapacityError(DuologueError):
    """The server is full at present; the same request may be sent again later."""


class DeadlineError(DuologueError):
    """The request's own deadline passed before its audio was complete."""


class CancelledError(DuologueError):
    """The caller cancelled the request, or went away."""


class AccessError(DuologueError):
    """The caller showed no key, or one that is unknown or does not go that far."""


class EngineUnavailableError(DuologueError):
    """An engine was asked for that cannot run here; the message says what to install."""


class EngineError(DuologueError):
    """An engine failed while it ran; every request it was serving is told so."""


def parse_error(text: str) -> DuologueError:
    """Read back an error that was written as "Type: message".

    Args:
        text: as it crossed a border between processes.

    Returns:
        The error, not raised; an `EngineError` with the whole text when the type is unknown.

    >>> parse_error("VoiceError: the voice 'x' is unknown")
    VoiceError("the voice 'x' is unknown")
    """
    name, separator, message = text.partition(": ")
    kind = globals().get(name) if separator else None
    if isinstance(kind, type) and issubclass(kind, DuologueError):
        return kind(message)
    return EngineError(text)
