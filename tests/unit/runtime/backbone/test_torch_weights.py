"""Matrices in 8 bits: the engines compute with what they mean, alone and in a batch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow_lms import write_pair
from random_lms import WEIGHTS, build_random_lm, open_backbone, random_ids, teacher_force

from duologue.build_engines.safetensors_writer import write_arrays
from duologue.runtime.backbone import torch_weights
from duologue.runtime.backbone.layout import HEAD
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.backbone.torch_weights import NarrowWeight, multiply, read_weights, take_rows
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray
from duologue.runtime.errors import ConfigError

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {"max_slots": 6, "max_rows": 60}


@dataclasses.dataclass(frozen=True)
class Pair:
    """A model in 8 bits, and the same as a plain one with heads of its own."""

    lm: LmConfig
    narrow: Path
    untied: LmConfig
    plain: Path
    wide: Path


@pytest.fixture(scope="module", params=["int8", "fp8"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("narrow")
    lm = build_random_lm(directory, "bfloat16")
    narrow, plain = write_pair(lm, directory / WEIGHTS, directory, request.param)
    return Pair(lm, narrow, dataclasses.replace(lm, tied_heads=False), plain, directory)


def test_the_reference_computes_with_what_the_numbers_mean(pair: Pair) -> None:
    ids = random_ids(pair.lm, 30)
    wanted = teacher_force(TorchBackbone(pair.untied, pair.plain, **SIZES), 0, ids, 20)
    reference = TorchBackbone(pair.lm, pair.narrow, **SIZES)
    found = teacher_force(reference, 0, ids, 20)
    np.testing.assert_array_equal(found, wanted)
    assert reference.spec.dtype == "float32"
    unlike = teacher_force(open_backbone("torch", pair.lm, pair.wide), 0, ids, 20) - wanted
    assert 0 < unlike.std() < 0.15 * wanted.std()


def test_a_device_keeps_them_narrow_and_computes_the_same(pair: Pair) -> None:
    device = TorchDeviceBackbone(pair.lm, pair.narrow, **SIZES)
    assert device.spec.dtype == pair.narrow.stem
    assert all(isinstance(w, NarrowWeight) for w in device._body.matrices.values())
    reference = TorchBackbone(pair.untied, pair.plain, **SIZES)
    prompts = [random_ids(pair.lm, 9 + slot, slot) for slot in range(6)]
    steps = random_ids(pair.lm, 3 * 6).reshape(3, 6, -1)

    def run(backbone: TorchBackbone, group: int) -> FloatArray:
        first = [backbone.prefill(slot, prompt) for slot, prompt in enumerate(prompts)]
        rows = [logits.values for logits in first if logits is not None]
        for step in steps:
            for start in range(0, 6, group):
                slots = range(start, start + group)
                rows.append(backbone.decode(slots, step[start : start + group]).values)
        for slot in range(6):
            backbone.release(slot)
        return np.concatenate(rows)

    wanted = run(reference, 1)
    for group in (1, 2, 6):
        np.testing.assert_array_equal(run(device, group), wanted)


def test_wide_matrices_need_no_copy_of_tied_heads(pair: Pair) -> None:
    wide = pair.wide / WEIGHTS
    weights = read_weights(pair.lm, wide, torch.float32, CPU, keeps_narrow=True)
    assert weights.quantization is None
    assert weights.matrices[HEAD] is weights.tensors["embedding.weight"]


def test_a_matrix_is_widened_in_stretches_and_in_parts(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = read_weights(pair.lm, pair.narrow, torch.float32, CPU, keeps_narrow=True)
    weight = weights.matrices[HEAD]
    assert isinstance(weight, NarrowWeight)
    values, wide = torch.randn(3, pair.lm.hidden_size), weight.widen(torch.float32)
    wanted = values @ wide.T
    monkeypatch.setattr(torch_weights, "_STRETCH_NUMBERS", 10 * pair.lm.hidden_size)
    assert len(list(weight.stretches())) == -(-len(wide) // 10)
    torch.testing.assert_close(multiply(values, weight), wanted)
    rows = torch.tensor([2, 3, 5])
    torch.testing.assert_close(multiply(values, take_rows(weight, rows)), wanted[:, rows])
    torch.testing.assert_close(take_rows(wide, rows), wide[rows], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_what_a_number_means_is_rounded_once(pair: Pair, dtype: torch.dtype) -> None:
    weights = read_weights(pair.lm, pair.narrow, dtype, CPU, keeps_narrow=True)
    for name, weight in weights.matrices.items():
        assert isinstance(weight, NarrowWeight)
        meant = torch.from_numpy(TensorFile(pair.plain)[name].data.copy())
        torch.testing.assert_close(weight.widen(dtype), meant.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("pair", ["int8"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.weight.scales": None}, r"has no tensor head\.weight\.scales"),
        ({"head.weight.scales": np.ones(3, np.float32)}, r"scales has shape \[3\]"),
        ({"norm.weight": np.ones(48, np.int8)}, "norm.weight is stored as I8; allowed: F32"),
        ({"layers.0.o_proj.weight": np.ones((48, 48), np.int64)}, "o_proj.weight is stored as I64"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    pair: Pair, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    stored = TensorFile(pair.narrow)
    arrays = {
        name: tensor.float32() if tensor.dtype == "BF16" else tensor.data
        for name, tensor in stored.items()
    }
    kept = {name: array for name, array in {**arrays, **changes}.items() if array is not None}
    write_arrays(tmp_path / WEIGHTS, kept)
    with pytest.raises(ConfigError, match=message):
        TorchBackbone(pair.lm, tmp_path / WEIGHTS, **SIZES)
