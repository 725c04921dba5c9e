"""Compile the kernels of a step for several GPUs; run in a process of its own.

Compiling needs no GPU, but a process in which nothing has asked for Triton's interpreter.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from duologue.runtime.backbone import torch_end_kernels as end_kernels
from duologue.runtime.backbone import torch_kernels as kernels
from duologue.runtime.backbone import torch_narrow_kernels as narrow_kernels

# Compute capability and precision; in float32 a T4 has too little shared memory.
TARGETS = [(90, "bf16", 227), (90, "fp32", 227), (80, "fp16", 163), (75, "fp16", 64)]
WARP = 32
HEADS = {"GROUP": 2, "HEAD_DIM": 128, "STRETCH": 128, "BLOCK_DIM": 128}
ENDS = {"NUMBERS": 103, "CHANNELS": 8, "MAX_DELAY": 7}
PLACES = {"ROW": 4, "SPEECH": 12, "FILLS": 15, "TOP_K": 31, "DOES_SAMPLE": 39, "FORCED": 47}


@dataclass(frozen=True)
class Call:
    """A kernel as it is launched: its constants, and what differs from `TYPES` and defaults."""

    kernel: Any
    constants: dict[str, Any]
    types: dict[str, str] = field(default_factory=dict)
    options: dict[str, int] = field(default_factory=dict)


def calls(capability: int) -> list[Call]:
    """All kernels, of the published geometry, as they are launched on a GPU."""
    keys = {**ENDS, "END_COLUMN": 14, "FILL_COLUMNS": 23, "BLOCK": 1024}
    finish = {**ENDS, **PLACES, "DEPTH": 7, "BLOCK_CHANNELS": 8, "CANDIDATES": 256}
    begin = {"NUMBERS": 103, "ROW": 4, "CHANNELS": 8, "HALF": 64, "BLOCK_HALF": 64, "BLOCK": 1024}
    store, histories = {"NUM_HEADS": 16, "NUM_KV_HEADS": 8, "HALF": 64, "BLOCK": 64}, (False, True)
    return [
        Call(kernels.add_norm_kernel, {"HAS_UPDATE": False, "BLOCK": 2048}),
        Call(kernels.add_norm_kernel, {"HAS_UPDATE": True, "BLOCK": 2048}),
        Call(kernels.store_kernel, store),
        Call(kernels.attend_kernel, {**HEADS, "BLOCK_GROUP": 16, "BLOCK_ROWS": 64}),
        Call(kernels.join_kernel, {**HEADS, "BLOCK": 16}),
        Call(kernels.gate_kernel, {"BLOCK": 1024}),
        Call(end_kernels.begin_kernel, begin),
        *(
            Call(end_kernels.keys_kernel, {**keys, "HAS_HISTORY": flag}, {"keys": "*i64"})
            for flag in histories
        ),
        *(Call(end_kernels.finish_kernel, {**finish, "HAS_HISTORY": flag}) for flag in histories),
        *narrow_calls(capability),
    ]


def narrow_calls(capability: int) -> Iterator[Call]:
    """Products with int8 and fp8: in shares for a lone row, whole for the tallest tile."""
    is_old = capability < 80
    for numbers, is_float8 in (("*i8", False), ("*u8", True)):
        for height, has_shares in ((16, True), (64, False)):
            sizes = {"BLOCK_OUT": 64, "BLOCK_BATCH": height, "BLOCK_IN": 64 if is_old else 128}
            kind = {"IS_FLOAT8": is_float8, "HAS_SHARES": has_shares, "IN_FLOAT32": is_old}
            types = {"numbers": numbers, **({"product": "*fp32"} if has_shares else {})}
            constants, options = {**kind, **sizes}, {"num_stages": 4}
            yield Call(narrow_kernels.multiply_kernel, constants, types, options)
        yield Call(narrow_kernels.join_shares_kernel, {"IS_FLOAT8": is_float8, "BLOCK": 512})


TYPES = {
    **dict.fromkeys(("eps", "scale"), "fp32"),
    **dict.fromkeys(("width", "head_stride", "num_stretches"), "i32"),
    **dict.fromkeys(("last_seat", "spare_row", "last_angle"), "i32"),
    "seat_stride": "i64",
    **dict.fromkeys(("seats", "lengths", "places", "at", "numbers", "first_rows"), "*i64"),
    **dict.fromkeys(("channel_of", "first_columns", "delays", "best", "tick"), "*i64"),
    **dict.fromkeys(("outcome", "ids", "column_of"), "*i64"),
    **dict.fromkeys(("batch", "width_in", "width_out", "share_blocks", "num_shares"), "i32"),
    **dict.fromkeys(("parts", "peaks", "sums", "scales"), "*fp32"),
    **dict.fromkeys(("reals", "uniforms"), "*fp64"),
    "seen": "*u8",
}


def compile_for(capability: int, dtype: str, max_shared_kib: int) -> None:
    """All kernels of the published geometry for one GPU."""
    for call in calls(capability):
        names = call.kernel.arg_names
        types = {name: TYPES.get(name, f"*{dtype}") for name in names}
        types.update(call.types)
        types.update(dict.fromkeys(call.constants, "constexpr"))
        places = {(names.index(name),): value for name, value in call.constants.items()}
        # Memory begins on whole lines, and so do rows of these widths: loads are as wide as can be.
        aligned = [name for name in names if types[name][0] == "*" or name.startswith("width")]
        divisible = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
        source = ASTSource(fn=call.kernel, signature=types, constexprs=places, attrs=divisible)
        target = GPUTarget("cuda", capability, WARP)
        compiled = triton.compile(source, target=target, options=call.options or None)
        assert compiled.asm["cubin"]
        assert compiled.metadata.shared <= max_shared_kib * 1024, call.kernel
        sys.stdout.write(f"{call.kernel.__name__} compiled for {capability} in {dtype}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        for target in TARGETS:
            compile_for(*target)
