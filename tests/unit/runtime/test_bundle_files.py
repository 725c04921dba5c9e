from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from duologue.runtime.bundle_files import describe_file, verify_bundle
from duologue.runtime.config import (
    Bundle,
    CodecConfig,
    LimitsConfig,
    LmConfig,
    PromptConfig,
    TokenIds,
    WindowConfig,
    WindowStep,
)
from duologue.runtime.core import ChannelSampling
from duologue.runtime.errors import ConfigError

CONTENT = b"weights" * 1000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "lm.bin").write_bytes(CONTENT)
    bundle = Bundle(
        name="test",
        lm=LmConfig((20,), (0,), 8, 16, 1, 2, 1, 4),
        tokens=TokenIds(10, 14, 15, 16, 4, (16,)),
        prompt=PromptConfig("Speak.", "{system}{text}", ("<s1>",)),
        sampling=(ChannelSampling(),),
        codec=CodecConfig("test", 16_000, 24_000, 1280, 1920, 1, 4, 375),
        windows=WindowConfig((WindowStep(5, 5, 1),), 100),
        limits=LimitsConfig(max_rows=64),
        files={"lm.bin": describe_file(tmp_path / "lm.bin")},
    )
    (tmp_path / "bundle.json").write_text(bundle.to_json())
    return tmp_path


def change(directory: Path, **fields: Any) -> None:
    path = directory / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_file_is_described_by_size_and_hash(directory: Path) -> None:
    assert describe_file(directory / "lm.bin") == {
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "bytes": len(CONTENT),
    }


@pytest.mark.parametrize("hashes", [False, True])
def test_an_untouched_bundle_is_accepted(directory: Path, hashes: bool) -> None:
    assert verify_bundle(directory, hashes=hashes).name == "test"


def test_a_missing_file_is_named(directory: Path) -> None:
    (directory / "lm.bin").unlink()
    with pytest.raises(ConfigError, match=r"lm\.bin is missing"):
        verify_bundle(directory)


def test_a_file_cut_short_is_found_without_reading_it(directory: Path) -> None:
    (directory / "lm.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(ConfigError, match=r"lm\.bin has 6999 bytes; .* built with 7000"):
        verify_bundle(directory)


def test_a_changed_byte_is_found_by_its_hash_alone(directory: Path) -> None:
    (directory / "lm.bin").write_bytes(b"W" + CONTENT[1:])
    verify_bundle(directory)
    with pytest.raises(ConfigError, match=r"lm\.bin differs from what was built"):
        verify_bundle(directory, hashes=True)


def test_another_version_of_the_format_is_refused(directory: Path) -> None:
    change(directory, format=99)
    with pytest.raises(ConfigError, match="format is 99; allowed: 1"):
        verify_bundle(directory)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_a_bundle_cannot_point_outside_itself(directory: Path, name: str) -> None:
    change(directory, files={name: {"sha256": "", "bytes": 0}})
    with pytest.raises(ConfigError, match="names inside the bundle"):
        verify_bundle(directory)


@pytest.mark.parametrize("entry", [{}, {"bytes": 1}, 7])
def test_an_entry_without_size_and_hash_is_refused(directory: Path, entry: object) -> None:
    change(directory, files={"lm.bin": entry})
    with pytest.raises(ConfigError, match=r"lm\.bin"):
        verify_bundle(directory)
