# SPDX-License-Identifier: Apache-2.0
"""What is watched over: a server that speaks, and the gateway in front of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from duologue.runtime.supervisor.failure import Failure


class SpeechServer(Protocol):
    """A server that can be started again, such as `EmbeddedServer`."""

    def start(self) -> None:
        """Start it, and wait until it speaks."""
        ...

    def stop(self, *, force: bool = False, within_s: float | None = None) -> None:
        """End it and remove what it left."""
        ...

    def process_ids(self) -> Iterable[int]:
        """Processes without which it does not work."""
        ...

    def failure(self) -> Failure | None:
        """What is wrong with it, as far as that can be told without asking it."""
        ...

    def speak(self, timeout_s: float) -> object:
        """Run a tiny real request; raises a `DuologueError` when it fails."""
        ...

    def audio_seconds(self) -> float | None:
        """Seconds of audio that it has sent, or None when that is not known."""
        ...


class FrontDoor(Protocol):
    """A gateway that can be started again, such as `gateway.process.GatewayProcess`."""

    @property
    def pid(self) -> int | None:
        """Of its process, or None when it was stopped."""
        ...

    @property
    def exit_status(self) -> int | None:
        """Of a process that ended by itself, else None."""
        ...

    def start(self) -> None:
        """Start it, on the same ports as before."""
        ...

    def stop(self, *, force: bool = False) -> None:
        """Let running streams end, then stop it."""
        ...

    def model_away(self, reason: str) -> None:
        """End its streams and refuse new ones."""
        ...

    def model_back(self) -> None:
        """Let requests in again; they are when this returns."""
        ...

    def count_restart(self, reason: str) -> None:
        """Show a restart in the metrics."""
        ...
