"""What holds for onnxruntime alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_lms import GRAPH, build_random_lm, open_backbone, random_ids, teacher_force

from duologue.runtime.backbone.onnx_backbone import MAX_GAP, OnnxBackbone
from duologue.runtime.errors import ConfigError


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 48, "intermediate_size": 100},
        {"hidden_size": 256, "head_dim": 64, "num_heads": 4, "intermediate_size": 700},
        {"hidden_size": 512, "head_dim": 64, "num_heads": 8, "intermediate_size": 1024},
    ],
)
def test_batch_and_threads_do_not_change_a_bit(tmp_path: Path, sizes: dict[str, int]) -> None:
    lm = build_random_lm(tmp_path, **sizes)
    ids = [random_ids(lm, 20 + 11 * slot, slot) for slot in range(32)]
    steps = random_ids(lm, 3 * 32).reshape(3, 32, -1)
    wanted = None
    for num_threads, group in ((1, 1), (1, 2), (2, 3), (2, 8), (1, 32)):
        backbone = OnnxBackbone(
            lm, tmp_path / GRAPH, max_slots=32, max_rows=400, num_threads=num_threads
        )
        for slot, prompt in enumerate(ids):
            backbone.prefill(slot, prompt)
        logits = [
            backbone.decode(range(first, min(first + group, 32)), step[first : first + group])
            for step in steps
            for first in range(0, 32, group)
        ]
        got = np.concatenate([step.values for step in logits])
        wanted = got if wanted is None else wanted
        np.testing.assert_array_equal(got, wanted)


def test_pieces_of_a_prompt_agree(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    backbone = open_backbone("onnx", lm, tmp_path)
    ids = random_ids(lm, 60)
    whole = teacher_force(backbone, 0, ids, 50)
    pieces = teacher_force(backbone, 1, ids, 50, [1, 2, 17, 49])
    np.testing.assert_allclose(pieces, whole, rtol=0, atol=1e-4)
    again = teacher_force(backbone, 2, ids, 50, [1, 2, 17, 49])
    np.testing.assert_array_equal(again, pieces)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_weights_are_widened_when_loaded(tmp_path: Path, dtype: str) -> None:
    """The same rounded weights through both engines, so only the order of sums differs."""
    lm = build_random_lm(tmp_path, dtype)
    ids = random_ids(lm, 30)
    got, wanted = (
        teacher_force(open_backbone(engine, lm, tmp_path), 0, ids, 20)
        for engine in ("onnx", "torch")
    )
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


def test_short_gaps_are_computed_along_and_long_ones_are_not(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    backbone = open_backbone("onnx", lm, tmp_path, max_slots=20, max_rows=8)
    assert isinstance(backbone, OnnxBackbone)
    far = 3 + MAX_GAP + 2
    assert list(backbone._spans([0, 3, far])) == [range(0, 4), range(far, far + 1)]
    backbone.prefill(1, random_ids(lm, 8))
    assert list(backbone._spans([0, 3])) == [range(0, 1), range(3, 4)]


def test_unused_slots_take_no_memory(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path, max_position_embeddings=100_000)
    before = _resident_bytes()
    backbone = open_backbone("onnx", lm, tmp_path, max_slots=512, max_rows=100_000)
    backbone.prefill(0, random_ids(lm, 5))
    assert backbone.spec.kv_bytes > 10 << 30
    assert _resident_bytes() - before < 1 << 30


def test_a_missing_or_damaged_graph_is_named(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"no graph at all")
    for name, message in (("none.onnx", "is missing"), ("broken.onnx", "cannot be loaded")):
        with pytest.raises(ConfigError, match=f"{name} {message}"):
            OnnxBackbone(lm, tmp_path / name, max_slots=1, max_rows=8)
    (tmp_path / "lm.safetensors").unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        OnnxBackbone(lm, tmp_path / GRAPH, max_slots=1, max_rows=8)


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; import duologue.runtime.backbone.onnx_backbone, "
        "duologue.runtime.backbone.registry; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096
