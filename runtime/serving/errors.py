# SPDX-License-Identifier: Apache-2.0
"""Our errors to Triton's, in one place."""

from __future__ import annotations

import traceback

from duologue.client.contract import ERROR_SEPARATOR
from duologue.runtime.errors import (
    CancelledError,
    CapacityError,
    ConfigError,
    DeadlineError,
    DuologueError,
    EngineError,
    EngineUnavailableError,
    PromptTooLongError,
    RequestError,
    ScriptError,
    VoiceError,
)
from duologue.runtime.serving.triton import PbUtils, Response

INTERNAL_ERROR = "internal error, see the server's log"

# Triton has no code for a full server nor for a passed deadline; the type in the message says it.
_CODES: dict[type[DuologueError], str] = {
    ScriptError: "INVALID_ARG",
    VoiceError: "INVALID_ARG",
    RequestError: "INVALID_ARG",
    PromptTooLongError: "INVALID_ARG",
    CapacityError: "UNAVAILABLE",
    EngineUnavailableError: "UNAVAILABLE",
    DeadlineError: "CANCELLED",
    CancelledError: "CANCELLED",
    ConfigError: "INTERNAL",
    EngineError: "INTERNAL",
}


def error_response(error: Exception, pb_utils: PbUtils) -> Response:
    """The response that tells a caller of an error.

    Args:
        error: a `DuologueError` travels as "Type: message"; any other exception as an
            `EngineError` without details, which go to the server's log with the traceback.
        pb_utils: Triton's module.
    """
    if not isinstance(error, DuologueError):
        text = "".join(traceback.format_exception(error))
        pb_utils.Logger.log_error(f"unexpected exception in a request:\n{text}")
        error = EngineError(INTERNAL_ERROR)
    code = getattr(pb_utils.TritonError, _CODES.get(type(error), "INTERNAL"))
    message = f"{type(error).__name__}{ERROR_SEPARATOR}{error}"
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))


def load_failure(error: DuologueError, pb_utils: PbUtils) -> Exception:
    """The exception that makes Triton refuse a model, with the reason in one line."""
    text = " ".join(str(error).split())
    exception: Exception = pb_utils.TritonModelException(
        f"{type(error).__name__}{ERROR_SEPARATOR}{text}"
    )
    return exception
