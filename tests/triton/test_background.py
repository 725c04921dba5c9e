"""A server in the background: started, seen, tried and stopped by commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duologue.runtime.supervisor.state import process_started

PORTS = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")


@pytest.fixture
def duologue(tmp_path: Path, needs_triton: None):
    """Runs commands whose servers are seen by each other alone."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "duologue.cli", *arguments],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    yield run
    run("stop", "--all", "--timeout", "20")


def test_a_server_is_started_seen_tried_and_stopped(duologue: Any, tmp_path: Path) -> None:
    assert duologue("status").returncode == 1
    start = duologue("serve", "--bundle", "noise", *PORTS, "--detach", "--json")
    assert start.returncode == 0, start.stderr
    facts = json.loads(start.stdout)
    assert Path(facts["log"]).is_file()

    (seen,) = json.loads(duologue("status", "--json").stdout)
    assert (seen["pid"], seen["phase"], seen["log"]) == (facts["pid"], "ready", facts["log"])
    assert seen["grpc_url"] == facts["grpc_url"]
    text = duologue("status").stdout
    assert f"process {facts['pid']}" in text
    assert facts["http_url"] in text

    tried = duologue("doctor", "--selftest")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert tried.stdout.count("ok") >= 3

    assert f"process {facts['pid']} has stopped" in duologue("stop").stdout
    assert process_started(facts["pid"]) is None
    assert duologue("status").returncode == 1
    late = duologue("stop")
    assert late.returncode == 2
    assert "no server runs" in late.stderr


def test_a_server_that_cannot_start_says_why(duologue: Any) -> None:
    start = duologue("serve", "--bundle", "nowhere", *PORTS, "--detach")
    assert start.returncode == 1
    assert "ended with status" in start.stderr
    assert "nowhere" in start.stderr


def test_of_two_servers_one_has_to_be_named(duologue: Any) -> None:
    pids = []
    for _ in range(2):
        start = duologue("serve", "--bundle", "noise", *PORTS, "--no-http", "--detach", "--json")
        assert start.returncode == 0, start.stderr
        pids.append(json.loads(start.stdout)["pid"])
    unclear = duologue("stop")
    assert unclear.returncode == 2
    assert "--pid or --all" in unclear.stderr
    assert duologue("stop", "--pid", str(pids[0])).returncode == 0
    assert [server["pid"] for server in json.loads(duologue("status", "--json").stdout)] == pids[1:]
    assert duologue("stop", "--pid", "1").returncode == 2
