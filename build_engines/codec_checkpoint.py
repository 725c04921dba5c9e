# SPDX-License-Identifier: Apache-2.0
"""Read a published XY-Tokenizer checkpoint and write the codec's weights into a bundle.

Layouts that are read (OpenMOSS/MOSS-TTSD, legacy/v0.7/XY_Tokenizer and fuse_model_with_codec.py):
a torch file `{"generator": state_dict}`, the bare state dict, or safetensors; names of the
original or of the Hugging Face variant; with or without the `codec_model.` prefix of a
checkpoint in which language model and codec are fused.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import yaml
from torch import Tensor

from duologue.build_engines.tensor_source import why_unreadable
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.codec.xy.tokenizer import XyTokenizer
from duologue.runtime.config import CodecConfig
from duologue.runtime.errors import ConfigError

CODEC_FILE = "codec.safetensors"
STORAGE_DTYPES = ("float32", "float16", "bfloat16")

_FUSED_PREFIX = "codec_model."
_RENAMES = (
    (re.compile(r"\.mlp\.(fc[12])\."), r".\1."),
    (re.compile(r"\.parametrizations\.weight\.original0$"), ".weight_g"),
    (re.compile(r"\.parametrizations\.weight\.original1$"), ".weight_v"),
    (re.compile(r"\.positional_embedding\.weight$"), ".positional_embedding"),
)
# What only training needs: how often a code was used, and running means.
_TRAINING_ONLY = re.compile(r"^quantizer\.quantizers\.\d+\.(inited|cluster_size|embed_avg)$")
_WEIGHT_NORMED = ("quantizer.input_proj.weight", "quantizer.output_proj.weight")
# What a damaged file can make its readers raise.
_UNREADABLE = (
    pickle.UnpicklingError,
    safetensors.SafetensorError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
)
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True, eq=False)
class CodecCheckpoint:
    """A codec as it is built from.

    Attributes:
        config: rates, limits and hyper-parameters for the bundle.
        tensors: float32, by the names of `XyTokenizer`; weight norm is folded in.
    """

    config: CodecConfig
    tensors: dict[str, Tensor]

    @property
    def parameters(self) -> XyParameters:
        """The hyper-parameters."""
        return XyParameters.from_dict(self.config.model)


def load_codec_checkpoint(weights_path: Path, config_path: Path) -> CodecCheckpoint:
    """Read weights and yaml of an XY-Tokenizer.

    Args:
        weights_path: `.ckpt`, `.pt`, `.bin` or `.safetensors`.
        config_path: yaml with `generator_params`.

    Raises:
        ConfigError: a file is missing or holds something else; a tensor is missing, left over
            or of the wrong shape (named, with the shape found and the shape wanted).
    """
    params = _read_params(config_path)
    parameters = XyParameters.from_dict(params)
    tensors = _normalize(_read_tensors(weights_path))
    _check(tensors, _wanted_shapes(parameters), weights_path.name)
    return CodecCheckpoint(parameters.codec_config(params), tensors)


def write_codec_weights(tensors: Mapping[str, Tensor], path: Path, dtype: str = "float32") -> None:
    """Write `codec.safetensors`, from which every engine of the codec reads.

    Args:
        tensors: of a `CodecCheckpoint`.
        path: file to write.
        dtype: one of `STORAGE_DTYPES`, for matrices and kernels. Vectors and codebooks stay
            in float32: they are small, and the nearest code depends on the latter.

    Raises:
        ConfigError: the dtype is none of these.
    """
    if dtype not in STORAGE_DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; allowed: {STORAGE_DTYPES}")
    target = getattr(torch, dtype)
    stored = {
        name: tensor.to(torch.float32 if _stays_float32(name, tensor) else target).contiguous()
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(stored, str(path))


def write_torch_checkpoint(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write `{"generator": state_dict}` as the reference does, weight norm and all.

    Args:
        tensors: by the names of `XyTokenizer`, for instance its state dict.
        path: file to write.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        state[name] = tensor.clone()
        if name in _WEIGHT_NORMED:
            direction = state.pop(name)
            state[name + "_g"] = direction.flatten(1).norm(dim=1).view(-1, 1, 1)
            state[name + "_v"] = direction
        if name.endswith(".codebook"):
            stem = name.removesuffix("codebook")
            state[stem + "inited"] = torch.ones(1, dtype=torch.bool)
            state[stem + "cluster_size"] = torch.ones(len(tensor))
            state[stem + "embed_avg"] = tensor.clone()
    torch.save({"generator": state}, path)


def _stays_float32(name: str, tensor: Tensor) -> bool:
    return tensor.ndim == 1 or name.endswith(".codebook")


def _read_params(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"codec configuration {path} does not exist")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"codec configuration {path.name} is no yaml: {error}") from error
    params = data.get("generator_params", data) if isinstance(data, dict) else None
    if not isinstance(params, dict):
        raise ConfigError(f"codec configuration {path.name} has no mapping generator_params")
    return params


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a file; nothing in it is executed."""
    if not path.is_file():
        raise ConfigError(f"codec checkpoint {path} does not exist")
    is_safetensors = path.suffix == ".safetensors"
    if not is_safetensors and not zipfile.is_zipfile(path):
        raise ConfigError(f"codec checkpoint {path.name} is no file of tensors: not a zip archive")
    try:
        if is_safetensors:
            data: Any = safetensors.torch.load_file(str(path))
        else:
            data = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ConfigError(
            f"codec checkpoint {path.name} is no file of tensors: {why_unreadable(error)}"
        ) from error
    if isinstance(data, dict) and isinstance(data.get("generator"), dict):
        data = data["generator"]
    if not isinstance(data, dict) or not all(isinstance(t, Tensor) for t in data.values()):
        raise ConfigError(f"codec checkpoint {path.name} is no mapping of names to tensors")
    return data


def _normalize(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One spelling of names, weight norm folded, training's own tensors left out."""
    if any(name.startswith(_FUSED_PREFIX) for name in found):
        cut = len(_FUSED_PREFIX)
        found = {n[cut:]: t for n, t in found.items() if n.startswith(_FUSED_PREFIX)}
    tensors = {}
    for name, tensor in found.items():
        for pattern, replacement in _RENAMES:
            name = pattern.sub(replacement, name)
        if not _TRAINING_ONLY.match(name):
            tensors[name] = tensor.float()
    for name in [n for n in tensors if n.endswith(".weight_g")]:
        stem = name.removesuffix("_g")
        if stem + "_v" in tensors:
            tensors[stem] = _fold(tensors.pop(name), tensors.pop(stem + "_v"))
    return tensors


def _fold(gain: Tensor, direction: Tensor) -> Tensor:
    """Weight norm per output channel: w = g * v / |v|."""
    norm = direction.flatten(1).norm(dim=1).view(gain.shape)
    weight: Tensor = direction * (gain / norm)
    return weight


def _wanted_shapes(parameters: XyParameters) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = XyTokenizer(parameters)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], file_name: str
) -> None:
    faults = [
        f"{name}: found {list(tensors[name].shape) if name in tensors else 'nothing'},"
        f" wanted {list(shape)}"
        for name, shape in wanted.items()
        if name not in tensors or tuple(tensors[name].shape) != shape
    ]
    faults += [
        f"{name}: found {list(tensor.shape)}, wanted nothing"
        for name, tensor in tensors.items()
        if name not in wanted
    ]
    if faults:
        more = f" and {len(faults) - _MAX_NAMED} more" if len(faults) > _MAX_NAMED else ""
        named = "; ".join(faults[:_MAX_NAMED])
        raise ConfigError(f"codec checkpoint {file_name} does not fit: {named}{more}")
