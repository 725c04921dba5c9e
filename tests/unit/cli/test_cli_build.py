from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from duologue.build_engines.build import StageEvent
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.cli.build_view import StageView, parity_table
from duologue.cli.main import app
from duologue.runtime.bundle_files import verify_bundle

CODEC = RandomCodecSizes(codebook_size=64, d_model=16, ffn_dim=24, vocos_dim=16)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_random_lm(folder / "lm", seed=3, hidden_size=32, num_layers=1, codebook_size=64)
    write_random_codec(folder / "codec", seed=3, sizes=CODEC)
    return folder


def run(sources: Path, out: Path, *options: str):
    places = ["--lm", sources / "lm", "--codec", sources / "codec", "--out", out]
    return CliRunner().invoke(app, ["build", *map(str, places), *options])


def test_build_makes_a_bundle_and_tells_its_size_and_its_parity(
    sources: Path, tmp_path: Path
) -> None:
    result = run(sources, tmp_path / "out")
    assert result.exit_code == 0, result.output
    bundle = verify_bundle(tmp_path / "out", hashes=True)
    assert bundle.name == "out"
    assert bundle.engines["onnx"]["dtype"] == "bfloat16"
    assert bundle.engines["codec_onnx"]["dtype"] == "float32"
    assert f"{tmp_path / 'out'}: " in result.stdout
    assert "parity report: done" in result.stderr
    assert "largest difference" in result.stderr


def test_json_is_one_line_on_standard_output(sources: Path, tmp_path: Path) -> None:
    options = ["--json", "--no-parity", "--engine", "torch", "--dtype", "fp16", "--name", "mine"]
    result = run(sources, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    assert report["name"] == "mine"
    assert report["engines"]["torch"]["dtype"] == "float16"
    assert "onnx" not in report["engines"]
    assert report["parity"] == {}
    bundle = verify_bundle(tmp_path / "out")
    assert report["bytes"] == sum(entry["bytes"] for entry in bundle.files.values())


@pytest.mark.parametrize(
    ("dtype", "onnx", "torch"),
    [("int8", "int8", "int8"), ("int4", "int4", "bfloat16"), ("fp8", "bfloat16", "fp8")],
)
def test_few_bits_are_asked_for_as_a_precision(
    sources: Path, tmp_path: Path, dtype: str, onnx: str, torch: str
) -> None:
    result = run(sources, tmp_path / "out", "--no-parity", "--dtype", dtype)
    assert result.exit_code == 0, result.output
    engines = verify_bundle(tmp_path / "out").engines
    assert (engines["onnx"]["dtype"], engines["torch"]["dtype"]) == (onnx, torch)


@pytest.mark.parametrize("engine", ["onnx", "trtllm"])
def test_fp8_is_for_torch_alone(sources: Path, tmp_path: Path, engine: str) -> None:
    result = run(sources, tmp_path / "out", "--dtype", "fp8", "--engine", engine)
    assert result.exit_code == 2
    assert "allowed with torch among them" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_limits_are_taken_over(sources: Path, tmp_path: Path) -> None:
    result = run(sources, tmp_path / "out", "--no-parity", "--max-rows", "256", "--max-slots", "2")
    assert result.exit_code == 0, result.output
    limits = verify_bundle(tmp_path / "out").limits
    assert (limits.max_rows, limits.max_slots) == (256, 2)


def test_a_source_that_does_not_exist_ends_in_one_clear_line(tmp_path: Path) -> None:
    arguments = ["build", "--lm", "/no/such", "--codec", "x", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("duologue: model source is '/no/such'; allowed: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [("--engine", "vllm"), ("--dtype", "fp99")])
def test_a_choice_that_is_not_offered_is_refused(
    sources: Path, tmp_path: Path, options: tuple[str, str]
) -> None:
    result = run(sources, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_the_view_shows_every_stage_where_there_is_a_terminal() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with StageView(console) as view:
        view.tell(StageEvent("tokenizer", "running"))
        view.tell(StageEvent("tokenizer", "done"))
        view.tell(StageEvent("codec weights", "running"))
        view.tell(StageEvent("codec weights", "kept"))
    shown = text.getvalue()
    assert "tokenizer" in shown
    assert "kept from before" in shown


def test_the_parity_table_shows_differences_where_there_are_numbers_and_ids_where_ids_are() -> None:
    text = io.StringIO()
    measured = {
        "onnx": {"logits": {"max_abs_diff": 1.5e-5, "ids_equal": 39, "num_ids": 40}},
        "codec_onnx": {
            "codes": {"max_abs_diff": 0.0, "ids_equal": 200, "num_ids": 200},
            "waveform": {"max_abs_diff": 2e-6, "ids_equal": 0, "num_ids": 0},
        },
    }
    Console(file=text, width=100).print(parity_table(measured))
    shown = text.getvalue()
    assert "1.5e-05" in shown
    assert "39 of 40" in shown
    assert "2.0e-06" in shown
    assert "0.0e+00" not in shown
