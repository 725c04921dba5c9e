"""The bundle's weight file, written from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch_file

from duologue.build_engines.checkpoint import read_checkpoint, write_lm_safetensors
from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.runtime.backbone.layout import lm_shapes
from duologue.runtime.backbone.tensor_file import TensorFile
from duologue.runtime.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_random_lm(tmp_path / "lm", seed=1, hidden_size=32, head_dim=8, codebook_size=20)
    return tmp_path / "lm"


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)],
)
def test_the_bundle_file_is_read_by_the_safetensors_library(
    folder: Path, dtype: str, kind: torch.dtype
) -> None:
    checkpoint = read_checkpoint(folder)
    path = folder / "lm.safetensors"
    write_lm_safetensors(checkpoint, path, dtype)
    tensors = load_torch_file(path)
    assert set(tensors) == set(lm_shapes(checkpoint.lm))
    for name, values in checkpoint.tensors():
        assert torch.equal(tensors[name], torch.from_numpy(values).to(kind))


def test_the_bundle_file_is_aligned_and_stable(folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    first, second = folder / "a.safetensors", folder / "b.safetensors"
    for path in (first, second):
        write_lm_safetensors(checkpoint, path, "float16")
    assert first.read_bytes() == second.read_bytes()
    file = TensorFile(first)
    whole = [name for name in file if file[name].data.nbytes % 64 == 0]
    assert len(whole) > 10
    assert all(file[name].offset % 64 == 0 for name in whole)


def test_an_unknown_precision_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="dtype is 'int3'; allowed: float32, float16, bfloat16"):
        write_lm_safetensors(read_checkpoint(folder), folder / "lm.safetensors", "int3")


def test_weights_too_large_for_float16_are_refused_and_nothing_is_left(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.language_model.layers.1.self_attn.q_proj.weight"][0] = 1e5
    save_file(tensors, folder / "model.safetensors")
    path = folder / "lm.safetensors"
    with pytest.raises(ConfigError, match=r"layers\.1\.qkv_proj\.weight has weights too large"):
        write_lm_safetensors(read_checkpoint(folder), path, "float16")
    assert not path.exists()
