# SPDX-License-Identifier: Apache-2.0
"""What runs on this machine: one small file per running server, for those who ask later.

A file is removed by its server. One whose server died without doing so is recognised by the
process id together with the start time of that process, and removed by whoever reads it.

The folder may lie in a home that several machines share. So a file names its machine, and what
another machine wrote is read and otherwise left alone: its process ids say nothing here.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from duologue.runtime.supervisor.stubs import PROC_DIR

_SUFFIX = ".json"
_FILE = re.compile(r"serve-(?:(?P<host>.+)-)?(?P<pid>\d+)\.json")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


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
        host: name of the machine; "" in files of versions that did not write it.
    """

    pid: int
    pid_started: int
    version: str
    started_at: str
    phase: str = "starting"
    restarts: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    host: str = field(default_factory=lambda: host_name())

    @property
    def is_here(self) -> bool:
        """It is on this machine; of another's, nothing is known but its file."""
        return self.host in ("", host_name())

    @property
    def is_alive(self) -> bool:
        """Its process still runs on this machine."""
        return self.is_here and process_started(self.pid) == self.pid_started


def host_name() -> str:
    """The name of this machine, as it can stand in the name of a file.

    A container's is its id, so that containers with one home are told apart, too.
    """
    return _NOT_IN_NAMES.sub("_", socket.gethostname()) or "localhost"


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
    path = _path(state, directory)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(state)), encoding="utf-8")
    draft.replace(path)


def remove_state(state: ServerState, directory: Path) -> None:
    """Remove a server's file, if there is one."""
    _path(state, directory).unlink(missing_ok=True)


def read_states(directory: Path) -> list[ServerState]:
    """All servers that run here and all that other machines tell of, oldest first.

    Files of servers of this machine that do not run are removed.
    """
    states = []
    for path in directory.glob(f"serve-*{_SUFFIX}"):
        named = _FILE.fullmatch(path.name)
        state = _read(path)
        if state is not None and (state.is_alive or not state.is_here):
            states.append(state)
        elif named is None or named["host"] in (None, host_name()):
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


def _path(state: ServerState, directory: Path) -> Path:
    return directory / f"serve-{state.host}-{state.pid}{_SUFFIX}"


def _read(path: Path) -> ServerState | None:
    """A file as a state, or None when it is none (any more)."""
    known = {each.name for each in fields(ServerState)}
    try:
        values = {"host": "", **json.loads(path.read_text(encoding="utf-8"))}
        return ServerState(**{name: value for name, value in values.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
