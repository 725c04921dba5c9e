# SPDX-License-Identifier: Apache-2.0
"""Runs a command under the guard, so that it cannot outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.runtime.supervisor import guard

# What the guard needs beyond the grace time to clean up.
GUARD_SLACK_S = 5.0


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a server may leave behind, for the guard to remove.

    Attributes:
        workspace: removed when this process died before it could do so itself.
        shm_dir: folder in which shared memory regions show.
        shm_prefix: begins the names of the server's regions.
    """

    workspace: Path
    shm_dir: Path
    shm_prefix: str


class GuardedProcess:
    """A running command with a guard over it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        log_path: Path,
        grace_s: float,
        leftovers: Leftovers,
    ) -> None:
        """Start the command.

        Args:
            command: what to run.
            environment: its whole environment.
            cwd: its working directory.
            log_path: takes its output and errors; written anew.
            grace_s: seconds between SIGTERM and SIGKILL.
            leftovers: what the guard removes at the end.
        """
        self._grace_s = grace_s
        guard_command = [
            *(sys.executable, "-I", "-S", guard.__file__),
            *(str(grace_s), str(leftovers.workspace), str(leftovers.shm_dir)),
            leftovers.shm_prefix,
            *command,
        ]
        with log_path.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we decide.
            self._guard = subprocess.Popen(
                guard_command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the guard, which ends when the command does."""
        return self._guard.pid

    def wait(self, timeout_s: float) -> int | None:
        """Exit status of the command, or None when it still runs after so many seconds."""
        try:
            return self._guard.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, *, force: bool = False, within_s: float | None = None) -> int:
        """End the command: SIGTERM, the grace time, SIGKILL to its group. Idempotent.

        Args:
            force: SIGKILL at once.
            within_s: instead of the grace time, if that is longer.

        Returns:
            Its exit status; 128 + n when signal n ended it.
        """
        if self._guard.poll() is None:
            grace_s = self._grace_s if within_s is None else min(self._grace_s, within_s)
            if not force:
                self._guard.send_signal(signal.SIGTERM)
            if force or self.wait(grace_s) is None:
                self._guard.send_signal(signal.SIGINT)
            if self.wait(GUARD_SLACK_S) is None:
                os.killpg(self._guard.pid, signal.SIGKILL)
        status = self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        return status
