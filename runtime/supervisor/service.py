# SPDX-License-Identifier: Apache-2.0
"""One run of `duologue serve`: start, watch, drain, leave nothing behind."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from duologue.runtime.supervisor.charges import FrontDoor, SpeechServer
from duologue.runtime.supervisor.failure import RestartPolicy
from duologue.runtime.supervisor.state import (
    ServerState,
    process_started,
    remove_state,
    write_state,
)
from duologue.runtime.supervisor.supervisor import Supervisor

# What Triton gets to leave by itself when streams have taken all of the grace time.
MIN_STOP_S = 1.0


class ServiceRecord:
    """This run's file among the states of all servers; does without where it cannot be written."""

    def __init__(self, directory: Path, report: Callable[[str], None]) -> None:
        """Write the file."""
        self._directory = directory
        self._report = report
        self._is_kept = True
        self._state = ServerState(
            pid=os.getpid(),
            pid_started=process_started(os.getpid()) or 0,
            version=version("duologue"),
            started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        self._write()

    def note_phase(self, phase: str) -> None:
        """Write that another phase has begun; going back to "ready" counts a restart."""
        was, self._state = self._state, dataclasses.replace(self._state, phase=phase)
        if was.phase == "restarting" and phase == "ready":
            self._state = dataclasses.replace(self._state, restarts=was.restarts + 1)
        self._write()

    def note_facts(self, facts: dict[str, Any]) -> None:
        """Write what is served, and where."""
        self._state = dataclasses.replace(self._state, facts=facts)
        self._write()

    def remove(self) -> None:
        """Remove the file."""
        if self._is_kept:
            remove_state(self._state, self._directory)

    def _write(self) -> None:
        if not self._is_kept:
            return
        try:
            write_state(self._state, self._directory)
        except OSError as error:
            self._is_kept = False
            self._report(
                f"{self._directory} cannot be written to ({error.strerror}): "
                "`duologue status` will not see this server"
            )


class Service:
    """A server, the gateway in front of it, and the supervisor over both."""

    def __init__(
        self,
        server: SpeechServer,
        door: FrontDoor | None,
        record: ServiceRecord,
        *,
        grace_s: float = 10.0,
        policy: RestartPolicy | None = None,
        report: Callable[[str], None] = lambda _: None,
        tend: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over what is to run; nothing runs yet.

        Args:
            server: not started.
            door: likewise; None to do without.
            record: told of every phase, removed at the end.
            grace_s: how long running streams may take when the service is asked to stop.
            policy: how often what failed is started again.
            report: takes a line for the person who reads the log.
            tend: called every few seconds while it runs.
        """
        self._server = server
        self._door = door
        self._record = record
        self._grace_s = grace_s
        self._supervisor = Supervisor(
            server, door, policy=policy, report=report, note_phase=record.note_phase, tend=tend
        )

    def run(self, announce: Callable[[], dict[str, Any]]) -> None:
        """Serve until SIGTERM or SIGINT; another one of them does not wait for streams.

        Args:
            announce: called once all is ready; gives facts for the record.

        Raises:
            KeyboardInterrupt: there was a second signal.
            DuologueError: it could not start, or failed too often. All is stopped then.
        """
        with _signals_interrupt():
            try:
                self._start()
                self._record.note_facts(announce())
                self._supervisor.run()
            except KeyboardInterrupt:
                self._drain()
            finally:
                self._end()

    def _start(self) -> None:
        """The door opens first: it tells those who ask that the model is being loaded."""
        if self._door is not None:
            self._door.start()
        self._server.start()
        if self._door is not None:
            self._door.model_back()

    def _drain(self) -> None:
        self._record.note_phase("draining")
        deadline = time.monotonic() + self._grace_s
        if self._door is not None:
            self._door.stop()
        within_s = max(MIN_STOP_S, deadline - time.monotonic())
        # A server one of whose models has died would wait for it, and never end by itself.
        self._server.stop(force=self._server.failure() is not None, within_s=within_s)

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if self._door is not None:
            self._door.stop(force=True)
        self._server.stop(force=True)
        self._record.remove()


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM interrupt the program in the way that Ctrl-C does."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
