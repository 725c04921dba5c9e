# SPDX-License-Identifier: Apache-2.0
"""How a verb ends: one clear line and an exit status instead of a traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import typer

from duologue.client import errors as client_errors
from duologue.runtime import errors as runtime_errors

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

_BAD_INPUT_TYPES = (
    client_errors.ScriptError,
    client_errors.VoiceError,
    client_errors.RequestError,
    client_errors.PromptTooLongError,
    runtime_errors.ConfigError,
    runtime_errors.ScriptError,
    runtime_errors.VoiceError,
    runtime_errors.RequestError,
    runtime_errors.PromptTooLongError,
)
_OWN_TYPES = (client_errors.DuologueError, runtime_errors.DuologueError)

# Packages that the extra `cpu` does not bring.
_EXTRAS = {"httpx": "http"}

_Verb = TypeVar("_Verb", bound=Callable[..., None])


def exit_status(error: Exception) -> int:
    """2 when the caller can mend it by another input, else 1."""
    return BAD_INPUT if isinstance(error, _BAD_INPUT_TYPES) else FAILED


def describe(error: Exception) -> str:
    """One line for a person.

    >>> describe(KeyError("x"))
    "internal error: KeyError: 'x' (duologue --debug shows where)"
    """
    if isinstance(error, _OWN_TYPES):
        text = str(error)
    elif isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get(error.name or "", "cpu")
        text = f"the package {error.name} is not installed: pip install 'duologue[{extra}]'"
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        text = f"internal error: {type(error).__name__}: {error} (duologue --debug shows where)"
    return " ".join(text.split())


def reports_errors(verb: _Verb) -> _Verb:
    """Let a verb end in a line on standard error and an exit status.

    Args:
        verb: a typer command whose first parameter is the context; `--debug` of the program
            lets its exceptions pass.
    """

    @functools.wraps(verb)
    def run(ctx: typer.Context, **options: Any) -> None:
        try:
            verb(ctx, **options)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if ctx.find_root().params.get("debug"):
                raise
            typer.echo(f"duologue: {describe(error)}", err=True)
            raise typer.Exit(exit_status(error)) from error

    return cast(_Verb, run)
