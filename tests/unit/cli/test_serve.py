# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal

import pytest
from fake_house import FakeServer

from duologue.runtime.errors import ConfigError, EngineError


def interrupt():
    raise KeyboardInterrupt


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("end", [interrupt, terminate])
def test_signal_stops_cleanly(house, end):
    before = signal.getsignal(signal.SIGTERM)
    house.server = FakeServer([None, None, end])
    result = house.run("serve")
    assert result.exit_code == 0, result.output
    assert house.server.was_running
    assert not house.server.is_running
    assert signal.getsignal(signal.SIGTERM) == before


def test_ready_lines_name_the_doors_and_the_engine(house):
    house.server = FakeServer([interrupt])
    text = house.run("serve").stdout
    assert "onnx engine, int8, 4 slots, 3.0 MiB of KV cache" in text
    assert "127.0.0.1:4711" in text
    assert "http://127.0.0.1:9090/metrics" in text


def test_json_ready_line_is_the_only_line(house):
    house.server = FakeServer([interrupt])
    result = house.run("serve", "--json")
    assert json.loads(result.stdout) == {
        "ready": True,
        "engine": "onnx",
        "precision": "int8",
        "slots": 4,
        "kv_bytes": 3 * 2**20,
        "grpc_url": "127.0.0.1:4711",
        "http_url": None,
        "metrics_url": "http://127.0.0.1:9090/metrics",
    }


def test_options_reach_the_server(house, tmp_path):
    house.server = FakeServer([interrupt])
    log = tmp_path / "log"
    ports = ("--grpc-port", 0, "--metrics-port", 0, "--triton-http-port", 8000)
    house.run("serve", "--engine", "torch", "--max-slots", 2, "--log", log, *ports)
    assert house.server.bundle_dir == house.bundle_dir
    assert house.server.options == {
        "engine": "torch",
        "max_slots": 2,
        "grpc_port": 0,
        "http_port": 8000,
        "metrics_port": 0,
        "log_path": log,
    }


def test_triton_http_is_closed_unless_asked_for(house):
    house.server = FakeServer([interrupt])
    house.run("serve")
    assert house.server.options["http_port"] is None
    assert house.server.options["grpc_port"] == 8001


def test_server_that_ends_by_itself_is_a_failure_with_its_status(house):
    house.server = FakeServer([None, 139])
    result = house.run("serve")
    assert result.exit_code == 1
    assert "ended by itself with status 139" in result.stderr
    assert not house.server.is_running


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError("grpc_port is 8001: in use"), 2), (EngineError("no"), 1)]
)
def test_server_that_does_not_start_says_why(house, error, status):
    house.server = FakeServer(start_error=error)
    result = house.run("serve")
    assert result.exit_code == status
    assert str(error) in result.stderr
    assert result.stdout == ""


def test_public_address_is_refused_to_triton_and_said_so(house):
    house.server = FakeServer([interrupt])
    result = house.run("serve", "--host", "0.0.0.0")
    assert "stays on 127.0.0.1" in result.stderr
    assert "host" not in house.server.options


def test_help_says_that_http_is_not_served_yet(house):
    result = house.run("serve", "--help", env={"COLUMNS": "200"})
    assert "NOT served yet" in result.stdout
