"""Compile the kernels of a step for several GPUs; run in a process of its own.

Compiling needs no GPU, but a process in which nothing has asked for Triton's interpreter.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from duologue.runtime.backbone import torch_end_kernels as end_kernels
from duologue.runtime.backbone import torch_kernels as kernels

# Compute capability and precision; in float32 a T4 has too little shared memory.
TARGETS = [(90, "bf16", 227), (90, "fp32", 227), (80, "fp16", 163), (75, "fp16", 64)]
WARP = 32
HEADS = {"GROUP": 2, "HEAD_DIM": 128, "STRETCH": 128, "BLOCK_DIM": 128}
ENDS = {"NUMBERS": 103, "CHANNELS": 8, "MAX_DELAY": 7}
PLACES = {"ROW": 4, "SPEECH": 12, "FILLS": 15, "TOP_K": 31, "DOES_SAMPLE": 39, "FORCED": 47}


def calls() -> list[tuple[Any, dict[str, Any]]]:
    """Kernels and their constants, of the published geometry."""
    keys = {**ENDS, "END_COLUMN": 14, "FILL_COLUMNS": 23, "BLOCK": 1024}
    finish = {**ENDS, **PLACES, "DEPTH": 7, "BLOCK_CHANNELS": 8, "CANDIDATES": 256}
    begin = {"NUMBERS": 103, "ROW": 4, "CHANNELS": 8, "HALF": 64, "BLOCK_HALF": 64, "BLOCK": 1024}
    return [
        (kernels.add_norm_kernel, {"HAS_UPDATE": False, "BLOCK": 2048}),
        (kernels.add_norm_kernel, {"HAS_UPDATE": True, "BLOCK": 2048}),
        (kernels.store_kernel, {"NUM_HEADS": 16, "NUM_KV_HEADS": 8, "HALF": 64, "BLOCK": 64}),
        (kernels.attend_kernel, {**HEADS, "BLOCK_GROUP": 16, "BLOCK_ROWS": 64}),
        (kernels.join_kernel, {**HEADS, "BLOCK": 16}),
        (kernels.gate_kernel, {"BLOCK": 1024}),
        (end_kernels.begin_kernel, begin),
        *((end_kernels.keys_kernel, {**keys, "HAS_HISTORY": flag}) for flag in (False, True)),
        *((end_kernels.finish_kernel, {**finish, "HAS_HISTORY": flag}) for flag in (False, True)),
    ]


TYPES = {
    **dict.fromkeys(("eps", "scale"), "fp32"),
    **dict.fromkeys(("width", "head_stride", "num_stretches"), "i32"),
    **dict.fromkeys(("last_seat", "spare_row", "last_angle"), "i32"),
    "seat_stride": "i64",
    **dict.fromkeys(("seats", "lengths", "places", "at", "numbers", "first_rows"), "*i64"),
    **dict.fromkeys(("channel_of", "first_columns", "delays", "best", "tick"), "*i64"),
    **dict.fromkeys(("outcome", "ids", "column_of"), "*i64"),
    **dict.fromkeys(("parts", "peaks", "sums"), "*fp32"),
    **dict.fromkeys(("reals", "uniforms"), "*fp64"),
    "seen": "*u8",
}


def compile_for(capability: int, dtype: str, max_shared_kib: int) -> None:
    """All kernels of the published geometry for one GPU."""
    for kernel, constants in calls():
        types = {name: TYPES.get(name, f"*{dtype}") for name in kernel.arg_names}
        if kernel is end_kernels.keys_kernel:
            types["keys"] = "*i64"
        types.update(dict.fromkeys(constants, "constexpr"))
        places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
        source = ASTSource(fn=kernel, signature=types, constexprs=places)
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, WARP))
        assert compiled.asm["cubin"]
        assert compiled.metadata.shared <= max_shared_kib * 1024, kernel.__name__
        sys.stdout.write(f"{kernel.__name__} compiled for {capability} in {dtype}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        for target in TARGETS:
            compile_for(*target)
