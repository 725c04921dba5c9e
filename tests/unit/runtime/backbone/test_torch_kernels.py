"""The kernels of a step, run by Triton's interpreter on a CPU, against plain torch.

Where something else in the process has loaded triton already they are skipped: run this file alone
then.
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
from interpreted import interpret_triton
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
    for _ in interpret_triton():
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


def _sequences(lm: LmConfig, has_history: bool) -> list[DeviceSequence]:
    """One that draws, one that is greedy, one whose speech soon ends, and one that soon rests."""
    rng = np.random.default_rng(3)
    draws = [1.3 if has_history else 1.0, 0.9, 30.0, 0.9, 1.0]
    all_but_last = [1.0, 1.1, 150.0, 1.0, 1.0]
    settings = [draws, [1.0, 1.0, np.inf, 1.0, 0.0], all_but_last, draws]
    vocabulary = lm.vocab_sizes[0]
    return [
        DeviceSequence(
            last_row=random_ids(lm, 1, seed=place)[0],
            num_steps=1,
            max_steps=4 if place == 3 else 30,
            rows_to_drain=None,
            forced=random_ids(lm, lm.max_delay, seed=7),
            fills=np.array([0, *[size - 1 for size in lm.vocab_sizes[1:]]]),
            speech_start=0,
            speech_stop=vocabulary // 3 if place == 2 else vocabulary,
            end_of_speech=5,
            sampling=np.tile(channel, (lm.num_channels, 1)),
            seen=rng.random(lm.logit_offsets[-1]) < 0.3 if has_history else None,
        )
        for place, channel in enumerate(settings)
    ]


@pytest.mark.parametrize("channel0_ids", [None, [[0, 40], [60, 300]]])
@pytest.mark.parametrize("has_history", [False, True])
def test_whole_steps_give_the_ids_of_plain_torch(
    kernels: Any, tmp_path: Path, has_history: bool, channel0_ids: Any
) -> None:
    lm = build_random_lm(tmp_path)
    ends = importlib.import_module("duologue.runtime.backbone.torch_kernel_ends")

    class Kernels(TorchDeviceBackbone):
        def _make_graphs(self, way: Way) -> StepGraphs:
            ops = kernels.KernelOps(self.spec.lm, num_cores=2)
            way = dataclasses.replace(way, ops=ops, make_ends=ends.KernelEnds)
            return super()._make_graphs(way)

    draws = np.random.default_rng(1).random((3, 4, 4, lm.num_channels))
    found = []
    for kind in (TorchDeviceBackbone, Kernels):
        backbone = kind(lm, tmp_path / WEIGHTS, max_slots=5, max_rows=60, channel0_ids=channel0_ids)
        for slot, sequence in enumerate(_sequences(lm, has_history)):
            backbone.prefill(slot, random_ids(lm, 9 + slot, seed=slot))
            backbone.seat(slot, sequence)
        ids = [backbone.launch([1, 0, 3, 2], block).wait() for block in draws]
        chosen = np.concatenate([block.chosen for block in ids])
        assert all(block.is_sound.all() for block in ids)
        states = backbone._states
        found.append((chosen, states.numbers.clone(), states.seen[:, :-1].clone()))
    (plain, numbers, seen), (by_kernels, *tables) = found
    steps = numbers[:, 1].tolist()
    assert steps[:2] == [13, 13]
    assert steps[2] < 13, "the third was to drain"
    assert steps[3:] == [4, 0, 0]
    # What stands behind an end means nothing, and may differ.
    for place, slot in enumerate([1, 0, 3, 2]):
        alive = steps[slot] - 1
        np.testing.assert_array_equal(by_kernels[:alive, place], plain[:alive, place])
    torch.testing.assert_close(tables[0], numbers, rtol=0, atol=0)
    torch.testing.assert_close(tables[1], seen, rtol=0, atol=0)


# The interpreter's numpy warns of what the test is about.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_no_numbers_are_found(kernels: Any, tmp_path: Path) -> None:
    lm = build_random_lm(tmp_path)
    ends = importlib.import_module("duologue.runtime.backbone.torch_kernel_ends")

    class Kernels(TorchDeviceBackbone):
        def _make_graphs(self, way: Way) -> StepGraphs:
            return super()._make_graphs(dataclasses.replace(way, make_ends=ends.KernelEnds))

    backbone = Kernels(lm, tmp_path / WEIGHTS, max_slots=2, max_rows=60)
    for slot, sequence in enumerate(_sequences(lm, False)[:2]):
        backbone.prefill(slot, random_ids(lm, 9, seed=slot))
        backbone.seat(slot, sequence)
    backbone._cache.values[0][1, :, 3] = torch.nan
    found = backbone.launch([0, 1], np.full((2, 2, lm.num_channels), 0.5)).wait()
    assert found.is_sound[:, 0].all()
    assert not found.is_sound[0, 1]
    assert backbone._states.numbers[1, 1:4].tolist() == [2, -1, 0]


@pytest.mark.slow
def test_every_kernel_compiles_for_gpus_of_three_generations() -> None:
    """For T4, A100 and H100, down to machine code, which needs no GPU."""
    script = Path(__file__).parents[3] / "support" / "compile_kernels.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=170
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split().count("compiled") == 68
