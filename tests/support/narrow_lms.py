"""What weights in 8 bits mean, worked out from the definition of their formats, without torch."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.build_engines.narrow_weights import write_narrow_safetensors
from duologue.build_engines.safetensors_writer import write_arrays
from duologue.models import noise_bundle_path
from duologue.runtime.backbone.layout import HEAD, lm_shapes, matrix_shapes, scales_name
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.config import Bundle, LmConfig
from duologue.runtime.core import FloatArray


def _e4m3(bits: int) -> float:
    """Open Compute Project, "8-bit floating point": sign, 4 bits of exponent, 3 of mantissa."""
    sign = -1.0 if bits & 0x80 else 1.0
    exponent, mantissa = (bits >> 3) & 15, bits & 7
    if (exponent, mantissa) == (15, 7):
        return float("nan")
    if exponent == 0:
        return float(sign * mantissa * 2.0**-9)
    return float(sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7))


E4M3: FloatArray = np.array([_e4m3(bits) for bits in range(256)], np.float32)


def meaning(numbers: npt.NDArray[Any], dtype: str) -> FloatArray:
    """The numbers that are stored, before they are scaled."""
    return E4M3[numbers] if dtype == "fp8" else numbers.astype(np.float32)


def write_pair(lm: LmConfig, weights_path: Path, directory: Path, dtype: str) -> tuple[Path, Path]:
    """Narrow weights, and a plain file in float32 of what they mean, with heads of their own.

    The second is for a model with `tied_heads=False`.
    """
    narrow, plain = directory / f"{dtype}.safetensors", directory / f"{dtype}_meaning.safetensors"
    write_narrow_safetensors(lm, weights_path, narrow, dtype)
    stored, matrices = TensorFile(narrow), matrix_shapes(lm)
    arrays = {}
    for name in {**lm_shapes(lm), HEAD: ()}:
        if name in matrices:
            scales = stored[scales_name(name)].data
            arrays[name] = meaning(stored[name].data, dtype) * scales[:, None]
        else:
            arrays[name] = stored[name].float32()
    write_arrays(plain, arrays)
    return narrow, plain


def write_noise_bundle(directory: Path, dtype: str) -> Path:
    """The bundle `noise`, for the torch engine alone and with its matrices in 8 bits."""
    source, weights = noise_bundle_path(), f"lm.torch_{dtype}.safetensors"
    bundle = Bundle.load(source)
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns("lm.*", "bundle.json"))
    write_narrow_safetensors(bundle.lm, source / "lm.safetensors", directory / weights, dtype)
    entry = {"status": "built", "dtype": dtype, "weights": weights}
    codec = {key: value for key, value in bundle.engines.items() if key.startswith("codec")}
    bundle = dataclasses.replace(bundle, engines={"torch": entry, **codec}, files={})
    (directory / "bundle.json").write_text(bundle.to_json(), encoding="utf-8")
    return directory
