"""Products with matrices in 8 bits by kernels, in Triton's interpreter, against plain torch.

In bfloat16 only where it is multiplied in float32: its own products the interpreter does not know.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interpreted import interpret_triton
from narrow_lms import E4M3, write_pair
from random_lms import WEIGHTS, build_random_lm, random_ids

from duologue.runtime.backbone.device import DeviceSequence
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.backbone.torch_graphs import StepGraphs
from duologue.runtime.backbone.torch_ways import Way
from duologue.runtime.backbone.torch_weights import NarrowWeight, multiply
from duologue.runtime.config import LmConfig

if importlib.util.find_spec("triton") is None:
    pytest.skip("torch's CUDA wheels bring triton, its CPU wheels do not", allow_module_level=True)

QUANTIZATIONS = ("int8", "fp8")
# In one share, in two and in four; not one is a whole number of tiles.
SHAPES = [(70, 50), (65, 700), (130, 1100)]
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}


@pytest.fixture(scope="module")
def narrow_ops() -> Iterator[Any]:
    torch.set_num_threads(1)
    for _ in interpret_triton():
        yield importlib.import_module("duologue.runtime.backbone.torch_narrow_ops")


def _random_weight(width_out: int, width_in: int, quantization: str) -> NarrowWeight:
    if quantization == "int8":
        numbers = torch.randint(-127, 128, (width_out, width_in), dtype=torch.int8)
    else:
        bits = np.flatnonzero(np.isfinite(E4M3)).astype(np.uint8)
        drawn = bits[np.random.default_rng(1).integers(0, len(bits), (width_out, width_in))]
        numbers = torch.from_numpy(drawn).view(torch.float8_e4m3fn)
    return NarrowWeight(numbers, torch.rand(width_out) / 100)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "in_float32"),
    [
        (torch.float32, False),
        (torch.float32, True),
        (torch.float16, False),
        (torch.float16, True),
        (torch.bfloat16, True),
    ],
    ids=str,
)
def test_products_are_those_of_plain_torch(
    narrow_ops: Any,
    quantization: str,
    shape: tuple[int, int],
    dtype: torch.dtype,
    in_float32: bool,
) -> None:
    weight = _random_weight(*shape, quantization)
    values = torch.randn(70, shape[1]).to(dtype)
    wanted = multiply(values.double(), weight)
    bound = TOLERANCE[dtype] * wanted.abs().max()
    for batch in (1, 16, 17, 64, 70):
        found = narrow_ops.multiply_narrow(values[:batch], weight, in_float32=in_float32)
        assert found.dtype == dtype
        assert (found.double() - wanted[:batch]).abs().max() < bound


def test_matrices_are_cut_into_shares_of_whole_blocks(narrow_ops: Any) -> None:
    # The four products of a layer of the published model, and its heads.
    shapes = [(4096, 2048), (2048, 2048), (12288, 2048), (2048, 6144), (159_872, 2048)]
    counts = [narrow_ops.share_counts(*shape) for shape in shapes]
    assert counts == [(4, 4), (8, 2), (2, 8), (8, 6), (1, 16)]
    assert [narrow_ops.share_counts(*shape)[0] for shape in SHAPES] == [1, 2, 4]


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(narrow_ops: Any, quantization: str) -> None:
    weight = _random_weight(65, 700, quantization)
    values = torch.randn(16, 700)
    together = narrow_ops.multiply_narrow(values, weight)
    for place in (0, 7, 15):
        alone = narrow_ops.multiply_narrow(values[place : place + 1], weight)
        torch.testing.assert_close(alone[0], together[place], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_every_finite_float8_is_widened_exactly(narrow_ops: Any, dtype: torch.dtype) -> None:
    bits = np.flatnonzero(np.isfinite(E4M3)).astype(np.uint8)
    numbers = torch.from_numpy(bits)[:, None].view(torch.float8_e4m3fn)
    weight = NarrowWeight(numbers, torch.ones(len(bits)))
    found = narrow_ops.multiply_narrow(torch.ones(1, 1, dtype=dtype), weight)
    np.testing.assert_array_equal(found[0].float().numpy(), E4M3[bits])


def _sequence(lm: LmConfig, place: int) -> DeviceSequence:
    """Draws if its place is even, else is greedy."""
    draws, greedy = [1.0, 0.9, 30.0, 0.9, 1.0], [1.0, 1.0, np.inf, 1.0, 0.0]
    return DeviceSequence(
        last_row=random_ids(lm, 1, seed=place)[0],
        num_steps=1,
        max_steps=30,
        rows_to_drain=None,
        forced=random_ids(lm, lm.max_delay, seed=7),
        fills=np.zeros(lm.num_channels, dtype=np.int64),
        speech_start=0,
        speech_stop=lm.vocab_sizes[0],
        end_of_speech=5,
        sampling=np.tile(greedy if place % 2 else draws, (lm.num_channels, 1)),
    )


@pytest.mark.parametrize(("quantization", "channel0_ids"), [("int8", None), ("fp8", [[0, 40]])])
def test_whole_steps_give_the_ids_of_what_the_weights_mean(
    narrow_ops: Any, tmp_path: Path, quantization: str, channel0_ids: Any
) -> None:
    lm = build_random_lm(tmp_path)
    narrow, plain = write_pair(lm, tmp_path / WEIGHTS, tmp_path, quantization)
    kernels = importlib.import_module("duologue.runtime.backbone.torch_kernel_ops")

    class Kernels(TorchDeviceBackbone):
        def _make_graphs(self, way: Way) -> StepGraphs:
            ops = kernels.KernelOps(self.spec.lm, num_cores=2)
            return super()._make_graphs(dataclasses.replace(way, ops=ops))

    untied = dataclasses.replace(lm, tied_heads=False)
    draws = np.random.default_rng(1).random((4, 3, lm.num_channels))
    found = []
    for kind, model, path in ((TorchDeviceBackbone, untied, plain), (Kernels, lm, narrow)):
        sizes: dict[str, Any] = {"max_slots": 3, "max_rows": 60, "channel0_ids": channel0_ids}
        backbone = kind(model, path, **sizes)
        for slot in range(3):
            backbone.prefill(slot, random_ids(lm, 9 + slot, seed=slot))
            backbone.seat(slot, _sequence(lm, slot))
        blocks = [backbone.launch(slots, draws[:, slots]) for slots in ([0], [0, 1, 2], [2, 1])]
        found.append(np.concatenate([block.wait().chosen.ravel() for block in blocks]))
        assert backbone.spec.dtype == ("float32" if path == plain else quantization)
    np.testing.assert_array_equal(found[1], found[0])
