# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import soundfile
from fake_house import THREE_CHUNKS, FakeSpeaker, chunk, write_bundle

from duologue.cli.player import Player
from duologue.client import ScriptError, ServerUnavailableError
from duologue.client.wav import wav_header
from duologue.runtime import errors as runtime_errors

SCRIPT = "[S1]Hello.[S2]Hi."
ALL_SAMPLES = [0] * 500 + [1] * 500 + [2] * 500


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.wav"


def samples_of(path):
    samples, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == 1_000
    return samples.tolist()


def test_text_is_spoken_by_a_server_of_our_own_that_ends_afterwards(house, out):
    result = house.run("say", "--text", SCRIPT, "-o", out, "--engine", "onnx")
    assert result.exit_code == 0, result.output
    assert samples_of(out) == ALL_SAMPLES
    assert house.urls == ["127.0.0.1:4711"]
    assert house.server.options == {"engine": "onnx"}
    assert house.server.bundle_dir == house.bundle_dir
    assert house.server.was_running
    assert not house.server.is_running
    assert house.client.is_closed
    assert result.stdout.startswith(f"{out}: 1.50 s of audio, first audio after ")
    assert "seed 7" in result.stdout


def test_named_server_is_used_and_none_is_started(house, out):
    house.reason = "must not be asked"
    result = house.run("say", "--text", SCRIPT, "-o", out, "--server", "far:8001")
    assert result.exit_code == 0, result.output
    assert house.urls == ["far:8001"]
    assert not house.server.was_running
    assert house.client.asked[0][1]["text_frontend"] == "none"


def test_without_triton_this_process_speaks_and_says_why(house, out):
    house.reason = "the package nvidia-pytriton is not installed: pip install 'duologue[cpu]'"
    result = house.run("say", "--text", SCRIPT, "-o", out, "--seed", 3, "--max-frames", 9)
    assert result.exit_code == 0, result.output
    assert samples_of(out) == ALL_SAMPLES
    assert "pip install 'duologue[cpu]'" in result.stderr
    assert not house.server.was_running
    (script, options), *_ = house.synthesizer.asked
    request = options["request"]
    assert (script, request.seed, request.max_frames) == (SCRIPT, 3, 9)
    assert house.synthesizer.is_closed


def test_options_reach_the_server(house, out):
    arguments = ("--seed", 5, "--greedy", "--normalize", "v0.7", "--max-frames", 20)
    house.run("say", "--text", SCRIPT, "-o", out, "--text-frontend", "zh_en", *arguments)
    (script, options), *_ = house.client.asked
    assert script == SCRIPT
    assert options["seed"] == 5
    assert options["greedy"] is True
    assert options["normalization"] == "v0.7"
    assert options["text_frontend"] == "zh_en"
    assert options["max_frames"] == 20


def test_options_reach_the_synthesizer(house, out):
    house.reason = "no"
    house.run("say", "--text", SCRIPT, "-o", out, "--greedy", "--normalize", "v1.0")
    request = house.synthesizer.asked[0][1]["request"]
    assert request.sampling.greedy
    assert request.normalization == "v1.0"


def test_script_comes_from_a_file_or_from_standard_input(house, out, tmp_path):
    path = tmp_path / "script.txt"
    path.write_text("\ufeff[S1]你好", encoding="utf-8")
    house.run("say", path, "-o", out)
    house.run("say", "-", "-o", out, input="[S1]再见".encode())
    assert [script for script, _ in house.client.asked] == ["[S1]你好", "[S1]再见"]


def test_json_summary_is_one_object_on_standard_output(house, out):
    result = house.run("say", "--text", SCRIPT, "-o", out, "--json")
    summary = json.loads(result.stdout)
    assert summary["file"] == str(out)
    assert summary["source"] == "embedded"
    assert summary["duration_s"] == 1.5
    assert summary["finish_reason"] == "stop"
    assert summary["turn_times"] == [{"speaker": 1, "start_s": 0.0, "end_s": 0.5}]
    assert 0 <= summary["ttfa_s"] <= summary["rtf"] * 1.5


def test_dash_puts_the_audio_alone_on_standard_output(house):
    result = house.run("say", "--text", SCRIPT, "-o", "-")
    assert result.stdout_bytes[:44] == wav_header(1_000, None)
    assert len(result.stdout_bytes) == 44 + 2 * 1500
    assert "1.50 s of audio" in result.stderr


def test_untrained_model_is_called_so(house, out):
    write_bundle(house.bundle_dir, trained=False)
    result = house.run("say", "--text", SCRIPT, "-o", out)
    assert "sounds like noise" in result.stderr


def test_audio_cut_at_the_cap_is_called_so(house, out):
    last = dataclasses.replace(chunk(0, is_last=True), finish_reason="length")
    house.client = FakeSpeaker([last])
    assert "cut at the cap" in house.run("say", "--text", SCRIPT, "-o", out).stdout


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ScriptError("line 1, column 4: speaker 9"), 2),
        (runtime_errors.PromptTooLongError("too long"), 2),
        (runtime_errors.ConfigError("bundle is 'x'"), 2),
        (ServerUnavailableError("no answer from far:8001"), 1),
        (runtime_errors.EngineUnavailableError("install it"), 1),
        (ModuleNotFoundError("No module named 'grpc'", name="grpc"), 1),
        (ValueError("odd"), 1),
    ],
)
def test_error_is_one_line_and_an_exit_status(house, out, error, status):
    house.client = FakeSpeaker([error])
    result = house.run("say", "--text", SCRIPT, "-o", out)
    assert result.exit_code == status
    (line,) = (x for x in result.stderr.splitlines() if x.startswith("duologue: "))
    assert "Traceback" not in result.output
    assert str(error.args[0]) in line or "grpc" in line
    assert not house.server.is_running


def test_debug_lets_the_exception_out(house, out):
    house.client = FakeSpeaker([ValueError("odd")])
    result = house.run("--debug", "say", "--text", SCRIPT, "-o", out)
    assert isinstance(result.exception, ValueError)
    by_environment = house.run("say", "--text", SCRIPT, env={"DUOLOGUE_DEBUG": "1"})
    assert isinstance(by_environment.exception, ValueError)


def test_interrupt_keeps_what_came_and_stops_everything(house, out):
    house.client = FakeSpeaker([*THREE_CHUNKS[:2], KeyboardInterrupt()])
    result = house.run("say", "--text", SCRIPT, "-o", out)
    assert result.exit_code == 130
    assert samples_of(out) == ALL_SAMPLES[:1000]
    assert f"{out} holds the 1.00 s" in result.stderr
    assert house.client.streams[0].is_closed
    assert not house.server.is_running


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("script.txt", "--text", SCRIPT),
        ("no/such/file.txt",),
        ("--text", SCRIPT, "-o", "no/such/folder/a.wav"),
        ("--text", SCRIPT, "--max-frames", "0"),
        ("--text", SCRIPT, "--normalize", "v9"),
        ("--text", SCRIPT, "--no-such-option"),
    ],
)
def test_wrong_command_line_is_refused_before_any_work(house, arguments):
    assert house.run("say", *arguments).exit_code == 2
    assert not house.server.was_running
    assert house.urls == []


def test_script_that_is_no_utf8_is_bad_input(house, tmp_path):
    path = tmp_path / "script.txt"
    path.write_bytes(b"\xff\xfe\x00")
    result = house.run("say", path)
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


def test_player_hears_the_whole_file(house, out, tmp_path):
    heard = tmp_path / "heard.wav"
    copy = f"import sys; open({str(heard)!r}, 'wb').write(sys.stdin.buffer.read())"
    house.player = Player(sys.executable, ("-c", copy), "wav")
    result = house.run("say", "--text", SCRIPT, "-o", out, "--play")
    assert result.exit_code == 0, result.output
    assert samples_of(heard) == ALL_SAMPLES


def test_missing_player_is_told_and_the_file_written(house, out):
    result = house.run("say", "--text", SCRIPT, "-o", out, "--play")
    assert result.exit_code == 0
    assert "no player found on PATH, looked for ffplay" in result.stderr
    assert samples_of(out) == ALL_SAMPLES
