# SPDX-License-Identifier: Apache-2.0
"""Write a language model of the published size with random weights.

    python -m duologue.build_engines.full_size_checkpoint DIR

The geometry and the ids of MOSS-TTSD v0.5 / v0.7 (Qwen3-1.7B with eight channels) in bfloat16, in
shards like the published one: 3.5 GB that load, run and cost what the real weights do. It speaks
noise. One tensor at a time is in memory.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from duologue.build_engines.checkpoint import part_shapes
from duologue.build_engines.checkpoint_config import config_json
from duologue.build_engines.random_tokenizer import CONTROL_TOKENS, write_byte_tokenizer
from duologue.build_engines.safetensors_writer import TensorEntry, write_safetensors
from duologue.runtime.backbone.tensor_file import float32_to_bfloat16
from duologue.runtime.config import LmConfig

CODEBOOK_SIZE = 1024
FIRST_CONTROL_ID = 151_643
FIRST_CODE_ID = 151_665
NUM_SHARDS = 2

FULL_SIZE = LmConfig(
    vocab_sizes=(152_697, *[CODEBOOK_SIZE + 1] * 7),
    delays=tuple(range(8)),
    hidden_size=2048,
    intermediate_size=6144,
    num_layers=28,
    num_heads=16,
    num_kv_heads=8,
    head_dim=128,
)

_BLOCK_ROWS = 4096
_ROW_SCALE = 0.02
# As far as it takes for the best speech id to beat the best of ten thousands of others.
_SPEECH_BIAS = 0.2


def write_full_size_checkpoint(directory: Path, *, seed: int = 0, lm: LmConfig = FULL_SIZE) -> None:
    """Write configuration, tokenizer and sharded weights.

    Args:
        directory: is made if it does not exist.
        seed: the same seed gives the same bytes.
        lm: the geometry; a test takes fewer and narrower layers. The vocabulary stays.
    """
    directory.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(directory, lm.vocab_sizes[0])
    speech = range(FIRST_CODE_ID, FIRST_CODE_ID + CODEBOOK_SIZE)
    config = config_json(lm, speech, CODEBOOK_SIZE, FIRST_CONTROL_ID, "bfloat16")
    _write_json(directory / "config.json", config)
    _write_json(directory / "generation_config.json", _generation(lm))
    shapes = part_shapes(lm)
    names = list(shapes)
    size = -(-len(names) // NUM_SHARDS)
    weight_map: dict[str, str] = {}
    for shard in range(NUM_SHARDS):
        file_name = f"model-{shard + 1:05d}-of-{NUM_SHARDS:05d}.safetensors"
        members = names[shard * size : (shard + 1) * size]
        entries = [TensorEntry(name, "BF16", shapes[name]) for name in members]
        write_safetensors(
            directory / file_name, entries, lambda name: _blocks(name, shapes[name], seed)
        )
        weight_map.update(dict.fromkeys(members, file_name))
    _write_json(directory / "model.safetensors.index.json", {"weight_map": weight_map})


def _blocks(name: str, shape: tuple[int, ...], seed: int) -> Iterable[npt.NDArray[Any]]:
    """A tensor in pieces of some thousand rows, each as bfloat16 bits."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if len(shape) == 1:
        yield float32_to_bfloat16(np.ones(shape, np.float32))
        return
    is_table = "embedding_list" in name
    scale = np.float32(_ROW_SCALE if is_table else 0.5 / np.sqrt(shape[1]))
    direction = np.random.default_rng(seed).standard_normal(shape[1], dtype=np.float32)
    direction *= _SPEECH_BIAS / np.linalg.norm(direction)
    for begin in range(0, shape[0], _BLOCK_ROWS):
        rows = min(_BLOCK_ROWS, shape[0] - begin)
        values = scale * rng.standard_normal((rows, shape[1]), dtype=np.float32)
        if is_table:
            ids = np.arange(begin, begin + rows)
            spoken = (ids >= FIRST_CODE_ID) & (ids < FIRST_CODE_ID + CODEBOOK_SIZE)
            values[spoken | (".0." not in name)] += direction
        yield float32_to_bfloat16(values)


def _write_tokenizer(directory: Path, vocab_size: int) -> None:
    """The byte-level tokenizer with its special tokens moved to the published ids."""
    write_byte_tokenizer(directory, CODEBOOK_SIZE)
    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    # Words that no text can be split into, so that ids are given without gaps.
    for word in range(len(vocabulary), FIRST_CONTROL_ID):
        vocabulary[f"<unused {word}>"] = word
    gap = FIRST_CODE_ID - FIRST_CONTROL_ID - len(CONTROL_TOKENS)
    ids = iter(range(FIRST_CONTROL_ID, vocab_size))
    added = tokenizer["added_tokens"]
    spare = [{**added[0], "content": f"<|spare_{place}|>"} for place in range(gap)]
    moved = [*added[: len(CONTROL_TOKENS)], *spare, *added[len(CONTROL_TOKENS) :]]
    tokenizer["added_tokens"] = [{**token, "id": next(ids)} for token in moved]
    _write_json(path, tokenizer)
    # It tells the ids of the small tokenizer; those of tokenizer.json are enough.
    (directory / "tokenizer_config.json").unlink()


def _generation(lm: LmConfig) -> dict[str, Any]:
    layer = {"temperature": 0.8, "top_k": 50, "top_p": 0.95}
    return {
        "do_samples": [True] * lm.num_channels,
        "layers": [layer] * lm.num_channels,
        "eos_token_id": FIRST_CONTROL_ID,
        "max_length": lm.max_position_embeddings,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main(
    directory: Annotated[Path, typer.Argument(help="folder to write")],
    seed: Annotated[int, typer.Option(help="of the weights")] = 0,
) -> None:
    """Write a language model of the published size with random weights."""
    write_full_size_checkpoint(directory, seed=seed)


if __name__ == "__main__":
    typer.run(main)
