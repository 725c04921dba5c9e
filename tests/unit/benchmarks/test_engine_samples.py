# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.benchmarks.engine.floor import step_bytes, step_flops, weights_per_step
from duologue.benchmarks.engine.plan import Cell, EnginePlan
from duologue.benchmarks.engine.samples import Floor, LoopTimes, Measurement, best_rows
from duologue.client.errors import RequestError
from duologue.runtime.backbone.base import BackboneSpec
from duologue.runtime.config import LmConfig

CELL = Cell(batch=2, context=100)
# The geometry of MOSS-TTSD v0.5 / v0.7: Qwen3-1.7B with eight channels.
FULL = LmConfig((152_697, *[1025] * 7), tuple(range(8)), 2048, 6144, 28, 16, 8, 128)


def _measurement(threads, step_s, plain_s, *, engine="onnx", cell=CELL, floor_s=0.001):
    ours = LoopTimes([0.1], [step_s] * 9, [step_s / 4] * 9)
    plain = LoopTimes([0.2], [plain_s] * 9, [plain_s / 2] * 9)
    return Measurement(
        engine, "int8", cell, threads, ours, plain, Floor(1000, 2000, floor_s, floor_s / 2)
    )


def _spec(lm, dtype="float32", kv_bytes_per_row=100, engine="onnx"):
    return BackboneSpec(lm, engine, dtype, 4, 1000, kv_bytes_per_row)


def test_each_side_is_told_at_the_thread_count_that_suits_it():
    (row,) = best_rows([_measurement(1, 0.004, 0.020), _measurement(2, 0.005, 0.010)])
    assert (row["threads"], row["step_ms"]) == (1, 4.0)
    assert (row["plain_threads"], row["plain_ms"]) == (2, 10.0)
    assert row["speedup"] == 2.5
    assert row["floor_share"] == 0.25
    assert row["sampling_ms"] == 1.0
    assert row["step_ci_ms"] == [4.0, 4.0]


def test_there_is_a_row_per_engine_and_cell_in_order():
    cells = [Cell(1, 100), Cell(8, 100)]
    rows = best_rows(
        [
            _measurement(threads, 0.01, 0.02, engine=engine, cell=cell)
            for engine in ("torch", "onnx")
            for threads in (1, 2)
            for cell in cells
        ]
    )
    assert [(row["engine"], row["batch"]) for row in rows] == [
        ("torch", 1),
        ("torch", 8),
        ("onnx", 1),
        ("onnx", 8),
    ]


def test_the_floor_is_the_longer_of_its_two_parts():
    assert Floor(1, 1, bytes_s=0.2, flops_s=0.1).seconds == 0.2
    assert Floor(1, 1, bytes_s=0.1, flops_s=0.3).seconds == 0.3


def test_the_published_size_moves_the_bytes_that_its_arithmetic_says():
    """1.41 G weights of the body and 0.33 G of the heads; 112 KiB of cache per row in bfloat16."""
    assert weights_per_step(FULL) == pytest.approx(1.409e9 + 0.327e9, rel=0.002)
    spec = _spec(FULL, "bfloat16", kv_bytes_per_row=112 * 1024)
    moved = step_bytes(spec, Cell(1, 2000), "cuda")
    assert moved == pytest.approx(3.47e9 + 229e6, rel=0.005)
    assert step_flops(FULL, Cell(1, 1)) == pytest.approx(3.47e9, rel=0.005)


@pytest.mark.parametrize(
    ("dtype", "device", "size"),
    [
        ("float16", "cpu", 4),
        ("float16", "cuda", 2),
        ("float32", "cuda", 4),
        ("int8", "cpu", 1.125),
        ("int4", "cpu", 0.625),
    ],
)
def test_weights_are_read_in_the_precision_that_is_computed_with(dtype, device, size):
    spec = _spec(FULL, dtype, kv_bytes_per_row=0)
    assert step_bytes(spec, CELL, device) == math.floor(size * weights_per_step(FULL))


@pytest.mark.parametrize("dtype", ["int8", "fp8"])
def test_the_torch_engine_halves_what_a_step_reads(dtype):
    spec = _spec(FULL, dtype, kv_bytes_per_row=0, engine="torch")
    assert (
        step_bytes(spec, CELL, "cuda") == weights_per_step(FULL) == pytest.approx(1.74e9, rel=0.002)
    )


@given(st.integers(1, 256), st.integers(1, 8000))
def test_bytes_and_operations_grow_with_batch_and_context(batch, context):
    spec, cell = _spec(FULL), Cell(batch, context)
    assert step_bytes(spec, Cell(batch + 1, context), "cpu") == (
        step_bytes(spec, cell, "cpu") + context * spec.kv_bytes_per_row
    )
    assert step_flops(FULL, Cell(2 * batch, context)) == 2 * step_flops(FULL, cell)
    assert step_flops(FULL, Cell(batch, context + 1)) > step_flops(FULL, cell)


def test_a_plan_counts_its_cells_and_refuses_nonsense():
    plan = EnginePlan(("onnx", "torch"), (1, 8), (100,), (1, 2), steps=5, warmup_steps=1)
    assert [*plan.cells] == [Cell(1, 100), Cell(8, 100)]
    assert plan.num_measurements == 8
    assert plan.rows_needed == 106
    for wrong in ({"engines": ()}, {"batches": (0,)}, {"threads": ()}, {"steps": 0}):
        values = {"engines": ("onnx",), "batches": (1,), "contexts": (1,), "threads": (1,)}
        with pytest.raises(RequestError, match="allowed"):
            EnginePlan(**{**values, **wrong})
