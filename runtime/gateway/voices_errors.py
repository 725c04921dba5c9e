# SPDX-License-Identifier: Apache-2.0
"""Errors of the voice store, in the words of the door."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from duologue.client.errors import VoiceError
from duologue.runtime import errors
from duologue.runtime.gateway.faults import (
    StorageError,
    StorageFullError,
    UnknownVoiceError,
    VoiceExistsError,
)
from duologue.runtime.gateway.logs import log_event
from duologue.runtime.voice_store.types import (
    NameTakenError,
    NoSuchVoiceError,
    StoreFullError,
    StoreUnavailableError,
)

_SHOWN = 60
_MAX_TOLD = 20


def unknown_voice(name: str, allowed: Sequence[str] = ()) -> UnknownVoiceError:
    """The error, not raised, that says so.

    Args:
        name: that nobody goes by.
        allowed: some names, the first of which are told.
    """
    told = f"allowed: {', '.join(allowed[:_MAX_TOLD])}; " if allowed else ""
    return UnknownVoiceError(
        f"the voice {name[:_SHOWN]!r} is unknown; {told}GET /v1/audio/voices lists all voices"
    )


@contextmanager
def translated(name: str = "") -> Iterator[None]:
    """Raise errors of the runtime as those that `fault_of` knows.

    Args:
        name: of the voice that is looked for.
    """
    try:
        yield
    except NoSuchVoiceError as error:
        raise unknown_voice(name) from error
    except NameTakenError as error:
        raise VoiceExistsError(str(error)) from error
    except errors.VoiceError as error:
        raise VoiceError(str(error)) from error
    except StoreFullError as error:
        log_event(logging.ERROR, "no room for a voice", why=str(error))
        raise StorageFullError(str(error)) from error
    except StoreUnavailableError as error:
        log_event(logging.ERROR, "the voice store cannot be used", why=str(error))
        raise StorageError(str(error)) from error
