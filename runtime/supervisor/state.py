# SPDX-License-Identifier: Apache-2.0
"""What runs on this machine: one small file per running server, for those who ask later.

A file is removed by its server. One whose server died without doing so is recognised by the
process id together with the start time of that process, and removed by whoever reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from duologue.runtime.supervisor.stubs import PROC_DIR

_PREFIX, _SUFFIX = "serve-", ".json"


@dataclass(frozen=True, slots=True)
class ServerState:
    """One running `duologue serve`.

    Attributes:
        pid: of its process.
        pid_started: when the kernel says that this process began, in ticks since the machine
            was started; another process with the same id began at another time.
        version: of duologue.
        started_at: UTC, ISO 8601.
        phase: "starting", "ready", "restarting" or "draining".
        restarts: so far.
        facts: what `serve` tells when it is ready: engine, slots, addresses.
    """

    pid: int
    pid_started: int
    version: str
    started_at: str
    phase: str = "starting"
    restarts: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        """Its process still runs."""
        return process_started(self.pid) == self.pid_started


def state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Where the files are: under $XDG_RUNTIME_DIR, else under the home's `.local/state`."""
    values = os.environ if environment is None else environment
    runtime = values.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "duologue"
    state = values.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "duologue"


def write_state(state: ServerState, directory: Path) -> None:
    """Write a server's file, whole or not at all.

    Raises:
        OSError: the folder cannot be written to.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = _path(state.pid, directory)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(state)), encoding="utf-8")
    draft.replace(path)


def remove_state(pid: int, directory: Path) -> None:
    """Remove a server's file, if there is one."""
    _path(pid, directory).unlink(missing_ok=True)


def read_states(directory: Path) -> list[ServerState]:
    """All servers that run, oldest first; files of those that do not are removed."""
    states = []
    for path in directory.glob(f"{_PREFIX}*{_SUFFIX}"):
        state = _read(path)
        if state is not None and state.is_alive:
            states.append(state)
        else:
            path.unlink(missing_ok=True)
    return sorted(states, key=lambda state: state.started_at)


def process_started(pid: int) -> int | None:
    """Start time of a process in ticks since the machine was started; None when it is gone."""
    try:
        stat = (PROC_DIR / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name before it is in brackets and may hold anything.
    values = stat.rpartition(")")[2].split()
    return None if values[0] == "Z" else int(values[19])


def _path(pid: int, directory: Path) -> Path:
    return directory / f"{_PREFIX}{pid}{_SUFFIX}"


def _read(path: Path) -> ServerState | None:
    """A file as a state, or None when it is none (any more)."""
    known = {each.name for each in fields(ServerState)}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return ServerState(**{name: value for name, value in values.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
