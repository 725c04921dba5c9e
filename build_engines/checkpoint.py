# SPDX-License-Identifier: Apache-2.0
"""A reference checkpoint folder (MOSS-TTSD v0.5, v0.7 and alike), read without transformers.

Weight names are those of OpenMOSS/MOSS-TTSD v0.7 (`modeling_asteroid.py`); what leaves here has
the names of `duologue.runtime.backbone.layout`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.build_engines import checkpoint_config, generation_config
from duologue.build_engines.safetensors_writer import TensorEntry, row_blocks, write_safetensors
from duologue.build_engines.tensor_source import open_tensors
from duologue.runtime.backbone.layout import EMBEDDING, FINAL_NORM, HEAD, lm_shapes
from duologue.runtime.backbone.tensor_file import StoredTensor, float32_to_bfloat16
from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import ChannelSampling, FloatArray
from duologue.runtime.errors import ConfigError

WEIGHT_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Name of a precision -> name in the safetensors format."""
_EMBEDDINGS = "model.embedding_list.{}.weight"
_HEADS = "lm_heads.{}.weight"
_BODY = "model.language_model."


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a checkpoint folder says, and its weights.

    Attributes:
        directory: the folder.
        lm: shape of the model.
        tokens: special ids.
        sampling: how each channel samples.
        max_length: rows at which the reference stops, or None where the checkpoint is silent.
        reading: how the model was trained to read text.
        source: tensors under the checkpoint's own names.
    """

    directory: Path
    lm: LmConfig
    tokens: TokenIds
    sampling: tuple[ChannelSampling, ...]
    max_length: int | None
    reading: str
    source: Mapping[str, StoredTensor]

    def parts(self, name: str) -> list[StoredTensor]:
        """The checkpoint's tensors that, one below the other, are our tensor `name`."""
        return [self.source[part] for part in source_names(self.lm, name)]

    def tensors(self) -> Iterator[tuple[str, FloatArray]]:
        """All weights under our names (see `layout.lm_shapes`) as float32, one at a time."""
        for name in lm_shapes(self.lm):
            yield name, np.concatenate([part.float32() for part in self.parts(name)])


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read a checkpoint folder and check that every weight is there in the right shape.

    Args:
        directory: with `config.json`, weights, a tokenizer and mostly `generation_config.json`.

    Raises:
        ConfigError: a file is missing or damaged, a value cannot work, or a tensor is missing or
            of another shape; the message names it, what was found and what was wanted.
        EngineUnavailableError: the weights are `.bin` files, and torch is not installed.
    """
    config = checkpoint_config.read_json(directory / "config.json")
    generation = checkpoint_config.read_json(directory / "generation_config.json", optional=True)
    tied = checkpoint_config.lm_config(config, tied_heads=True)
    ids = checkpoint_config.special_ids(directory)
    source = open_tensors(directory)
    _check_shapes(tied, source)
    lm = tied if _has_tied_heads(config, tied, source) else _untied(config, source)
    return Checkpoint(
        directory,
        lm,
        checkpoint_config.token_ids(config, generation, ids),
        generation_config.sampling(generation, lm.num_channels),
        generation_config.max_length(generation),
        checkpoint_config.reading(config),
        source,
    )


def source_names(lm: LmConfig, name: str) -> tuple[str, ...]:
    """The reference's tensors that, one below the other, are our tensor `name`."""
    if name in (EMBEDDING, HEAD):
        pattern = _EMBEDDINGS if name == EMBEDDING else _HEADS
        return tuple(pattern.format(channel) for channel in range(lm.num_channels))
    if name == FINAL_NORM:
        return (_BODY + name,)
    prefix, layer, kind = name.split(".", 2)
    module = kind.removesuffix(".weight")
    modules = {
        "qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "q_norm": ("self_attn.q_norm",),
        "k_norm": ("self_attn.k_norm",),
        "o_proj": ("self_attn.o_proj",),
        "gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
        "down_proj": ("mlp.down_proj",),
    }.get(module, (module,))
    return tuple(f"{_BODY}{prefix}.{layer}.{part}.weight" for part in modules)


def write_lm_safetensors(checkpoint: Checkpoint, path: Path, dtype: str) -> None:
    """Write the bundle's `lm.safetensors`, a few megabytes at a time.

    The order is stable: the same checkpoint gives the same bytes.

    Args:
        checkpoint: whose weights.
        path: the file; replaced if it exists.
        dtype: "float32", "float16" or "bfloat16".

    Raises:
        ConfigError: the precision is unknown, or a weight is too large for float16.
    """
    if dtype not in WEIGHT_DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; allowed: {', '.join(WEIGHT_DTYPES)}")
    shapes = lm_shapes(checkpoint.lm)
    entries = [TensorEntry(name, WEIGHT_DTYPES[dtype], shape) for name, shape in shapes.items()]

    def blocks(name: str) -> Iterator[npt.NDArray[Any]]:
        for part in checkpoint.parts(name):
            for rows in row_blocks(part.shape):
                yield _narrow(name, part.float32(rows), dtype)

    write_safetensors(path, entries, blocks)


def _narrow(name: str, values: FloatArray, dtype: str) -> npt.NDArray[Any]:
    if dtype == "bfloat16":
        return float32_to_bfloat16(values)
    if dtype == "float32":
        return values
    if not np.all(np.abs(values) <= np.finfo(np.float16).max):
        raise ConfigError(f"{name} has weights too large for float16; allowed: bfloat16, float32")
    return values.astype(np.float16)


def part_shapes(lm: LmConfig) -> dict[str, tuple[int, ...]]:
    """The reference's own tensors that a model of this shape reads: name -> shape."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in lm_shapes(lm).items():
        heights = _part_heights(lm, name, shape)
        for part, height in zip(source_names(lm, name), heights, strict=True):
            shapes[part] = (height, *shape[1:])
    return shapes


def _part_heights(lm: LmConfig, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name in (EMBEDDING, HEAD):
        return lm.vocab_sizes
    if name.endswith("qkv_proj.weight"):
        key = lm.num_kv_heads * lm.head_dim
        return (lm.num_heads * lm.head_dim, key, key)
    if name.endswith("gate_up_proj.weight"):
        return (lm.intermediate_size, lm.intermediate_size)
    return (shape[0],)


def _check_shapes(lm: LmConfig, source: Mapping[str, StoredTensor]) -> None:
    for name, wanted in part_shapes(lm).items():
        if name not in source:
            raise ConfigError(f"the checkpoint has no tensor {name}; wanted: shape {list(wanted)}")
        if source[name].shape != wanted:
            found = list(source[name].shape)
            raise ConfigError(f"{name} has shape {found}; wanted: {list(wanted)}")


def _untied(config: Mapping[str, Any], source: Mapping[str, StoredTensor]) -> LmConfig:
    lm = checkpoint_config.lm_config(config, tied_heads=False)
    _check_shapes(lm, source)
    return lm


def _has_tied_heads(
    config: Mapping[str, Any], lm: LmConfig, source: Mapping[str, StoredTensor]
) -> bool:
    """Whether the heads are the embeddings: absent, or stored as a second copy.

    The reference ties them whatever `tie_word_embeddings` says, so stored heads that differ are
    taken for heads of their own only where the configuration says so in so many words.
    """
    pairs = zip(source_names(lm, HEAD), source_names(lm, EMBEDDING), strict=True)
    differing = [
        head for head, table in pairs if head in source and not _equal(source, head, table)
    ]
    if differing and config.get("tie_word_embeddings") is not False:
        raise ConfigError(
            f"{differing[0]} differs from the embedding it is tied to; allowed: equal values, "
            "or tie_word_embeddings false in config.json"
        )
    return not differing


def _equal(source: Mapping[str, StoredTensor], name: str, other: str) -> bool:
    first, second = source[name], source[other]
    if first.shape != second.shape:
        return False
    blocks: Iterable[slice] = row_blocks(first.shape)
    return all(np.array_equal(first.float32(rows), second.float32(rows)) for rows in blocks)
