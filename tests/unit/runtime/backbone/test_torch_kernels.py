"""The kernels of a step, run by Triton's interpreter on a CPU, against plain torch.

Where triton is installed and something else in the process has loaded it already, they are skipped:
its own library is interpreted or not from the moment of its import. Run this file alone then.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_lms import WEIGHTS, build_random_lm, random_ids

from duologue.runtime.backbone.device import DeviceSequence
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.backbone.torch_graphs import StepGraphs
from duologue.runtime.backbone.torch_ops import PlainOps, StepRows
from duologue.runtime.backbone.torch_ways import Way
from duologue.runtime.config import LmConfig

if importlib.util.find_spec("triton") is None:
    pytest.skip("torch's CUDA wheels bring triton, its CPU wheels do not", allow_module_level=True)

MAX_ROWS, SLOTS = 300, 5
TOLERANCE = {torch.float32: 2e-6, torch.float16: 4e-3}


def _lm(num_heads: int, num_kv_heads: int, head_dim: int) -> LmConfig:
    return LmConfig((9, 5), (0, 1), 48, 100, 1, num_heads, num_kv_heads, head_dim)


SHAPES = [_lm(6, 2, 8), _lm(4, 4, 24), _lm(2, 1, 64)]


@pytest.fixture(scope="module")
def kernels() -> Iterator[Any]:
    torch.set_num_threads(1)
    if "triton" in sys.modules:
        pytest.skip("triton was loaded for a GPU: run this file alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        yield importlib.import_module("duologue.runtime.backbone.torch_kernel_ops")


@pytest.fixture(params=SHAPES, ids=lambda lm: f"{lm.num_heads}x{lm.num_kv_heads}x{lm.head_dim}")
def lm(request: pytest.FixtureRequest) -> LmConfig:
    return request.param


@pytest.fixture(params=list(TOLERANCE), ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def _assert_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.dtype == wanted.dtype
    bound = TOLERANCE[wanted.dtype]
    torch.testing.assert_close(found, wanted, rtol=bound, atol=bound)


def _rows(lm: LmConfig, lengths: list[int], dtype: torch.dtype) -> StepRows:
    angles = torch.randn(len(lengths), lm.head_dim // 2)
    return StepRows(
        seats=torch.tensor([3, 0, 4, 1][: len(lengths)]),
        places=torch.tensor(lengths) - 1,
        lengths=torch.tensor(lengths),
        cos=angles.cos().to(dtype),
        sin=angles.sin().to(dtype),
    )


def _cache(lm: LmConfig, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    shape = SLOTS, lm.num_kv_heads, MAX_ROWS, lm.head_dim
    return torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)


@pytest.mark.parametrize("has_update", [False, True])
def test_norm_of_a_sum(kernels: Any, lm: LmConfig, dtype: torch.dtype, has_update: bool) -> None:
    hidden, update, weight = (torch.randn(n, 48).to(dtype) for n in (3, 3, 1))
    given = update if has_update else None
    copies = hidden.clone(), hidden.clone()
    found = kernels.KernelOps(lm, num_cores=2).add_norm(copies[0], given, weight[0])
    wanted = PlainOps(lm, is_cpu=True).add_norm(copies[1], given, weight[0])
    _assert_near(found, wanted)
    torch.testing.assert_close(copies[0], copies[1], rtol=0, atol=0)


def test_queries_keys_and_values_go_where_they_belong(
    kernels: Any, lm: LmConfig, dtype: torch.dtype
) -> None:
    width = (lm.num_heads + 2 * lm.num_kv_heads) * lm.head_dim
    joined = torch.randn(4, width).to(dtype)
    norms = torch.randn(lm.head_dim).to(dtype), torch.randn(lm.head_dim).to(dtype)
    rows = _rows(lm, [7, 1, 300, 64], dtype)
    caches = [_cache(lm, dtype)]
    caches.append((caches[0][0].clone(), caches[0][1].clone()))
    found = kernels.KernelOps(lm, num_cores=2).store(joined, norms, caches[0], rows)
    wanted = PlainOps(lm, is_cpu=True).store(joined, norms, caches[1], rows)
    _assert_near(found, wanted)
    _assert_near(caches[0][0], caches[1][0])
    torch.testing.assert_close(caches[0][1], caches[1][1], rtol=0, atol=0)


# Around the borders of blocks (64) and stretches (128).
@pytest.mark.parametrize("lengths", [[1, 64, 65, 127], [128, 129, 299, 300], [17]])
def test_attention_reads_the_live_rows(
    kernels: Any, lm: LmConfig, dtype: torch.dtype, lengths: list[int]
) -> None:
    query = torch.randn(len(lengths), lm.num_heads, lm.head_dim).to(dtype)
    rows, cache = _rows(lm, lengths, dtype), _cache(lm, dtype)
    wanted = PlainOps(lm, is_cpu=True).attend(query, cache, rows)
    for seat, length in zip(rows.seats.tolist(), lengths, strict=True):
        # A row that is not alive would show.
        cache[0][seat, :, length:] = torch.nan
        cache[1][seat, :, length:] = torch.nan
    for num_cores in (1, 40):
        ops = kernels.KernelOps(lm, num_cores=num_cores)
        found = ops.attend(query, cache, rows)
        _assert_near(found, wanted)
        alone = [ops.attend(query[n : n + 1], cache, _one(rows, n)) for n in range(len(lengths))]
        torch.testing.assert_close(torch.cat(alone), found, rtol=0, atol=0)


def _one(rows: StepRows, n: int) -> StepRows:
    parts = (rows.seats, rows.places, rows.lengths, rows.cos, rows.sin)
    return StepRows(*(part[n : n + 1] for part in parts))


def test_gate(kernels: Any, lm: LmConfig, dtype: torch.dtype) -> None:
    joined = torch.randn(3, 2 * 1100).to(dtype)
    found = kernels.KernelOps(lm, num_cores=2).gate(joined)
    _assert_near(found, PlainOps(lm, is_cpu=True).gate(joined))


def test_whole_steps_give_the_ids_of_plain_torch(kernels: Any, tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)

    class Kernels(TorchDeviceBackbone):
        def _make_graphs(self, way: Way) -> StepGraphs:
            ops = kernels.KernelOps(self.spec.lm, num_cores=2)
            return super()._make_graphs(dataclasses.replace(way, ops=ops))

    draws = np.random.default_rng(1).random((4, 2, lm.num_channels))
    sequence = DeviceSequence(
        last_row=random_ids(lm, 1)[0],
        num_steps=1,
        max_steps=20,
        rows_to_drain=None,
        forced=np.zeros((lm.max_delay, lm.num_channels), dtype=np.int64),
        fills=np.zeros(lm.num_channels, dtype=np.int64),
        speech_start=0,
        speech_stop=lm.vocab_sizes[0],
        end_of_speech=0,
        sampling=np.tile([1.0, 0.9, 30.0, 0.9, 1.0], (lm.num_channels, 1)),
    )
    found = []
    for kind in (TorchDeviceBackbone, Kernels):
        backbone = kind(lm, tmp_path / WEIGHTS, max_slots=2, max_rows=40)
        for slot in (0, 1):
            backbone.prefill(slot, random_ids(lm, 9 + slot, seed=slot))
            backbone.seat(slot, sequence)
        found.append(backbone.launch([1, 0], draws).wait().chosen)
    np.testing.assert_array_equal(found[1], found[0])


@pytest.mark.slow
def test_every_kernel_compiles_for_gpus_of_three_generations() -> None:
    """For T4, A100 and H100, down to machine code, which needs no GPU."""
    script = Path(__file__).parents[3] / "support" / "compile_kernels.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=170
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split().count("compiled") == 20
