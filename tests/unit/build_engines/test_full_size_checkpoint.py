from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from duologue.build_engines.checkpoint import Checkpoint, read_checkpoint
from duologue.build_engines.full_size_checkpoint import FULL_SIZE, write_full_size_checkpoint
from duologue.build_engines.moss_ttsd import PROMPT
from duologue.runtime.config import TokenIds

# As many ids as the published model has, in a body of a few numbers.
NARROW = dataclasses.replace(
    FULL_SIZE,
    hidden_size=16,
    intermediate_size=8,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    write_full_size_checkpoint(folder, seed=5, lm=NARROW)
    return folder


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return read_checkpoint(folder)


def test_the_geometry_is_that_of_the_published_model() -> None:
    body = FULL_SIZE.num_layers * (
        FULL_SIZE.hidden_size * FULL_SIZE.head_dim * 2 * (16 + 8) + 3 * 2048 * 6144
    )
    tables = FULL_SIZE.logit_offsets[-1] * FULL_SIZE.hidden_size
    assert body + tables == pytest.approx(1.736e9, rel=0.01)


def test_it_is_read_like_any_checkpoint(checkpoint: Checkpoint) -> None:
    assert checkpoint.lm == NARROW
    assert checkpoint.tokens == TokenIds(
        speech_start=151_665,
        speech_stop=152_689,
        end_of_speech=152_694,
        pad=151_643,
        speech_pad=1024,
        eos=(151_643,),
    )


def test_the_tokenizer_gives_the_published_ids(folder: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = PROMPT.template.format(system="Hi", text=PROMPT.speaker_tokens[1] + "<1023>")
    ids = tokenizer.encode(text).ids
    assert tokenizer.token_to_id("<0>") == 151_665
    assert ids[0] == 152_689
    assert ids.count(152_696) == ids.count(152_688) == 1
    assert tokenizer.get_vocab_size() == FULL_SIZE.vocab_sizes[0]


def test_a_random_hidden_state_prefers_speech_in_its_own_direction(checkpoint: Checkpoint) -> None:
    table = checkpoint.source["model.embedding_list.0.weight"].float32()
    direction = table[151_665:152_689].mean(axis=0)
    best = (table @ direction).argmax()
    assert 151_665 <= best < 152_689


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    folder: Path, tmp_path: Path
) -> None:
    write_full_size_checkpoint(tmp_path / "same", seed=5, lm=NARROW)
    write_full_size_checkpoint(tmp_path / "other", seed=6, lm=NARROW)
    for path in sorted(folder.iterdir()):
        assert (tmp_path / "same" / path.name).read_bytes() == path.read_bytes()
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(weights) == 2
    for name in weights:
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_no_tensor_repeats_another(checkpoint: Checkpoint) -> None:
    first = checkpoint.source["model.embedding_list.1.weight"].float32()
    second = checkpoint.source["model.embedding_list.2.weight"].float32()
    assert not np.array_equal(first, second)
