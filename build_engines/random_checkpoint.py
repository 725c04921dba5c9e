# SPDX-License-Identifier: Apache-2.0
"""A checkpoint with random weights in the reference's own format on disk.

It speaks noise, yet in frames: a direction shared by all speech rows keeps channel 0 on speech
ids. Tests and the embedded default model are made with it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.build_engines.checkpoint import part_shapes
from duologue.build_engines.checkpoint_config import FIRST_CODE, config_json, special_ids
from duologue.build_engines.random_tokenizer import CONTROL_TOKENS, write_byte_tokenizer
from duologue.build_engines.safetensors_writer import write_arrays
from duologue.runtime.config import LmConfig
from duologue.runtime.core import FloatArray

_ROW_SCALE = 0.1
_LAYER_SCALE = 0.5
_DEAD_TABLE = "model.language_model.embed_tokens.weight"
_DEFAULT_SAMPLING: dict[str, float] = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}


@dataclass(frozen=True, slots=True)
class RandomLm:
    """What a random language model looks like; the defaults are those of the embedded one.

    Attributes:
        num_channels: K.
        codebook_size: codes per channel; one more id in channels 1.. is the pad.
        tied_heads: False gives the heads weights of their own.
        speech_bias: how strongly channel 0 prefers speech ids; 0 leaves it to chance.
        greedy: whether the generation config samples.
        with_dead_table: whether the unread `embed_tokens` is stored, as the reference does.
    """

    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 32
    intermediate_size: int = 256
    num_channels: int = 8
    codebook_size: int = 1024
    max_position_embeddings: int = 8192
    rope_theta: float = 1e6
    tied_heads: bool = True
    speech_bias: float = 0.8
    greedy: bool = False
    with_dead_table: bool = False

    def config(self, vocab_size: int) -> LmConfig:
        """The shape of the model, given how many ids the tokenizer has."""
        return LmConfig(
            vocab_sizes=(vocab_size, *[self.codebook_size + 1] * (self.num_channels - 1)),
            delays=tuple(range(self.num_channels)),
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            rope_theta=self.rope_theta,
            max_position_embeddings=self.max_position_embeddings,
            tied_heads=self.tied_heads,
        )


def write_random_lm(
    directory: Path,
    *,
    seed: int,
    tokenizer_json: str | Path | None = None,
    shape: RandomLm | None = None,
    **changes: Any,
) -> None:
    """Write config.json, generation_config.json, model.safetensors and a tokenizer.

    The same arguments give the same bytes.

    Args:
        directory: made if it does not exist.
        seed: of the weights.
        tokenizer_json: a tokenizer that knows the code tokens `<0>`, `<1>`, ...; None writes a
            byte-level one (see `random_tokenizer`).
        shape: what the model looks like; None takes the defaults of `RandomLm`.
        **changes: fields of `RandomLm` that differ, e.g. `hidden_size=48`.
    """
    shape = replace(shape or RandomLm(), **changes)
    directory.mkdir(parents=True, exist_ok=True)
    if tokenizer_json is None:
        write_byte_tokenizer(directory, shape.codebook_size)
    else:
        shutil.copyfile(tokenizer_json, directory / "tokenizer.json")
    ids = special_ids(directory)
    lm = shape.config(max(ids.values()) + 1)
    start = ids[FIRST_CODE]
    speech = range(start, start + shape.codebook_size)
    configs = {
        "config.json": config_json(
            lm, speech, shape.codebook_size, ids[CONTROL_TOKENS[0]], "float32"
        ),
        "generation_config.json": _generation(shape, ids[CONTROL_TOKENS[0]]),
    }
    for name, content in configs.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_arrays(directory / "model.safetensors", dict(_weights(shape, lm, start, seed)))


def _generation(shape: RandomLm, eos: int) -> dict[str, Any]:
    layer = {} if shape.greedy else _DEFAULT_SAMPLING
    return {
        "do_samples": [not shape.greedy] * shape.num_channels,
        "layers": [dict(layer) for _ in range(shape.num_channels)],
        "eos_token_id": eos,
        "max_length": shape.max_position_embeddings,
    }


def _weights(
    shape: RandomLm, lm: LmConfig, start: int, seed: int
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The tensors under the reference's names."""
    generator = np.random.default_rng(seed)
    direction = generator.standard_normal(lm.hidden_size)
    direction *= shape.speech_bias / np.linalg.norm(direction)
    for name, size in part_shapes(lm).items():
        if len(size) == 1:
            # Around one, so that leaving out a norm's weight does not go unnoticed.
            yield name, (1 + 0.1 * generator.standard_normal(size)).astype(np.float32)
            continue
        is_table = name.startswith(("model.embedding_list", "lm_heads"))
        scale = _ROW_SCALE if is_table else _LAYER_SCALE / np.sqrt(size[1])
        values = scale * generator.standard_normal(size)
        if is_table:
            values[_speech_rows(name, start, shape.codebook_size)] += direction
        yield name, values.astype(np.float32)
    if shape.with_dead_table:
        dead: FloatArray = np.zeros((lm.vocab_sizes[0], lm.hidden_size), np.float32)
        yield _DEAD_TABLE, dead


def _speech_rows(name: str, start: int, codebook_size: int) -> slice:
    """Channel 0: its code rows. The other channels: all rows, which favours none of them."""
    return slice(start, start + codebook_size) if ".0." in name else slice(None)
