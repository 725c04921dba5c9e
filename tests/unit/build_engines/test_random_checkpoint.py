"""Random checkpoints: the reference's format, repeatable, and inclined to speak."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from random_lms import build_lm, open_backbone
from tokenizers import Tokenizer

from duologue.build_engines.checkpoint import read_checkpoint
from duologue.build_engines.checkpoint_config import special_ids
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.build_engines.random_tokenizer import write_byte_tokenizer
from duologue.runtime.backbone.tensor_file import TensorFile

DATA = Path(__file__).parents[2] / "golden" / "data" / "lm_scaled"


def test_the_tokenizer_is_the_golden_one(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path, 64)
    got, wanted = (
        json.loads((folder / "tokenizer.json").read_text()) for folder in (tmp_path, DATA)
    )
    assert got == wanted


def test_the_tokenizer_gives_every_text_back(tmp_path: Path) -> None:
    write_byte_tokenizer(tmp_path, 8)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "Grüße, 你好 \n\t🙂"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("<speaker2><7>").ids == [
        special_ids(tmp_path)["<speaker2>"],
        special_ids(tmp_path)["<7>"],
    ]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_random_lm(tmp_path / name, seed=seed, hidden_size=32)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_another_tokenizer_sets_the_vocabulary(tmp_path: Path) -> None:
    write_random_lm(
        tmp_path, seed=0, tokenizer_json=DATA / "tokenizer.json", codebook_size=64, greedy=True
    )
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.lm.vocab_sizes == (350, *[65] * 7)
    assert checkpoint.tokens == read_checkpoint(DATA).tokens
    assert not checkpoint.sampling[0].do_sample


def test_the_dead_table_is_stored_on_request(tmp_path: Path) -> None:
    write_random_lm(tmp_path, seed=0, with_dead_table=True, num_layers=1)
    dead = TensorFile(tmp_path / "model.safetensors")["model.language_model.embed_tokens.weight"]
    assert dead.shape == (1310, 128)
    assert read_checkpoint(tmp_path).lm.num_layers == 1


@pytest.mark.parametrize("tied_heads", [True, False])
def test_the_default_model_goes_on_speaking(tmp_path: Path, tied_heads: bool) -> None:
    """Sampled at temperature 1 without any filter, channel 0 stays within the speech ids."""
    write_random_lm(tmp_path, seed=5, tied_heads=tied_heads)
    checkpoint = read_checkpoint(tmp_path)
    lm, tokens = build_lm(tmp_path, tmp_path), checkpoint.tokens
    backbone = open_backbone("onnx", lm, tmp_path)
    prompt = np.full((20, 8), tokens.speech_pad)
    prompt[:, 0] = np.frombuffer(b"Say something, do it", np.uint8)
    logits = backbone.prefill(0, prompt)
    assert logits is not None
    generator = np.random.default_rng(0)
    spoken = []
    for _ in range(150):
        row = np.empty((1, 8), np.int64)
        for channel in range(8):
            scores = logits.channel(channel)[0].astype(np.float64)
            if channel > 0:
                scores[tokens.speech_pad] = -np.inf
            row[0, channel] = (scores + generator.gumbel(size=scores.size)).argmax()
        spoken.append(int(row[0, 0]))
        logits = backbone.decode([0], row)
    assert all(tokens.speech_start <= token < tokens.speech_stop for token in spoken)
    assert len(set(spoken)) > 100
