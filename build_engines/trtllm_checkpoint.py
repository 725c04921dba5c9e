# SPDX-License-Identifier: Apache-2.0
"""TensorRT-LLM checkpoint of the Qwen3 body, and the way back, with numpy alone.

Names and shares are told in `trtllm_layout`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.build_engines.checkpoint import WEIGHT_DTYPES
from duologue.build_engines.safetensors_writer import TensorEntry, write_safetensors
from duologue.build_engines.trtllm_layout import Part, body_config, checkpoint_config, rank_layout
from duologue.runtime.backbone.tensor_file import StoredTensor, TensorFile, float32_to_bfloat16
from duologue.runtime.config import LmConfig
from duologue.runtime.errors import ConfigError

CONFIG_FILE = "config.json"

_Layout = dict[str, tuple[Part, ...]]
_Array = npt.NDArray[Any]


def rank_file(rank: int) -> str:
    """Name of the file that holds one rank's share."""
    return f"rank{rank}.safetensors"


def write_trtllm_checkpoint(
    source: TensorFile,
    lm: LmConfig,
    out_dir: Path,
    *,
    dtype: str = "bfloat16",
    tensor_parallel: int = 1,
) -> list[Path]:
    """Write one `rank{r}.safetensors` per GPU and `config.json`, one tensor at a time.

    Args:
        source: a bundle's `lm.safetensors`.
        lm: shape of the model.
        out_dir: is made when missing.
        dtype: "float32", "float16" or "bfloat16".
        tensor_parallel: number of GPUs that share every layer.

    Returns:
        The files written, `config.json` last.

    Raises:
        ConfigError: the model does not divide over so many ranks, or a tensor is missing or
            of another shape.
    """
    if dtype not in WEIGHT_DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; allowed for trtllm: {', '.join(WEIGHT_DTYPES)}")
    stored = WEIGHT_DTYPES[dtype]
    layout = rank_layout(lm, tensor_parallel)
    for parts in layout.values():
        source.require(parts[0].source, parts[0].shape)
    entries = [
        TensorEntry(name, stored, _joined_shape(parts, tensor_parallel))
        for name, parts in layout.items()
    ]
    out_dir.mkdir(parents=True, exist_ok=True)
    written = [out_dir / rank_file(rank) for rank in range(tensor_parallel)]
    for rank, path in enumerate(written):
        write_safetensors(
            path, entries, _rank_reader(source, layout, rank, tensor_parallel, stored)
        )
    config = json.dumps(checkpoint_config(lm, dtype, tensor_parallel), indent=2)
    (out_dir / CONFIG_FILE).write_text(config + "\n", encoding="utf-8")
    return [*written, out_dir / CONFIG_FILE]


def read_trtllm_checkpoint(directory: Path) -> dict[str, _Array]:
    """Put the body together again, bit for bit.

    Args:
        directory: what `write_trtllm_checkpoint` wrote.

    Returns:
        Name in `lm.safetensors` -> values (bfloat16 as raw uint16 bits).

    Raises:
        ConfigError: a file is missing or damaged, or ranks that should hold the same differ.
    """
    config = _read_config(directory / CONFIG_FILE)
    lm, num_ranks = body_config(config), int(config["mapping"]["tp_size"])
    layout = rank_layout(lm, num_ranks)
    body: dict[str, _Array] = {}
    for rank in range(num_ranks):
        file = TensorFile(directory / rank_file(rank))
        for name, parts in layout.items():
            joined = file.require(name, _joined_shape(parts, num_ranks)).data
            row = 0
            for part in parts:
                rows = part.share_shape(num_ranks)[0]
                whole = body.setdefault(part.source, np.empty(part.shape, joined.dtype))
                _put(whole, joined[row : row + rows], part, rank, num_ranks)
                row += rows
    return body


def _put(whole: _Array, share: _Array, part: Part, rank: int, num_ranks: int) -> None:
    """Lay one rank's share into the tensor; shares that stand on several ranks must agree."""
    place = part.place_of(rank, num_ranks)
    copies = num_ranks if part.axis is None else part.copies
    if rank % copies == 0:
        whole[place] = share
    elif whole[place].tobytes() != share.tobytes():
        raise ConfigError(f"{part.source} differs between rank {rank - rank % copies} and {rank}")


def _joined_shape(parts: Sequence[Part], num_ranks: int) -> tuple[int, ...]:
    shares = [part.share_shape(num_ranks) for part in parts]
    return (sum(share[0] for share in shares), *shares[0][1:])


def _rank_reader(
    source: TensorFile, layout: _Layout, rank: int, num_ranks: int, stored: str
) -> Callable[[str], Iterable[_Array]]:
    """A function that gives one rank's share of a tensor by TensorRT-LLM's name."""

    def blocks(name: str) -> Iterable[_Array]:
        for part in layout[name]:
            tensor = source[part.source]
            share = tensor.data[part.place_of(rank, num_ranks)]
            yield _convert(StoredTensor(tensor.dtype, share), stored)

    return blocks


def _convert(tensor: StoredTensor, stored: str) -> _Array:
    if tensor.dtype == stored:
        return tensor.data
    values = tensor.float32()
    if stored == "BF16":
        return float32_to_bfloat16(values)
    # A value beyond the range of float16 becomes infinite, as in every other converter.
    with np.errstate(over="ignore"):
        return values.astype(np.float16 if stored == "F16" else np.float32)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("mapping"), dict):
        raise ConfigError(f"{path} describes no checkpoint: it has no 'mapping'")
    return config
