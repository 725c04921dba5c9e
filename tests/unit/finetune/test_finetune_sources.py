from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from duologue.finetune.sources import codec_sha256
from duologue.models import noise_bundle_path
from duologue.runtime.config import BUNDLE_FILE, Bundle
from duologue.runtime.errors import ConfigError


def _bundle(folder: Path, **changes: Any) -> None:
    """The bundle for tests without its files, and without their hashes."""
    bundle = json.loads((noise_bundle_path() / BUNDLE_FILE).read_text())
    (folder / BUNDLE_FILE).write_text(json.dumps({**bundle, "files": {}, **changes}))


def test_a_codec_is_told_by_its_weights_whether_their_hash_is_recorded_or_not(
    tmp_path: Path,
) -> None:
    recorded = Bundle.load(noise_bundle_path()).files
    assert codec_sha256(noise_bundle_path()) == recorded["codec.safetensors"]["sha256"]
    _bundle(tmp_path)
    shutil.copy(noise_bundle_path() / "codec_encoder.onnx", tmp_path)
    assert codec_sha256(tmp_path) == recorded["codec_encoder.onnx"]["sha256"]
    shutil.copy(noise_bundle_path() / "codec.safetensors", tmp_path)
    assert codec_sha256(tmp_path) == codec_sha256(noise_bundle_path())


def test_a_bundle_without_a_codec_is_refused(tmp_path: Path) -> None:
    for changes in ({}, {"engines": {}}):
        _bundle(tmp_path, **changes)
        with pytest.raises(ConfigError, match="holds no codec"):
            codec_sha256(tmp_path)
