from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from duologue.benchmarks.random_bundle import call_random
from duologue.models import noise_bundle_path
from duologue.runtime.config import BUNDLE_FILE, Bundle
from duologue.runtime.errors import ConfigError


def test_a_bundle_is_called_random_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    shutil.copy(noise_bundle_path() / BUNDLE_FILE, tmp_path)
    noise = Bundle.load(tmp_path)
    built = dataclasses.replace(noise, trained=True)
    (tmp_path / BUNDLE_FILE).write_text(built.to_json(), encoding="utf-8")
    for _ in range(2):
        call_random(tmp_path)
        assert Bundle.load(tmp_path) == noise
    assert [path.name for path in tmp_path.iterdir()] == [BUNDLE_FILE]


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no bundle"):
        call_random(tmp_path)
