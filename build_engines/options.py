# SPDX-License-Identifier: Apache-2.0
"""What a build is asked for, checked before anything is read or written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from duologue.runtime.config import WindowConfig
from duologue.runtime.errors import ConfigError

ENGINES = ("torch", "onnx", "trtllm")
Precision = Literal["float32", "float16", "bfloat16"]
Quantization = Literal["int8", "int4", "fp8"]
QUANTIZATIONS: dict[str, Quantization] = {"int8": "int8", "int4": "int4", "fp8": "fp8"}
_WHY_NO_FP8 = (
    "no engine of this version takes fp8 weights: TensorRT-LLM will, on a GPU of compute "
    "capability 8.9 or more (Ada, Hopper), once its checkpoint carries scales measured on a "
    "trained model; allowed: fp32, fp16, bf16, and for onnx int8, int4"
)
PRECISIONS: dict[str, Precision] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Precision as the user names it -> as the bundle names it."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What to build, and how.

    Attributes:
        engines: for which engines of the language model.
        dtype: precision in which the weights of the language model are stored.
        quantization: "int8" or "int4" gives the onnx engine weights of its own in so few bits;
            "fp8" is known and refused: no engine takes it yet.
        codec_dtype: precision in which the weights of the codec are stored.
        tensor_parallel: GPUs over which TensorRT-LLM shares the model.
        trtllm_engine: False stops at TensorRT-LLM's checkpoint, which needs no GPU; the engine is
            built from it on the kind of GPU that it runs on.
        codec_config: yaml of the codec; None takes the one beside its weights.
        name: of the bundle; None takes that of its directory.
        description: a sentence for people.
        trained: False marks a model that makes noise.
        windows: the window ladder; None takes the codec's own.
        max_rows: rows of one request, prompt and speech; None takes what suits the model.
        max_slots: requests that run at the same time; None takes what suits the model.
        parity: whether the engines are compared with the reference.
    """

    engines: tuple[str, ...] = ("onnx",)
    dtype: Precision = "float32"
    quantization: Quantization | None = None
    codec_dtype: Precision = "float32"
    tensor_parallel: int = 1
    trtllm_engine: bool = False
    codec_config: Path | None = None
    name: str | None = None
    description: str = ""
    trained: bool = True
    windows: WindowConfig | None = None
    max_rows: int | None = None
    max_slots: int | None = None
    parity: bool = True

    def __post_init__(self) -> None:
        unknown = [engine for engine in self.engines if engine not in ENGINES]
        if unknown or not self.engines:
            raise ConfigError(f"engines is {self.engines!r}; allowed: some of {', '.join(ENGINES)}")
        for field in ("dtype", "codec_dtype"):
            if getattr(self, field) not in PRECISIONS.values():
                allowed = ", ".join(PRECISIONS.values())
                raise ConfigError(f"{field} is {getattr(self, field)!r}; allowed: {allowed}")
        if self.quantization == "fp8":
            raise ConfigError(f"dtype is 'fp8'; {_WHY_NO_FP8}")
        if self.quantization not in (None, *QUANTIZATIONS):
            raise ConfigError(f"quantization is {self.quantization!r}; allowed: None, int8, int4")
        if self.quantization is not None and "onnx" not in self.engines:
            raise ConfigError(
                f"quantization is {self.quantization!r}; allowed only with the engine onnx"
            )
        for field in ("tensor_parallel", "max_rows", "max_slots"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ConfigError(f"{field} is {value}; allowed: 1 or more")
