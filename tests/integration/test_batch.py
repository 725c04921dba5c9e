"""`duologue batch` on the embedded bundle: forms of lines, faults, resuming, reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from duologue.cli.main import app
from duologue.runtime.audio import to_int16
from duologue.runtime.synthesizer import Synthesizer


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "voice.wav"
    soundfile.write(path, rng.normal(0, 0.1, 24_000).astype(np.float32), 24_000)
    return path


def _write(path: Path, lines: list[Any]) -> Path:
    text = "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    path.write_text(text, encoding="utf-8")
    return path


def _run(jsonl: Path, out: Path, *options: str) -> Any:
    places = ["--bundle", "noise", "--jsonl", str(jsonl), "--output-dir", str(out)]
    return CliRunner().invoke(app, ["batch", *places, "--greedy", *options])


def test_every_form_of_a_line_is_spoken_and_a_bad_one_stops_nothing(
    tmp_path: Path, voice: Path
) -> None:
    text = "[S1]One.[S2]Two."
    lines = [
        "# a comment",
        {"text": text},
        {
            "base_path": str(tmp_path),
            "text": text,
            "prompt_audio": "voice.wav",
            "prompt_text": "Hi",
        },
        "",
        {"text": text, "prompt_audio_speaker1": str(voice), "prompt_text_speaker1": "Hi."},
        "{broken",
        {"text": text, "prompt_audio": "/nowhere.wav"},
        {"text": "[S5]Who?"},
        {
            "text": text,
            "prompt_audio_speaker1": str(voice),
            "prompt_audio_speaker2": str(voice),
            "prompt_text_speaker2": "Ho.",
        },
    ]
    result = _run(_write(tmp_path / "in.jsonl", lines), tmp_path / "out", "--save-codes")
    assert result.exit_code == 1, result.output
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert report["statistics"]["total"] == 7
    assert [file["index"] for file in report["files"]] == [0, 1, 2, 6]
    assert [(e["index"], e["line"]) for e in report["errors"]] == [(3, 6), (4, 7), (5, 8)]
    assert "nowhere" in report["errors"][1]["error"]
    for file in report["files"]:
        info = soundfile.info(tmp_path / "out" / file["file"])
        codes = np.load(tmp_path / "out" / f"output_{file['index']}.codes.npy")
        assert codes.shape == (file["num_frames"], 8)
        assert info.frames == file["num_frames"] * 1920
        assert info.subtype == "PCM_16"


def test_batch_says_the_same_samples_as_the_synthesizer(tmp_path: Path) -> None:
    jsonl = _write(tmp_path / "in.jsonl", [{"text": "[S1]One."}, {"text": "[S1]One.[S2]Two."}])
    assert _run(jsonl, tmp_path / "out").exit_code == 0
    from duologue.runtime.core import SamplingOverrides

    with Synthesizer.load("noise") as synthesizer:
        for index, text in enumerate(["[S1]One.", "[S1]One.[S2]Two."]):
            speech = synthesizer.synthesize(text, sampling=SamplingOverrides(greedy=True))
            samples, rate_hz = soundfile.read(
                tmp_path / "out" / f"output_{index}.wav", dtype="int16"
            )
            assert rate_hz == 24_000
            np.testing.assert_array_equal(samples, to_int16(speech.samples))


def test_a_second_run_does_nothing_again_and_a_changed_line_is_spoken_anew(tmp_path: Path) -> None:
    jsonl, out = tmp_path / "in.jsonl", tmp_path / "out"
    _write(jsonl, [{"text": "[S1]One."}, {"text": "[S1]Two."}])
    assert _run(jsonl, out).exit_code == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.wav")}
    _write(jsonl, [{"text": "[S1]One."}, {"text": "[S1]Three."}])
    assert _run(jsonl, out).exit_code == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.wav")}
    assert after["output_0.wav"] == before["output_0.wav"]
    assert after["output_1.wav"] != before["output_1.wav"]


def test_a_killed_run_goes_on_without_losing_a_line(tmp_path: Path) -> None:
    jsonl, out = tmp_path / "in.jsonl", tmp_path / "out"
    _write(jsonl, [{"text": f"[S1]Line {index}. " * 4} for index in range(24)])
    command = [
        sys.executable,
        "-m",
        "duologue.cli",
        "batch",
        "--bundle",
        "noise",
        "--jsonl",
        str(jsonl),
    ]
    command += ["--output-dir", str(out), "--greedy"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    give_up_at_s = time.monotonic() + 300
    while not list(out.glob("*.wav")):
        assert time.monotonic() < give_up_at_s
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("output_*.wav")}
    assert 0 < len(done) < 24, "the run was to be killed half-way"
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert len(list(out.glob("output_*.wav"))) == 24
    journalled = (out / ".output_journal.0.jsonl").read_text().splitlines()
    spoken = [json.loads(line)["index"] for line in journalled if line]
    assert sorted(set(spoken)) == list(range(24))
    assert len(spoken) <= 25, "at most the line in hand is spoken twice"


def test_two_devices_share_the_lines_and_one_report_tells_of_all(tmp_path: Path) -> None:
    lines = [{"text": f"[S1]Line {index}."} for index in range(5)] + [{"text": ""}]
    jsonl = _write(tmp_path / "in.jsonl", lines)
    command = [
        sys.executable,
        "-m",
        "duologue.cli",
        "batch",
        "--bundle",
        "noise",
        "--jsonl",
        str(jsonl),
        "--greedy",
    ]
    command += ["--output-dir", str(tmp_path / "out"), "--devices", "0,1", "--json"]
    command += ["--prefix", "kaggle_output_"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    summary = json.loads(run.stdout)
    assert (summary["succeeded"], summary["failed"]) == (5, 1)
    report = json.loads((tmp_path / "out" / "kaggle_results.json").read_text())
    assert [file["file"] for file in report["files"]] == [
        f"kaggle_output_{i}.wav" for i in range(5)
    ]


@pytest.mark.parametrize("decode", ["reference", "repaired"])
def test_the_reference_windows_speak_whole_dialogues(
    tmp_path: Path, voice: Path, decode: str
) -> None:
    lines = [{"text": "[S1]One."}, {"text": "[S1]One.", "prompt_audio": str(voice)}]
    jsonl = _write(tmp_path / "in.jsonl", lines)
    assert _run(jsonl, tmp_path / "out", "--decode", decode).exit_code == 0
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    for file in report["files"]:
        num_samples = soundfile.info(tmp_path / "out" / file["file"]).frames
        whole = file["num_frames"] * 1920
        if decode == "repaired":
            assert num_samples == whole
        else:
            assert whole - 2400 <= num_samples <= whole


def test_the_reference_s_refusals_are_kept_when_asked_for(tmp_path: Path) -> None:
    jsonl = _write(tmp_path / "in.jsonl", [{"text": "[S1]One."}])
    assert _run(jsonl, tmp_path / "out", "--strict-reference").exit_code == 1
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "Text-only is not supported" in report["errors"][0]["error"]


def test_max_samples_takes_the_first_lines(tmp_path: Path) -> None:
    jsonl = _write(tmp_path / "in.jsonl", [{"text": f"[S1]Line {i}."} for i in range(4)])
    assert _run(jsonl, tmp_path / "out", "--max-samples", "2").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "out").glob("*.wav")) == [
        "output_0.wav",
        "output_1.wav",
    ]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: p.write_text("no audio at all"), "cannot be read as audio"),
        (lambda p: soundfile.write(p, np.zeros(0, np.float32), 16_000), "0.0 s"),
        (lambda p: soundfile.write(p, np.zeros((16_000, 10), np.float32), 16_000), "10 channels"),
        (lambda p: soundfile.write(p, np.zeros(4_000, np.float32), 4_000), "4000 Hz"),
        (lambda p: soundfile.write(p, np.full(16_000, np.nan), 16_000, "FLOAT"), "not a number"),
        (lambda p: soundfile.write(p, np.zeros(3 * 3600 * 8000, np.int16), 8000), "10800.0 s"),
    ],
)
def test_a_recording_that_cannot_be_a_voice_is_named(tmp_path: Path, make: Any, named: str) -> None:
    make(tmp_path / "bad.wav")
    lines = [{"text": "[S1]One.", "prompt_audio": str(tmp_path / "bad.wav")}, {"text": "[S1]Two."}]
    assert _run(_write(tmp_path / "in.jsonl", lines), tmp_path / "out").exit_code == 1
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    assert named in report["errors"][0]["error"]
    assert [file["index"] for file in report["files"]] == [1]


def test_audio_is_cut_at_the_cap_and_the_cap_belongs_to_the_result(tmp_path: Path) -> None:
    jsonl, out = _write(tmp_path / "in.jsonl", [{"text": "[S1]One two three."}]), tmp_path / "out"
    assert _run(jsonl, out, "--max-audio-s", "0.5").exit_code == 0
    assert 0.3 < soundfile.info(out / "output_0.wav").duration <= 0.5
    assert _run(jsonl, out, "--max-audio-s", "0.9").exit_code == 0
    assert 0.6 < soundfile.info(out / "output_0.wav").duration <= 0.9


def test_when_the_time_is_over_the_rest_is_left_for_the_next_run(tmp_path: Path) -> None:
    jsonl, out = tmp_path / "in.jsonl", tmp_path / "out"
    _write(jsonl, [{"text": "[S1]One."}, {"text": "[S1]Two."}, {"text": "[S1]Three."}])
    assert _run(jsonl, out, "--max-samples", "1").exit_code == 0
    late = _run(jsonl, out, "--time-limit-s", "1e-9")
    assert late.exit_code == 0
    assert "2 lines are left" in late.output
    report = json.loads((out / "results.json").read_text())
    assert [file["index"] for file in report["files"]] == [0], "what was done stays done"
    assert _run(jsonl, out).exit_code == 0
    assert len(json.loads((out / "results.json").read_text())["files"]) == 3


@pytest.mark.parametrize("option", ["--max-audio-s", "--time-limit-s"])
def test_limits_that_allow_nothing_are_refused(tmp_path: Path, option: str) -> None:
    jsonl = _write(tmp_path / "in.jsonl", [{"text": "[S1]One."}])
    refused = _run(jsonl, tmp_path / "out", option, "0")
    assert refused.exit_code != 0
    assert "above 0 seconds" in refused.output
