# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal

import pytest
from fake_house import FakeServer

from duologue.runtime.errors import ConfigError, EngineError
from duologue.runtime.supervisor.failure import Failure
from duologue.runtime.supervisor.state import read_states

ENDED = Failure("server_ended", "tritonserver ended with status 139")


def interrupt():
    raise KeyboardInterrupt


def interrupt_once(stop):
    """A stop in whose middle Ctrl-C comes."""

    def stop_or_not(*, force=False):
        if not force:
            raise KeyboardInterrupt
        stop(force=True)

    return stop_or_not


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
    assert "onnx engine, int8, 4 slots, 3.0 MiB of KV cache; codec torch on cuda" in text
    assert "127.0.0.1:4711" in text
    assert "HTTP     http://127.0.0.1:9000" in text
    assert "http://127.0.0.1:9091/metrics" in text


def test_json_ready_line_is_the_only_line(house):
    house.server = FakeServer([interrupt])
    result = house.run("serve", "--json")
    assert json.loads(result.stdout) == {
        "ready": True,
        "engine": "onnx",
        "precision": "int8",
        "slots": 4,
        "kv_bytes": 3 * 2**20,
        "codec_engine": "torch",
        "codec_device": "cuda",
        "grpc_url": "127.0.0.1:4711",
        "http_url": "http://127.0.0.1:9000",
        "triton_http_url": None,
        "metrics_url": "http://127.0.0.1:9091/metrics",
    }


def test_options_reach_the_server(house, tmp_path):
    house.server = FakeServer([interrupt])
    log = tmp_path / "log"
    ports = ("--grpc-port", 0, "--metrics-port", 0, "--triton-http-port", 8000)
    house.run("serve", "--engine", "torch", "--max-slots", 2, "--log", log, "--grace", 2.5, *ports)
    assert house.server.bundle_dir == house.bundle_dir
    assert house.server.options == {
        "engine": "torch",
        "max_slots": 2,
        "codec_engine": "auto",
        "codec_device": "auto",
        "grpc_port": 0,
        "http_port": 8000,
        "metrics_port": 0,
        "exit_timeout_s": 3,
        "log_path": log,
    }


@pytest.mark.parametrize(
    ("options", "file", "expected"),
    [
        ((), "", ("auto", "auto")),
        ((), "codec: {device: cpu}", ("auto", "cpu")),
        (("--codec-device", "cuda:1"), "codec: {device: cpu, engine: torch}", ("torch", "cuda:1")),
        (("--codec-engine", "onnx"), "", ("onnx", "auto")),
    ],
    ids=["neither", "file", "both", "option"],
)
def test_the_place_of_the_codec_comes_from_options_over_files(
    house, tmp_path, options, file, expected
):
    house.server = FakeServer([interrupt])
    config = tmp_path / "settings.yaml"
    config.write_text(file or "{}")
    house.run("serve", "--config", config, *options)
    told = house.server.options
    assert (told["codec_engine"], told["codec_device"]) == expected


def test_without_http_the_options_alone_place_the_codec(house):
    house.server = FakeServer([interrupt])
    house.run("serve", "--no-http", "--codec-device", "cpu")
    assert house.server.options["codec_device"] == "cpu"
    assert "codec_engine" not in house.server.options


def test_a_device_that_is_none_is_refused_before_anything_starts(house):
    house.server = FakeServer([interrupt])
    result = house.run("serve", "--codec-device", "gpu")
    assert result.exit_code == 2
    assert "codec.device" in result.stderr
    assert not house.server.was_running


def test_triton_http_is_closed_unless_asked_for(house):
    house.server = FakeServer([interrupt])
    house.run("serve")
    assert house.server.options["http_port"] is None
    assert house.server.options["grpc_port"] == 8001


def test_server_that_ends_by_itself_is_started_again(house):
    house.server = FakeServer([None, ENDED, None, interrupt])
    result = house.run("serve")
    assert result.exit_code == 0, result.output
    assert house.server.starts == 2
    assert "ended with status 139; starting again now" in result.stderr
    assert house.gateway.told == [
        ("back",),
        ("away", ENDED.text),
        ("restart", "server_ended"),
        ("back",),
    ]


def test_server_that_fails_too_often_is_a_failure_with_the_last_reason(house):
    house.server = FakeServer([ENDED, None, ENDED])
    result = house.run("serve", "--max-restarts", 1)
    assert result.exit_code == 1
    assert "failed 2 times in 10 min and is not started again" in result.stderr
    assert "status 139" in result.stderr
    assert not house.server.is_running
    assert not house.gateway.is_running


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError("grpc_port is 8001: in use"), 2), (EngineError("no"), 1)]
)
def test_server_that_does_not_start_says_why(house, error, status):
    house.server = FakeServer(start_error=error)
    result = house.run("serve")
    assert result.exit_code == status
    assert str(error) in result.stderr
    assert result.stdout == ""


def test_http_stops_before_triton_and_takes_its_options(house, tmp_path):
    house.server = FakeServer([None, interrupt])
    config = tmp_path / "api.yaml"
    config.write_text("api: {port: 1, timeout: 7, workers: 2}")
    result = house.run("serve", "--config", config, "--http-port", 7929, "--metrics-port", 0)
    assert result.exit_code == 0, result.output
    assert house.gateway.was_running
    assert not house.gateway.is_running
    api = house.gateway.settings.api
    assert (api.port, api.timeout, api.monitoring.metrics_port) == (7929, 7, 0)
    assert house.server.options["metrics_port"] == 0
    assert "api.workers has no effect" in result.stderr


def test_without_http_triton_keeps_its_metrics(house):
    house.server = FakeServer([interrupt])
    text = house.run("serve", "--no-http", "--metrics-port", 9095).stdout
    assert not house.gateway.was_running
    assert house.server.options["metrics_port"] == 9095
    assert "HTTP " not in text


def test_http_that_ends_by_itself_is_started_again(house):
    house.server = FakeServer([lambda: setattr(house.gateway, "exit_status", -9), interrupt])
    result = house.run("serve")
    assert result.exit_code == 0
    assert "gateway ended with status -9" in result.stderr
    assert house.gateway.starts == 2
    assert house.server.starts == 1
    assert ("restart", "gateway_ended") in house.gateway.told


def test_running_server_is_found_in_the_state_folder_until_it_ends(house, tmp_path):
    folder = tmp_path / "run" / "duologue"
    seen = []

    def look():
        seen.extend(read_states(folder))
        raise KeyboardInterrupt

    house.server = FakeServer([look])
    assert house.run("serve").exit_code == 0
    assert [(state.pid, state.phase) for state in seen] == [(os.getpid(), "ready")]
    assert seen[0].facts["grpc_url"] == "127.0.0.1:4711"
    assert list(folder.iterdir()) == []


def test_second_signal_does_not_wait_for_streams(house, monkeypatch):
    house.server = FakeServer([interrupt])
    monkeypatch.setattr(house.gateway, "stop", interrupt_once(house.gateway.stop))
    result = house.run("serve")
    assert result.exit_code == 130
    assert not house.server.is_running
    assert not house.gateway.is_running


def test_public_address_needs_keys_or_a_word(house, tmp_path):
    house.server = FakeServer([interrupt])
    result = house.run("serve", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "no key is asked for" in result.stderr
    assert not house.server.was_running

    keys = tmp_path / "keys"
    keys.write_text("alice " + "0" * 64)
    for options in (["--keys-file", keys], ["--public-without-keys"]):
        house.server = FakeServer([interrupt])
        assert house.run("serve", "--host", "0.0.0.0", *options).exit_code == 0
        assert "host" not in house.server.options


def test_missing_packages_leave_grpc_unless_http_was_asked_for(house, monkeypatch):
    monkeypatch.setattr("duologue.cli.http_door._NEEDED", ("no_such_package",))
    house.server = FakeServer([interrupt])
    result = house.run("serve")
    assert result.exit_code == 0
    assert "gRPC alone is served" in result.stderr
    assert not house.gateway.was_running
    asked = house.run("serve", "--http-port", 9000)
    assert asked.exit_code == 1
    assert "pip install 'duologue[gateway]'" in asked.stderr


def test_help_names_the_http_door(house):
    result = house.run("serve", "--help", env={"COLUMNS": "200"})
    assert "OpenAI's speech API" in result.stdout
