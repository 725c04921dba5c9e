from __future__ import annotations

from pathlib import Path

import pytest

from duologue.models import default_bundle_path, resolve_bundle
from duologue.runtime.errors import ConfigError


def test_the_name_default_means_the_embedded_bundle() -> None:
    assert resolve_bundle("default") == default_bundle_path()
    assert (default_bundle_path() / "bundle.json").is_file()


def test_any_other_name_is_a_directory(tmp_path: Path) -> None:
    assert resolve_bundle(tmp_path) == tmp_path
    assert resolve_bundle(str(tmp_path)) == tmp_path


def test_a_directory_called_default_is_reached_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "default").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_bundle("./default") == Path("default")


@pytest.mark.parametrize("name", ["no-such-bundle", "", "/no/such/folder"])
def test_what_is_neither_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(
        ConfigError, match="allowed: 'default', 'noise' or the directory of a bundle"
    ):
        resolve_bundle(name)
