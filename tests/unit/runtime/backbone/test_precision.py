"""What a GPU of some capability runs in, with made-up capabilities: none of this needs a GPU."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from narrow_lms import write_pair
from random_lms import WEIGHTS, build_random_lm, random_ids, teacher_force

from duologue.runtime.backbone import registry
from duologue.runtime.backbone.precision import (
    DTYPES,
    Precision,
    check_overflow,
    precisions_for,
    settle,
)
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError, EngineUnavailableError

T4, V100, A100, L4, H100 = (7, 5), (7, 0), (8, 0), (8, 9), (9, 0)


@pytest.mark.parametrize(
    ("wanted", "capability", "has_flash", "first"),
    [
        ("bfloat16", A100, True, Precision("bfloat16", "flash")),
        ("bfloat16", L4, False, Precision("bfloat16", "sdpa")),
        ("bfloat16", T4, True, Precision("float16", "sdpa")),
        ("bfloat16", V100, True, Precision("float16", "sdpa")),
        ("float16", H100, True, Precision("float16", "flash")),
        ("float16", T4, True, Precision("float16", "sdpa")),
        ("float32", H100, True, Precision("float32", "sdpa")),
    ],
)
def test_the_best_way_that_a_gpu_has_comes_first(
    wanted: str, capability: tuple[int, int], has_flash: bool, first: Precision
) -> None:
    assert precisions_for(wanted, capability, has_flash=has_flash)[0] == first


@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(5, 12), st.integers(0, 9)),
    st.booleans(),
    st.booleans(),
)
def test_there_is_always_a_last_resort_and_never_an_impossible_way(
    wanted: str, capability: tuple[int, int], has_flash: bool, has_sdpa: bool
) -> None:
    ways = precisions_for(wanted, capability, has_flash=has_flash, has_sdpa=has_sdpa)
    assert ways[-1] == Precision("float32", "eager")
    assert len(set(ways)) == len(ways)
    for way in ways:
        assert way.dtype != "bfloat16" or capability >= (8, 0)
        assert way.attention != "flash" or (has_flash and capability >= (8, 0))
        assert way.attention == "eager" or has_sdpa


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="dtype is 'int8'; allowed: float32"):
        precisions_for("int8", A100, has_flash=True)


def test_a_kernel_that_is_refused_changes_the_attention_and_an_overflow_the_precision(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[Precision] = []

    def attempt(precision: Precision) -> Precision:
        tried.append(precision)
        if precision.attention == "sdpa" and precision.dtype == "float16":
            raise RuntimeError("no kernel")
        if precision.dtype == "float16":
            raise OverflowError("too large")
        return precision

    chosen = settle("bfloat16", precisions_for("bfloat16", T4, has_flash=False), attempt)
    assert chosen == Precision("float32", "sdpa")
    assert [(way.dtype, way.attention) for way in tried] == [
        ("float16", "sdpa"),
        ("float16", "eager"),
        ("float32", "sdpa"),
    ]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "in float32 with sdpa attention instead of bfloat16" in record.getMessage()
    assert "no kernel" in record.getMessage()
    assert "too large" in record.getMessage()


def test_an_overflow_is_not_tried_again_with_another_attention() -> None:
    tried: list[Precision] = []

    def attempt(precision: Precision) -> None:
        tried.append(precision)
        raise OverflowError("too large")

    with pytest.raises(EngineUnavailableError, match="float16: too large; float32: too large"):
        settle("float16", precisions_for("float16", H100, has_flash=True), attempt)
    assert [way.dtype for way in tried] == ["float16", "float32"]


def test_what_was_wanted_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    ways = precisions_for("bfloat16", A100, has_flash=True)
    with caplog.at_level(logging.INFO):
        settle("bfloat16", ways, lambda precision: precision)
    assert [record.levelno for record in caplog.records] == [logging.INFO]


@pytest.mark.parametrize("attention", ["flash", "eager"])
@pytest.mark.parametrize("pieces", [[], [9]])
def test_every_attention_gives_the_same_logits(
    tmp_path: Path, attention: Any, pieces: list[int]
) -> None:
    lm = build_random_lm(tmp_path)
    ids = random_ids(lm, 30)
    wanted, found = (
        teacher_force(
            TorchBackbone(lm, tmp_path / WEIGHTS, max_slots=2, max_rows=40, attention=kind),
            1,
            ids,
            20,
            pieces,
        )
        for kind in ("sdpa", attention)
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def _load_on_fake_gpu(
    lm: LmConfig,
    directory: Path,
    capability: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    dtype: str = "bfloat16",
) -> Any:
    """The registry's way to the torch engine, the CPU standing in for a GPU."""
    monkeypatch.setattr(registry, "_has_gpu", lambda: True)
    monkeypatch.setattr(registry, "_CUDA_DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    weights = WEIGHTS if dtype == "bfloat16" else f"{dtype}.safetensors"
    entry = {"status": "built", "dtype": dtype, "weights": weights}
    request = registry.EngineRequest(lm, entry, directory, 2, 40)
    return registry._create_torch(request)


@pytest.mark.parametrize(("capability", "dtype"), [(T4, "float16"), (A100, "bfloat16")])
def test_the_registry_asks_the_gpu_what_it_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str
) -> None:
    lm = build_random_lm(tmp_path, "bfloat16")
    backbone = _load_on_fake_gpu(lm, tmp_path, capability, monkeypatch)
    assert backbone.spec.dtype == dtype
    # The trial has left nothing behind.
    ids = random_ids(lm, 5)
    assert np.isfinite(backbone.prefill(0, ids).values).all()


@pytest.mark.parametrize(("capability", "dtype"), [(T4, torch.float16), (A100, torch.bfloat16)])
@pytest.mark.parametrize("quantization", ["int8", "fp8"])
def test_matrices_in_8_bits_leave_the_rest_as_it_is_without_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    dtype: torch.dtype,
    quantization: str,
) -> None:
    lm = build_random_lm(tmp_path, "bfloat16")
    write_pair(lm, tmp_path / WEIGHTS, tmp_path, quantization)
    backbone = _load_on_fake_gpu(lm, tmp_path, capability, monkeypatch, quantization)
    assert backbone.spec.dtype == quantization
    assert backbone.spec.kv_bytes_per_row == 2 * lm.kv_elements_per_row
    assert backbone._cache.keys[0].dtype == dtype
    assert np.isfinite(backbone.prefill(0, random_ids(lm, 5)).values).all()


def test_a_model_too_large_for_float16_runs_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = build_random_lm(tmp_path)
    stored = TensorFile(tmp_path / WEIGHTS)["layers.0.down_proj.weight"]
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    huge = (stored.float32() * np.float32(1e7)).tobytes()
    content[stored.offset : stored.offset + len(huge)] = huge
    (tmp_path / WEIGHTS).write_bytes(content)
    backbone = _load_on_fake_gpu(lm, tmp_path, T4, monkeypatch)
    assert backbone.spec.dtype == "float32"
    assert "float16: numbers of the model are too large" in caplog.text


def test_the_check_leaves_the_slot_empty(tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    backbone = TorchBackbone(lm, tmp_path / WEIGHTS, max_slots=1, max_rows=20)
    check_overflow(backbone)
    assert backbone.prefill(0, random_ids(lm, 19)) is not None
    assert dataclasses.asdict(backbone.spec)["max_rows"] == 20
