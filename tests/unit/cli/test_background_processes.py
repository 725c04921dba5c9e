"""Processes of the command line that end while it looks at them."""

from __future__ import annotations

import io
import json
import os
import queue
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner

from duologue.cli import background, batch_devices, serve_ranks
from duologue.cli.main import app
from duologue.runtime.supervisor.state import ServerState, process_started, write_state


def test_a_server_that_ended_meanwhile_counts_as_stopped() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert background._end(ServerState(child.pid, 1, "0", "2026"), timeout_s=1.0)


@pytest.mark.parametrize("code", ["", "import signal; signal.signal(15, signal.SIG_IGN); "])
def test_a_server_is_ended_where_the_kernel_gives_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def forbid(_: int) -> NoReturn:
        raise PermissionError("pidfd_open")

    monkeypatch.setattr(os, "pidfd_open", forbid)
    line = [sys.executable, "-c", f"{code}print(flush=True); input()"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        state = ServerState(child.pid, process_started(child.pid) or 0, "0", "2026")
        other = ServerState(child.pid, state.pid_started + 1, "0", "2026")
        assert background._end(other, timeout_s=60.0), "the id is another process's by now"
        assert child.poll() is None
        assert background._end(state, timeout_s=0.2 if code else 60.0) is not bool(code)
        child.kill()


def test_a_start_that_is_interrupted_ends_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    started: list[subprocess.Popen[Any]] = []
    popen = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[Any]:
        started.append(popen(*args, **options))
        return started[-1]

    def interrupt(_: Path) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(background.subprocess, "Popen", start)
    monkeypatch.setattr(background, "_ready_line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        background.start_detached(["sleep", "600"])
    assert started[0].wait(60) < 0


def test_lines_of_ranks_are_taken_although_nobody_reads_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    last_lines: deque[str] = deque()
    with io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True) as closed:
        monkeypatch.setattr(serve_ranks.sys, "stderr", closed)
        serve_ranks._relay(io.StringIO("one\ntwo\n"), last_lines)
        monkeypatch.undo()
    assert list(last_lines) == ["one\n", "two\n"]


def test_whatever_libraries_print_between_results_the_end_of_a_device_is_told() -> None:
    printed = r"print('7'); sys.stdout.buffer.write(b'\xff\n'); print('{\"file\": \"a\"}')"
    inbox: queue.SimpleQueue[dict[str, Any] | int] = queue.SimpleQueue()
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; {printed}"],
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        batch_devices._listen(child, inbox)
    assert [inbox.get(timeout=60), inbox.get(timeout=60)] == [{"file": "a"}, 0]
    assert inbox.empty()


@pytest.fixture
def shared_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A state folder in which another machine tells of a server with an id that lives here."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    started = process_started(os.getpid()) or 0
    facts = {"grpc_url": "127.0.0.1:1"}
    state = ServerState(os.getpid(), started, "0", "2026", "ready", 0, facts, "other.lan")
    write_state(state, tmp_path / "duologue")
    return tmp_path / "duologue"


def test_a_server_of_another_machine_is_shown_as_such_and_never_stopped(shared_home: Path) -> None:
    run = CliRunner().invoke
    shown = run(app, ["status"])
    assert f"process {os.getpid()} on other.lan, as it last wrote" in shown.stdout
    assert shown.exit_code == 1, "none is ready here"
    (facts,) = json.loads(run(app, ["status", "--json"]).stdout)
    assert (facts["host"], facts["is_here"]) == ("other.lan", False)
    for words in (["stop"], ["stop", "--all"]):
        result = run(app, words)
        assert result.exit_code == 2
        assert "no server runs here; stop it on other.lan" in result.output
    result = run(app, ["stop", "--pid", str(os.getpid())])
    assert f"running: none; on other.lan: {os.getpid()}" in result.output
    assert len(list(shared_home.iterdir())) == 1
