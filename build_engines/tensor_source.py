# SPDX-License-Identifier: Apache-2.0
"""The weights of a checkpoint folder by name, whichever way they were saved.

Known are `model.safetensors`, `model.safetensors.index.json` with its shards,
`pytorch_model.bin` and `pytorch_model.bin.index.json` with its shards. Files are mapped: a
tensor costs memory only while it is read.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.runtime.backbone.tensor_file import StoredTensor, TensorFile
from duologue.runtime.errors import ConfigError, EngineUnavailableError

SAFETENSORS_FILE = "model.safetensors"
TORCH_FILE = "pytorch_model.bin"
_FOREIGN_OBJECT = re.compile(r"GLOBAL:? ([\w.]+)")
_TORCH_DTYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}


def open_tensors(directory: Path) -> Mapping[str, StoredTensor]:
    """Find and map the weights of a checkpoint folder.

    Args:
        directory: where `config.json` lies too.

    Returns:
        Tensor name of the checkpoint -> tensor.

    Raises:
        ConfigError: there are no weights, a shard is missing, or a file is cut off or is not a
            file of tensors (a pickle of anything else is refused, never executed).
        EngineUnavailableError: the weights are `.bin` files, and torch is not installed.
    """
    for single in (SAFETENSORS_FILE, TORCH_FILE):
        index = directory / f"{single}.index.json"
        if index.is_file():
            return _open_shards(directory, index)
        if (directory / single).is_file():
            return _open_file(directory / single)
    raise ConfigError(
        f"{directory} has no weights; allowed: {SAFETENSORS_FILE} or {TORCH_FILE}, "
        "each also in shards with an .index.json"
    )


def why_unreadable(error: Exception) -> str:
    """What is wrong with a torch file, in one line.

    Torch's own words for a pickle of other things advise to execute it.
    """
    if isinstance(error, pickle.UnpicklingError):
        found = _FOREIGN_OBJECT.search(str(error))
        name = f" ({found.group(1)})" if found else ""
        return f"it holds Python objects{name}, which are never executed"
    return (str(error) or type(error).__name__).splitlines()[0]


def _open_shards(directory: Path, index: Path) -> dict[str, StoredTensor]:
    try:
        weight_map = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{index} is no index of shards: {error!r}") from error
    shards: dict[str, Mapping[str, StoredTensor]] = {}
    tensors: dict[str, StoredTensor] = {}
    for name, file_name in weight_map.items():
        if file_name != Path(file_name).name:
            raise ConfigError(f"{index}: {name} lies in {file_name!r}; allowed: a file beside it")
        if file_name not in shards:
            shards[file_name] = _open_file(directory / file_name)
        if name not in shards[file_name]:
            raise ConfigError(
                f"{directory / file_name} has no tensor {name}, which the index names"
            )
        tensors[name] = shards[file_name][name]
    return tensors


def _open_file(path: Path) -> Mapping[str, StoredTensor]:
    return TensorFile(path) if path.suffix == ".safetensors" else _open_torch(path)


def _open_torch(path: Path) -> dict[str, StoredTensor]:
    """Map a state dict that torch saved."""
    if not path.is_file():
        raise ConfigError(f"{path} is missing")
    try:
        import torch
    except ImportError as error:
        raise EngineUnavailableError(
            f"{path.name} needs torch to be read: pip install 'duologue[build]'"
        ) from error
    is_mapped = zipfile.is_zipfile(path)
    try:
        with warnings.catch_warnings():
            # Torch wonders aloud about pickles that it then refuses.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(
            f"{path} is cut off or is no file of tensors: {why_unreadable(error)}"
        ) from error
    if not isinstance(state, dict):
        raise ConfigError(f"{path} holds a {type(state).__name__}; allowed: a state dict")
    return {str(name): _from_torch(path, name, tensor) for name, tensor in state.items()}


def _from_torch(path: Path, name: str, tensor: Any) -> StoredTensor:
    import torch

    dtype = _TORCH_DTYPES.get(str(getattr(tensor, "dtype", type(tensor).__name__)))
    if dtype is None:
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise ConfigError(f"{path}: {name} is a {kind}; allowed: {', '.join(_TORCH_DTYPES)}")
    values = tensor.detach().contiguous()
    data = values.view(torch.uint16) if dtype == "BF16" else values
    return StoredTensor(dtype, data.numpy())
