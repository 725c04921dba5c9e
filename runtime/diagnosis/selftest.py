# SPDX-License-Identifier: Apache-2.0
"""A running server, tried as its callers use it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from duologue.client.errors import DuologueError
from duologue.runtime.diagnosis.finding import Finding, fault, ok

SCRIPT = "[S1]One moment, please.[S2]Yes."
SEED = 11
NUM_CALLERS = 2


class Chunk(Protocol):
    """A piece of audio."""

    @property
    def samples(self) -> np.ndarray[Any, Any]:
        """Its audio."""
        ...


class Stream(Protocol):
    """A stream of a client."""

    def __iter__(self) -> Iterator[Chunk]: ...

    def close(self) -> None:
        """End it."""
        ...


class Client(Protocol):
    """A connection to a server, such as `duologue.client.DialogueClient`."""

    def stream(self, script: str, *, seed: int) -> Stream:
        """Speak a script."""
        ...


def check_server(client: Client) -> list[Finding]:
    """Speak, speak twice at the same time, and cancel.

    Args:
        client: of the server; its streams must be usable from several threads.
    """
    try:
        first_s, alone = _speak(client)
    except DuologueError as error:
        return [fault("server", str(error), "is it running? `duologue status`, then its log")]
    if not alone.size:
        return [fault("server", "it answered without any audio", "see the server's log")]
    spoken = ok("server", f"speaks: first audio after {first_s * 1000:.0f} ms")
    return [spoken, _check_callers(client, alone), _check_cancel(client)]


def _check_callers(client: Client, alone: np.ndarray[Any, Any]) -> Finding:
    heard: list[np.ndarray[Any, Any] | DuologueError] = []

    def call() -> None:
        try:
            heard.append(_speak(client)[1])
        except DuologueError as error:
            heard.append(error)

    callers = [threading.Thread(target=call) for _ in range(NUM_CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    topic = f"{NUM_CALLERS} callers"
    errors = [answer for answer in heard if isinstance(answer, DuologueError)]
    if errors or len(heard) < NUM_CALLERS:
        reason = str(errors[0]) if errors else "a caller broke off"
        return fault(topic, reason, "see the server's log")
    spoken = [answer for answer in heard if not isinstance(answer, DuologueError)]
    if any(not np.array_equal(alone, answer) for answer in spoken):
        return fault(topic, "the same seed gave other audio", "report it: this must not happen")
    return ok(topic, "the same seed gives the same audio, alone and side by side")


def _check_cancel(client: Client) -> Finding:
    started_at_s = time.monotonic()
    try:
        stream = client.stream(SCRIPT, seed=SEED)
        next(iter(stream))
        stream.close()
        _speak(client)
    except (DuologueError, StopIteration) as error:
        return fault("cancel", f"a stream was left early, then: {error}", "see the server's log")
    elapsed_s = time.monotonic() - started_at_s
    return ok("cancel", f"a stream left early frees its place ({elapsed_s:.2f} s with the next)")


def _speak(client: Client) -> tuple[float, np.ndarray[Any, Any]]:
    """Seconds to the first audio, and all samples."""
    started_at_s, first_s = time.monotonic(), 0.0
    parts: list[np.ndarray[Any, Any]] = []
    for chunk in client.stream(SCRIPT, seed=SEED):
        if not parts and len(chunk.samples):
            first_s = time.monotonic() - started_at_s
        parts.append(np.asarray(chunk.samples))
    return first_s, np.concatenate(parts) if parts else np.zeros(0, np.float32)
