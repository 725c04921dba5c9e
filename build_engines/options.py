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
TAKERS: dict[str, tuple[str, ...]] = {
    "int8": ("onnx", "torch"),
    "int4": ("onnx",),
    "fp8": ("torch",),
}
"""Which engines take weights in so few bits; the others get those of the bundle."""
PRECISIONS: dict[str, Precision] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
"""Precision as the user names it -> as the bundle names it."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What to build, and how.

    Attributes:
        engines: for which engines of the language model.
        dtype: precision in which the weights of the language model are stored.
        quantization: gives the engines that take it (`TAKERS`) weights of their own in so few bits.
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
        if self.quantization is not None:
            self._check_quantization(self.quantization)
        for field in ("tensor_parallel", "max_rows", "max_slots"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ConfigError(f"{field} is {value}; allowed: 1 or more")

    def quantization_of(self, engine: str) -> Quantization | None:
        """What an engine gets; None if it is not built or reads the weights of the bundle."""
        quantization = self.quantization
        if quantization is None or engine not in self.engines:
            return None
        return quantization if engine in TAKERS[quantization] else None

    def _check_quantization(self, quantization: str) -> None:
        if quantization not in QUANTIZATIONS:
            allowed = ", ".join(QUANTIZATIONS)
            raise ConfigError(f"quantization is {quantization!r}; allowed: None, {allowed}")
        takers = TAKERS[quantization]
        if not set(takers) & set(self.engines):
            raise ConfigError(
                f"quantization is {quantization!r} and engines is {self.engines!r}; "
                f"allowed with {' or '.join(takers)} among them"
            )
