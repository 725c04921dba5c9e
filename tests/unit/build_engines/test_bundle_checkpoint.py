# SPDX-License-Identifier: Apache-2.0
"""A bundle turned back into checkpoints is the bundle when it is built again."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from duologue.build_engines.bundle_checkpoint import CODEC_DIR, LM_DIR, write_checkpoints
from duologue.build_engines.checkpoint import read_checkpoint, write_lm_safetensors
from duologue.build_engines.codec_checkpoint import load_codec_checkpoint
from duologue.models import default_bundle_path, noise_bundle_path
from duologue.runtime.config import BUNDLE_FILE, Bundle
from duologue.runtime.errors import ConfigError


@pytest.mark.parametrize("bundle_dir", [noise_bundle_path(), default_bundle_path()])
def test_the_language_model_is_read_back_as_it_was(bundle_dir: Path, tmp_path: Path) -> None:
    write_checkpoints(bundle_dir, tmp_path)
    bundle, checkpoint = Bundle.load(bundle_dir), read_checkpoint(tmp_path / LM_DIR)
    assert checkpoint.lm == bundle.lm
    assert checkpoint.tokens == bundle.tokens
    assert checkpoint.sampling == bundle.sampling
    assert checkpoint.max_length == bundle.limits.max_length
    assert checkpoint.reading == bundle.prompt.reading
    write_lm_safetensors(checkpoint, tmp_path / "lm.safetensors", "float16")
    stored = (bundle_dir / "lm.safetensors").read_bytes()
    assert (tmp_path / "lm.safetensors").read_bytes() == stored


def test_the_codec_is_read_back_as_it_was(tmp_path: Path) -> None:
    write_checkpoints(noise_bundle_path(), tmp_path)
    folder = tmp_path / CODEC_DIR
    codec = load_codec_checkpoint(folder / "xy_tokenizer.ckpt", folder / "config.yaml")
    assert codec.config == Bundle.load(noise_bundle_path()).codec
    assert all(np.isfinite(tensor.numpy()).all() for tensor in codec.tensors.values())


def test_a_bundle_of_quantised_weights_is_refused(tmp_path: Path) -> None:
    bundle_dir = tmp_path / "bundle"
    shutil.copytree(noise_bundle_path(), bundle_dir)
    bundle = Bundle.load(bundle_dir)
    files = {name: entry for name, entry in bundle.files.items() if name != "lm.safetensors"}
    only = dataclasses.replace(bundle, files=files)
    (bundle_dir / BUNDLE_FILE).write_text(only.to_json(), encoding="utf-8")
    (bundle_dir / "lm.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"no lm\.safetensors; allowed: weights as trained"):
        write_checkpoints(bundle_dir, tmp_path / "out")
