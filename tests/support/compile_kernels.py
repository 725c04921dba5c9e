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

from duologue.runtime.backbone import torch_kernels as kernels

# Compute capability and precision; in float32 a T4 has too little shared memory.
TARGETS = [(90, "bf16", 227), (90, "fp32", 227), (80, "fp16", 163), (75, "fp16", 64)]
WARP = 32
HEADS = {"GROUP": 2, "HEAD_DIM": 128, "STRETCH": 128, "BLOCK_DIM": 128}


def calls(dtype: str) -> list[tuple[Any, dict[str, Any], dict[str, str]]]:
    """Kernel, its constants, and the types of its arguments that are not pointers of `dtype`."""
    seats = {"seats": "*i64", "lengths": "*i64", "places": "*i64"}
    parts = {"parts": "*fp32", "peaks": "*fp32", "sums": "*fp32", **seats}
    return [
        (kernels.add_norm_kernel, {"HAS_UPDATE": True, "BLOCK": 2048}, {}),
        (
            kernels.store_kernel,
            {"NUM_HEADS": 16, "NUM_KV_HEADS": 8, "HALF": 64, "BLOCK": 64},
            seats,
        ),
        (kernels.attend_kernel, {**HEADS, "BLOCK_GROUP": 16, "BLOCK_ROWS": 64}, parts),
        (kernels.join_kernel, {**HEADS, "BLOCK": 16}, parts),
        (kernels.gate_kernel, {"BLOCK": 1024}, {}),
    ]


NUMBERS = {
    "eps": "fp32",
    "scale": "fp32",
    "width": "i32",
    "seat_stride": "i64",
    "head_stride": "i32",
    "num_stretches": "i32",
}


def compile_for(capability: int, dtype: str, max_shared_kib: int) -> None:
    """All kernels of the published geometry for one GPU."""
    for kernel, constants, special in calls(dtype):
        types = {name: {**NUMBERS, **special}.get(name, f"*{dtype}") for name in kernel.arg_names}
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
