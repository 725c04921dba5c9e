"""Weights in 8 and 4 bits: what is stored, and what the engine makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_lms import WEIGHTS, build_random_lm, open_backbone, random_ids, teacher_force

from duologue.build_engines.lm_onnx import write_lm_onnx
from duologue.build_engines.quantize import BLOCK, quantize_rows, write_quantized_safetensors
from duologue.runtime.backbone.onnx_backbone import OnnxBackbone
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import ConfigError


def _restore(numbers: np.ndarray[Any, np.dtype[np.uint8]], scales: FloatArray, bits: int) -> Any:
    if bits == 4:
        numbers = np.stack([numbers & 15, numbers >> 4], axis=-1).reshape(*numbers.shape[:-1], -1)
    return (numbers.astype(np.float32) - (1 << (bits - 1))) * scales[..., None]


@given(
    bits=st.sampled_from([4, 8]),
    width=st.integers(1, 100),
    seed=st.integers(0, 1000),
    magnitude=st.sampled_from([0.0, 1e-6, 1.0, 1e4]),
)
def test_no_number_is_off_by_more_than_a_step(
    bits: int, width: int, seed: int, magnitude: float
) -> None:
    values = np.random.default_rng(seed).standard_normal((3, width)).astype(np.float32)
    values *= np.float32(magnitude)
    numbers, scales = quantize_rows(values, bits)
    assert numbers.shape == (3, -(-width // BLOCK), BLOCK * bits // 8)
    restored = _restore(numbers, scales, bits)
    filled = np.zeros((3, restored.size // 3), np.float32)
    filled[:, :width] = values
    off = np.abs(restored - filled.reshape(restored.shape))
    assert np.all(off <= np.abs(scales)[..., None] * 1.001)
    assert np.all(np.abs(scales) <= np.abs(values).max(initial=0) / (1 << (bits - 1)) * 1.001)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LmConfig, Path]:
    directory = tmp_path_factory.mktemp("quantized")
    lm = build_random_lm(
        directory, "float16", hidden_size=128, head_dim=16, tied_heads=request.param
    )
    for dtype in ("int8", "int4"):
        weights = directory / f"lm.{dtype}.safetensors"
        write_quantized_safetensors(lm, directory / WEIGHTS, weights, dtype)
        write_lm_onnx(lm, weights, directory / f"lm.{dtype}.onnx", quantization=dtype)
    return lm, directory


def _open(built: tuple[LmConfig, Path], dtype: str, num_threads: int = 1) -> OnnxBackbone:
    lm, directory = built
    return OnnxBackbone(
        lm,
        directory / f"lm.{dtype}.onnx",
        max_slots=8,
        max_rows=100,
        dtype=dtype,
        num_threads=num_threads,
    )


def test_body_and_heads_are_stored_narrow(built: tuple[LmConfig, Path]) -> None:
    lm, directory = built
    names = set(TensorFile(directory / "lm.int8.safetensors"))
    assert {"embedding.weight", "norm.weight", "head.weight.blocks", "head.weight.scales"} <= names
    assert "layers.0.qkv_proj.weight" not in names
    sizes = [TensorFile(directory / f"lm.{dtype}.safetensors") for dtype in ("int8", "int4")]
    wide, narrow = (file["layers.1.down_proj.weight.blocks"].data.nbytes for file in sizes)
    assert wide == 2 * narrow == lm.hidden_size * 128


@pytest.mark.parametrize(("dtype", "tolerance"), [("int8", 0.03), ("int4", 0.3)])
def test_logits_stay_near_those_of_the_full_weights(
    built: tuple[LmConfig, Path], dtype: str, tolerance: float
) -> None:
    lm, directory = built
    ids = random_ids(lm, 40)
    wanted = teacher_force(open_backbone("torch", lm, directory), 0, ids, 30)
    off = teacher_force(_open(built, dtype), 0, ids, 30) - wanted
    assert 0 < off.std() < tolerance * wanted.std()


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_batch_and_threads_do_not_change_a_bit(built: tuple[LmConfig, Path], dtype: str) -> None:
    lm, _ = built
    prompts = [random_ids(lm, 10 + slot, slot) for slot in range(8)]
    steps = random_ids(lm, 3 * 8).reshape(3, 8, -1)
    results = []
    for num_threads, group in ((1, 1), (2, 1), (1, 2), (2, 3), (1, 8)):
        backbone = _open(built, dtype, num_threads)
        for slot, prompt in enumerate(prompts):
            backbone.prefill(slot, prompt)
        logits = [
            backbone.decode(range(first, min(first + group, 8)), step[first : first + group])
            for step in steps
            for first in range(0, 8, group)
        ]
        results.append(np.concatenate([step.values for step in logits]))
    for got in results[1:]:
        np.testing.assert_array_equal(got, results[0])


def test_an_unknown_precision_is_refused(built: tuple[LmConfig, Path], tmp_path: Path) -> None:
    lm, directory = built
    with pytest.raises(ConfigError, match="dtype is 'int2'; allowed: int8, int4"):
        write_quantized_safetensors(lm, directory / WEIGHTS, tmp_path / "a.safetensors", "int2")
    with pytest.raises(ConfigError, match=r"has no tensor layers\.0\.qkv_proj\.weight\.blocks"):
        write_lm_onnx(lm, directory / WEIGHTS, tmp_path / "lm.onnx", quantization="int8")
