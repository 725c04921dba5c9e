# SPDX-License-Identifier: Apache-2.0
"""Keeps the promise that every request ends: watches the server and the gateway, starts them again.

Triton neither restarts a model's process that died nor tells anybody: its readiness stays true and
streams hang. Here the kernel tells, so that streams end at once and the server is back soon.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NoReturn

from duologue.runtime.errors import DuologueError
from duologue.runtime.supervisor.charges import FrontDoor, SpeechServer
from duologue.runtime.supervisor.death_watch import DeathWatch
from duologue.runtime.supervisor.failure import (
    GATEWAY_ENDED,
    NO_ANSWER,
    START_FAILED,
    Failure,
    RestartBudget,
    RestartPolicy,
)
from duologue.runtime.supervisor.pulse import Pulse

PROBE_INTERVAL_S = 10.0
PROBE_TIMEOUT_S = 30.0

# A disk that is full or a machine without memory passes, as other reasons do.
_NO_START = (DuologueError, OSError)


class Supervisor:
    """Watches over one server and the gateway in front of it."""

    def __init__(
        self,
        server: SpeechServer,
        door: FrontDoor | None,
        *,
        policy: RestartPolicy | None = None,
        report: Callable[[str], None] = lambda _: None,
        note_phase: Callable[[str], None] = lambda _: None,
        probe_interval_s: float = PROBE_INTERVAL_S,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
        tend: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over a server and a gateway that run.

        Args:
            server: watched, and started again when it fails.
            door: likewise; None where there is no gateway.
            policy: how often and how soon.
            report: takes a line for the person who reads the log.
            note_phase: takes "ready" and "restarting" when that changes.
            probe_interval_s: between two looks at a server that seems well.
            probe_timeout_s: how long an idle server may take for a tiny request.
            tend: called with every look.
        """
        self._server = server
        self._door = door
        policy = policy or RestartPolicy()
        self._server_budget = RestartBudget("server", policy)
        self._door_budget = RestartBudget("HTTP gateway", policy)
        self._report = report
        self._note_phase = note_phase
        self._probe_interval_s = probe_interval_s
        self._probe_timeout_s = probe_timeout_s
        self._tend = tend

    def run(self) -> NoReturn:
        """Watch and mend for as long as that makes sense.

        Raises:
            EngineError: there were too many failures; names the last one.
            KeyboardInterrupt: somebody wants it to end; nothing was stopped yet.
        """
        while True:
            self._note_phase("ready")
            failure = self._wait_for_failure()
            self._note_phase("restarting")
            if failure.kind == GATEWAY_ENDED:
                self._mend_door(failure)
            else:
                self._mend_server(failure)

    def _wait_for_failure(self) -> Failure:
        pulse = Pulse(lambda: self._server.speak(self._probe_timeout_s), self._server.audio_seconds)
        process_ids = list(self._server.process_ids())
        if self._door is not None and self._door.pid is not None:
            process_ids.append(self._door.pid)
        with DeathWatch(process_ids) as watch:
            while True:
                has_ended = watch.wait(self._probe_interval_s)
                self._tend()
                failure = self._failure() or _silence(pulse)
                if failure is not None:
                    return failure
                if not has_ended:
                    pulse.look(watch.ring)

    def _failure(self) -> Failure | None:
        status = None if self._door is None else self._door.exit_status
        if status is not None:
            return Failure(GATEWAY_ENDED, f"the HTTP gateway ended with status {status}")
        return self._server.failure()

    def _mend_server(self, failure: Failure) -> None:
        """Start the server again; a start that fails is one more failure."""
        while True:
            if self._door is not None:
                self._door.model_away(failure.text)
            # Before any waiting: connections that hang end with the server.
            self._server.stop(force=True)
            self._spend(self._server_budget, failure)
            try:
                self._server.start()
                break
            except _NO_START as error:
                failure = Failure(START_FAILED, f"it did not start again: {error}")
        if self._door is not None:
            self._door.model_back()
        self._report("the server speaks again")

    def _mend_door(self, failure: Failure) -> None:
        assert self._door is not None
        while True:
            self._door.stop(force=True)
            self._spend(self._door_budget, failure)
            try:
                self._door.start()
                break
            except _NO_START as error:
                failure = Failure(GATEWAY_ENDED, f"the gateway did not start again: {error}")
        self._report("the gateway answers again")

    def _spend(self, budget: RestartBudget, failure: Failure) -> None:
        """Count a failure, and wait for as long as the policy says."""
        delay_s = budget.spend(failure)
        when = f"in {delay_s:g} s" if delay_s else "now"
        self._report(f"{failure.text}; starting again {when}")
        if self._door is not None:
            self._door.count_restart(failure.kind)
        time.sleep(delay_s)


def _silence(pulse: Pulse) -> Failure | None:
    return None if pulse.trouble is None else Failure(NO_ANSWER, pulse.trouble)
