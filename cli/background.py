# SPDX-License-Identifier: Apache-2.0
"""Servers in the background: `duologue serve --detach`, `duologue status`, `duologue stop`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli.errors import FAILED, reports_errors
from duologue.cli.options import JsonOption
from duologue.runtime.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from duologue.runtime.supervisor.state import ServerState

READY_TIMEOUT_S = 600.0
"""A large model is read from a slow disk."""
_LOOK_EVERY_S = 0.1
_LAST_LINES = 12

DetachOption = Annotated[
    bool,
    typer.Option(
        "--detach", help="Go on in the background once it is ready; see `status` and `stop`."
    ),
]
PidOption = Annotated[int | None, typer.Option("--pid", help="Of the server that is meant.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every server of yours.")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=1, help="Seconds that it gets to finish its streams.")
]


def start_detached(command: list[str], *, timeout_s: float = READY_TIMEOUT_S) -> dict[str, Any]:
    """Start a server in a session of its own, and wait until it is ready.

    Args:
        command: the `serve` command line with `--json`.
        timeout_s: limit of waiting; then the server is ended again.

    Returns:
        What it says of itself when it is ready, with "log", the path of what it prints.

    Raises:
        EngineError: it ended, or was not ready in time; says how its log ends.
    """
    from duologue.runtime.supervisor.detached_log import log_path, remove_old_logs
    from duologue.runtime.supervisor.state import host_name, read_states, state_dir

    directory = state_dir()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    remove_old_logs(directory, {state.pid for state in read_states(directory) if state.is_here})
    draft = directory / f"serve-of-{host_name()}-{os.getpid()}.log"
    draft.unlink(missing_ok=True)
    # For appending: it is shortened while it is written.
    with draft.open("ab") as log:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    path = draft.rename(log_path(server.pid, directory))
    give_up_at_s = time.monotonic() + timeout_s
    try:
        while server.poll() is None and time.monotonic() < give_up_at_s:
            facts = _ready_line(path)
            if facts is not None:
                return {**facts, "pid": server.pid, "log": str(path)}
            time.sleep(_LOOK_EVERY_S)
    except BaseException:
        # Ctrl-C reaches us alone: who no longer waits for it does not want it.
        server.terminate()
        raise
    if server.poll() is None:
        server.terminate()
        server.wait()
        raise EngineError(f"the server was not ready after {timeout_s:.0f} s; {_end_of(path)}")
    raise EngineError(f"the server ended with status {server.returncode}; {_end_of(path)}")


def _ready_line(path: Path) -> dict[str, Any] | None:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith('{"ready": true'):
            try:
                return dict(json.loads(line))
            except ValueError:
                # Half of it is written.
                return None
    return None


def _end_of(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    return f"its log {path} ends: {' / '.join(lines) or '(nothing)'}"


@reports_errors
def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show your servers; the exit status is 0 when one of this machine is ready.

    Where machines share a home folder, those of others are shown as they last wrote of themselves.
    """
    from duologue.runtime.supervisor.state import read_states, state_dir

    states = read_states(state_dir())
    if as_json:
        typer.echo(json.dumps([_facts(state) for state in states]))
    elif not states:
        typer.echo("no server runs; `duologue serve --detach` starts one")
    for state in () if as_json else states:
        _show(state)
    if not any(state.phase == "ready" and state.is_here for state in states):
        raise typer.Exit(FAILED)


def _facts(state: ServerState) -> dict[str, Any]:
    log = _log_of(state)
    return {
        **state.facts,
        "pid": state.pid,
        "host": state.host,
        "is_here": state.is_here,
        "version": state.version,
        "started_at": state.started_at,
        "phase": state.phase,
        "restarts": state.restarts,
        "log": None if log is None else str(log),
    }


def _log_of(state: ServerState) -> Path | None:
    from duologue.runtime.supervisor.detached_log import log_path
    from duologue.runtime.supervisor.state import state_dir

    path = log_path(state.pid, state_dir(), state.host)
    return path if path.is_file() else None


def _show(state: ServerState) -> None:
    typer.echo(
        f"{state.phase}: process {state.pid}{_where(state)}, duologue {state.version}, since "
        f"{state.started_at}, {state.restarts} restarts"
    )
    for name in ("http_url", "grpc_url", "metrics_url"):
        if state.facts.get(name):
            typer.echo(f"  {name.removesuffix('_url'):<8} {state.facts[name]}")
    log = _log_of(state)
    if log is not None:
        typer.echo(f"  {'log':<8} {log}")


def _where(state: ServerState) -> str:
    return "" if state.is_here else f" on {state.host}, as it last wrote"


@reports_errors
def stop(
    ctx: typer.Context,
    pid: PidOption = None,
    every: AllOption = False,
    timeout: TimeoutOption = 60.0,
) -> None:
    """Let a server finish its streams, and end it."""
    from duologue.runtime.supervisor.state import read_states, state_dir

    states = read_states(state_dir())
    for state in _chosen(states, pid, every=every):
        if not _end(state, timeout):
            raise EngineError(
                f"process {state.pid} has not ended within {timeout:.0f} s, although it was told "
                f"twice; `kill -9 {state.pid}` ends it without grace"
            )
        typer.echo(f"process {state.pid} has stopped")


def _chosen(states: list[ServerState], pid: int | None, *, every: bool) -> list[ServerState]:
    elsewhere = [state for state in states if not state.is_here]
    states = [state for state in states if state.is_here]
    running = ", ".join(str(state.pid) for state in states) or "none"
    if pid is not None:
        states = [state for state in states if state.pid == pid]
        if not states:
            others = "".join(f"; on {state.host}: {state.pid}" for state in elsewhere)
            raise ConfigError(f"no server has the process id {pid}; running: {running}{others}")
    elif len(states) > 1 and not every:
        raise ConfigError(f"several servers run ({running}); say --pid or --all")
    elif not states:
        hosts = sorted({state.host for state in elsewhere})
        raise ConfigError(f"no server runs here{''.join(f'; stop it on {h}' for h in hosts)}")
    return states


def _end(state: ServerState, timeout_s: float) -> bool:
    """Ask politely, then firmly; True when the process is gone."""
    # The descriptor names this very process, even if its id is given to another one later.
    try:
        descriptor = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return True
    except OSError:  # the kernel has no such call, or it is forbidden
        return _end_by_number(state, timeout_s)
    try:
        if not state.is_alive:
            return True
        gone = select.poll()
        gone.register(descriptor, select.POLLIN)
        for limit_s in (timeout_s, timeout_s / 4):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if gone.poll(limit_s * 1000):
                return True
        return False
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)


def _end_by_number(state: ServerState, timeout_s: float) -> bool:
    """The same by the process id, compared with the time at which the process began."""
    for limit_s in (timeout_s, timeout_s / 4):
        with contextlib.suppress(ProcessLookupError):
            if state.is_alive:
                os.kill(state.pid, signal.SIGTERM)
        give_up_at_s = time.monotonic() + limit_s
        while state.is_alive and time.monotonic() < give_up_at_s:
            time.sleep(_LOOK_EVERY_S)
        if not state.is_alive:
            return True
    return False
