"""Checkpoint folders: sound ones in every form, and damaged ones."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch_file

from duologue.build_engines.checkpoint import (
    Checkpoint,
    read_checkpoint,
    source_names,
)
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.runtime.backbone.layout import lm_shapes
from duologue.runtime.errors import ConfigError

DATA = Path(__file__).parents[2] / "golden" / "data" / "lm_scaled"
SIZES: dict[str, Any] = {
    "seed": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 16,
    "intermediate_size": 40,
    "num_channels": 3,
    "codebook_size": 20,
}
WEIGHTS = "model.safetensors"
QUERY = "model.language_model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_random_lm(tmp_path / "lm", **SIZES)
    return tmp_path / "lm"


def _weights(checkpoint: Checkpoint) -> dict[str, Any]:
    return dict(checkpoint.tensors())


def _change(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def _configure(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _shard(folder: Path, suffix: str, save: Callable[[dict[str, Any], Path], object]) -> None:
    """Replace the weights by two shards and an index."""
    tensors = load_torch_file(folder / WEIGHTS)
    single = WEIGHTS if suffix == "safetensors" else "pytorch_model.bin"
    (folder / WEIGHTS).unlink()
    index = {}
    for place, names in enumerate((list(tensors)[::2], list(tensors)[1::2])):
        name = f"shard-{place}.{suffix}"
        save({key: tensors[key] for key in names}, folder / name)
        index.update(dict.fromkeys(names, name))
    (folder / f"{single}.index.json").write_text(json.dumps({"weight_map": index}))


def test_the_golden_checkpoint_is_read() -> None:
    checkpoint = read_checkpoint(DATA)
    lm, tokens = checkpoint.lm, checkpoint.tokens
    assert lm.vocab_sizes == (350, *[65] * 7)
    assert lm.delays == tuple(range(8))
    assert (lm.hidden_size, lm.num_layers, lm.head_dim, lm.intermediate_size) == (48, 3, 8, 96)
    assert lm.tied_heads
    assert (tokens.speech_start, tokens.speech_stop, tokens.end_of_speech) == (278, 342, 347)
    assert (tokens.pad, tokens.speech_pad, tokens.eos) == (256, 64, (256,))
    assert not any(channel.do_sample for channel in checkpoint.sampling)


def test_every_tensor_of_the_golden_checkpoint_is_used_but_the_dead_one() -> None:
    lm = read_checkpoint(DATA).lm
    used = {part for name in lm_shapes(lm) for part in source_names(lm, name)}
    stored = set(load_file(DATA / WEIGHTS))
    assert stored - used == {"model.language_model.embed_tokens.weight"}
    assert used <= stored


def test_fused_tensors_are_their_parts_one_below_the_other(folder: Path) -> None:
    ours, stored = _weights(read_checkpoint(folder)), load_file(folder / WEIGHTS)
    np.testing.assert_array_equal(ours["layers.1.qkv_proj.weight"][:32], stored[QUERY])
    table = np.concatenate([stored[f"model.embedding_list.{c}.weight"] for c in range(3)])
    np.testing.assert_array_equal(ours["embedding.weight"], table)


@pytest.mark.parametrize("form", ["bin", "legacy bin", "bin shards", "safetensors shards"])
def test_every_form_on_disk_gives_the_same_weights(folder: Path, form: str) -> None:
    wanted = _weights(read_checkpoint(folder))
    if form.endswith("shards"):
        from safetensors.torch import save_file as save_torch

        save = torch.save if form == "bin shards" else save_torch
        _shard(folder, form.split()[0], save)
    else:
        tensors = load_torch_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        zipped = form == "bin"
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    got = _weights(read_checkpoint(folder))
    assert list(got) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(got[name], values)


def test_bfloat16_in_a_bin_is_read_exactly(folder: Path) -> None:
    tensors = {name: t.bfloat16() for name, t in load_torch_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    got = _weights(read_checkpoint(folder))["norm.weight"]
    wanted = tensors["model.language_model.norm.weight"].float().numpy()
    np.testing.assert_array_equal(got, wanted)


class _Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("trap-was-sprung"),))


@pytest.mark.parametrize("content", [_Trap(), {"a": _Trap()}, [1, 2], {"a": 3}])
def test_a_pickle_that_is_no_tensor_file_is_refused_and_not_executed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(folder)
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin"):
        read_checkpoint(folder)
    assert not (folder / "trap-was-sprung").exists()


def test_a_trap_in_a_file_of_torch_is_refused_without_advice_to_spring_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / WEIGHTS).unlink()
    torch.save({"a": _Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"holds Python objects.*never executed") as caught:
        read_checkpoint(folder)
    assert "weights_only" not in str(caught.value)
    assert not (folder / "trap-was-sprung").exists()


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_bin_that_is_cut_off_is_refused(folder: Path, kept: int) -> None:
    path = folder / "pytorch_model.bin"
    torch.save(load_torch_file(folder / WEIGHTS), path)
    (folder / WEIGHTS).unlink()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin is cut off"):
        read_checkpoint(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    _change(folder, lambda tensors: tensors.pop(QUERY))
    with pytest.raises(ConfigError, match=rf"no tensor {QUERY}; wanted: shape \[32, 32\]"):
        read_checkpoint(folder)


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    _change(folder, lambda tensors: tensors.update({QUERY: tensors[QUERY][:16]}))
    with pytest.raises(ConfigError, match=rf"{QUERY} has shape \[16, 32\]; wanted: \[32, 32\]"):
        read_checkpoint(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    from safetensors.torch import save_file as save_torch

    _shard(folder, "safetensors", save_torch)
    (folder / "shard-1.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"shard-1\.safetensors is missing"):
        read_checkpoint(folder)


def test_a_shard_outside_the_folder_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / WEIGHTS)
    index = {"weight_map": {QUERY: f"../{WEIGHTS}"}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="allowed: a file beside it"):
        read_checkpoint(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(ConfigError, match="has no weights"):
        read_checkpoint(folder)


def test_heads_that_are_copies_of_the_embeddings_are_tied(folder: Path) -> None:
    _configure(folder, tie_word_embeddings=False)
    table = "model.embedding_list.{}.weight"
    _change(
        folder,
        lambda tensors: tensors.update(
            {f"lm_heads.{c}.weight": tensors[table.format(c)] for c in range(3)}
        ),
    )
    assert read_checkpoint(folder).lm.tied_heads


def test_heads_of_their_own_are_kept(tmp_path: Path) -> None:
    write_random_lm(tmp_path, **SIZES, tied_heads=False)
    checkpoint = read_checkpoint(tmp_path)
    assert not checkpoint.lm.tied_heads
    heads = _weights(checkpoint)["head.weight"]
    first = load_file(tmp_path / WEIGHTS)["lm_heads.0.weight"]
    np.testing.assert_array_equal(heads[: len(first)], first)


def test_differing_heads_of_a_tied_model_are_refused(tmp_path: Path) -> None:
    write_random_lm(tmp_path, **SIZES, tied_heads=False)
    _configure(tmp_path, tie_word_embeddings=True)
    with pytest.raises(ConfigError, match=r"lm_heads\.0\.weight differs from the embedding"):
        read_checkpoint(tmp_path)
