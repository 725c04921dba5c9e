"""The scripts and the notebook for Kaggle, run for real with the embedded bundles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import soundfile
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kaggle"
sys.path.insert(0, str(FOLDER))

from advice import ADVICE, advise  # noqa: E402


def _run(script: str, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _fake_gpus(folder: Path, listing: str) -> str:
    """A PATH on which nvidia-smi says what it is told."""
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{listing}'\n")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_setup_without_a_gpu_takes_the_small_model_and_says_where_gpus_are(tmp_path: Path) -> None:
    run = _run("kaggle_setup.py", "--skip_install", cwd=tmp_path)
    assert run.returncode == 0, run.stdout
    assert "GPU T4 x2" in run.stdout
    assert json.loads((tmp_path / "duologue_kaggle.json").read_text())["bundle"] == "default"
    assert (tmp_path / "outputs").is_dir()


def test_setup_builds_the_model_once_for_two_gpus(tmp_path: Path) -> None:
    from duologue.build_engines.random_checkpoint import write_random_lm
    from duologue.build_engines.random_checkpoint_codec import write_random_codec

    write_random_lm(tmp_path / "lm", seed=1)
    write_random_codec(tmp_path / "codec", seed=1)
    path = _fake_gpus(tmp_path / "bin", "Tesla T4, 15360 MiB\\nTesla T4, 15360 MiB\\n")
    options = ["--skip_install", "--lm", "lm", "--codec", "codec"]
    first = _run("kaggle_setup.py", *options, cwd=tmp_path, PATH=path)
    assert first.returncode == 0, first.stdout
    assert first.stdout.count("Tesla T4") == 2
    bundle = json.loads((tmp_path / "bundles/moss_ttsd/bundle.json").read_text())
    assert bundle["engines"]["torch"]["dtype"] == "float16"
    again = _run("kaggle_setup.py", *options, cwd=tmp_path, PATH=path)
    assert "is there already" in again.stdout


def test_a_model_that_cannot_be_fetched_comes_with_advice(tmp_path: Path) -> None:
    options = ["--skip_install", "--model", "moss", "--lm", "nobody/nothing", "--codec", "x/y"]
    # A port of this machine that nobody listens on.
    run = _run("kaggle_setup.py", *options, cwd=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert run.returncode == 1
    assert "FAILED model" in run.stdout
    assert "Internet, On" in run.stdout


def test_inference_speaks_caps_reports_and_goes_on(tmp_path: Path) -> None:
    lines = [{"text": f"[S1]Line number {index}, and a few words more."} for index in range(3)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--jsonl", "in.jsonl", "--bundle", "noise", "--seed", "3", "--use_normalize"]
    capped = [*options, "--max_samples", "2", "--max_seconds", "0.5"]
    first = _run("kaggle_inference.py", *capped, cwd=tmp_path)
    assert first.returncode == 0, first.stdout
    assert "3 lines, the first 2 are spoken" in first.stdout
    assert "cut at the limit" in first.stdout
    out = tmp_path / "outputs"
    assert {path.name for path in out.glob("*.wav")} == {
        "kaggle_output_0.wav",
        "kaggle_output_1.wav",
    }
    assert soundfile.info(out / "kaggle_output_0.wav").duration <= 0.5
    made_at = (out / "kaggle_output_0.wav").stat().st_mtime_ns
    second = _run("kaggle_inference.py", *capped[:-4], "--max_seconds", "0.5", cwd=tmp_path)
    assert second.returncode == 0, second.stdout
    assert (out / "kaggle_output_0.wav").stat().st_mtime_ns == made_at
    report = json.loads((out / "kaggle_results.json").read_text())
    assert set(report) == {"statistics", "files", "model", "errors"}
    assert [file["index"] for file in report["files"]] == [0, 1, 2]


def test_when_the_hours_are_over_the_rest_is_left_with_a_word(tmp_path: Path) -> None:
    run = _run("kaggle_inference.py", "--bundle", "noise", "--max_hours", "1e-12", cwd=tmp_path)
    assert run.returncode == 0, run.stdout
    assert "1 lines are left; run it again to go on" in run.stdout


def test_two_gpus_get_a_process_each(tmp_path: Path) -> None:
    lines = [{"text": f"[S1]Line number {index}."} for index in range(4)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = _fake_gpus(tmp_path / "bin", "0\\n1\\n")
    options = ["--jsonl", "in.jsonl", "--bundle", "noise"]
    run = _run("kaggle_inference.py", *options, cwd=tmp_path, PATH=path)
    assert run.returncode == 0, run.stdout
    assert "2 GPUs, one process each" in run.stdout
    assert len(list((tmp_path / "outputs").glob("*.wav"))) == 4
    assert len(list((tmp_path / "outputs").glob(".device*.log"))) == 2


def test_a_line_that_fails_comes_with_advice_and_the_others_are_spoken(tmp_path: Path) -> None:
    missing = {"text": "[S1]Hm.", "prompt_audio_speaker1": "no.wav", "prompt_text_speaker1": "No."}
    (tmp_path / "in.jsonl").write_text(json.dumps(missing) + "\n" + '{"text": "[S1]Yes."}\n')
    run = _run("kaggle_inference.py", "--jsonl", "in.jsonl", "--bundle", "noise", cwd=tmp_path)
    assert run.returncode == 1
    assert "try:" in run.stdout
    assert (tmp_path / "outputs" / "kaggle_output_1.wav").is_file()


@pytest.mark.parametrize(
    ("printed", "remedy"),
    [
        ("ERROR: Failed building wheel for flash-attn", "not needed"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "max_slots 1"),
        ("fnlp/XY_Tokenizer_TTSD_V0 cannot be fetched (timeout)", "Internet, On"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for onnxscript", "PIP_FIND_LINKS"),
        ("CUDA error: no kernel image is available for execution", "GPU T4 x2"),
        ("ModuleNotFoundError: No module named 'duologue'", "kaggle_setup.py first"),
        ("line 3: this is no JSON", "UTF-8"),
    ],
)
def test_each_known_fault_has_its_remedy(printed: str, remedy: str) -> None:
    assert any(remedy in text for text in advise(printed))


def test_what_is_not_known_gets_no_advice() -> None:
    assert advise("everything is fine") == []
    assert len({advice.remedy for advice in ADVICE}) == len(ADVICE)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DUOLOGUE_SCRIPTS", str(FOLDER))
    monkeypatch.setenv("DUOLOGUE_SKIP_INSTALL", "1")
    notebook = nbformat.read(FOLDER / "duologue_kaggle.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=150, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "kaggle_output_1.wav" in printed
    assert (tmp_path / "duologue_outputs.zip").is_file()
