# SPDX-License-Identifier: Apache-2.0
"""ttsfrd itself is a closed wheel that is not here: a stand-in with its three calls is."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from duologue.runtime.errors import ConfigError, EngineUnavailableError
from duologue.runtime.text import ttsfrd_writer
from duologue.runtime.text.ttsfrd_writer import RESOURCE_VARIABLE, load_ttsfrd, ttsfrd_resource


class Engine:
    calls: list[str]

    def __init__(self) -> None:
        self.calls = []

    def initialize(self, resource: str) -> bool:
        self.calls.append("initialize")
        return (Path(resource) / "found").exists()

    def set_lang_type(self, language: str) -> None:
        assert self.calls == ["initialize"]
        assert language == "pinyinvg"

    def do_voicegen_frd(self, text: str) -> str:
        words = text.replace("15", "fifteen").split("|")
        return json.dumps({"sentences": [{"text": word} for word in words if word != "unknown"]})


@pytest.fixture
def resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("ttsfrd")
    module.__spec__ = ModuleSpec("ttsfrd", None)
    module.TtsFrontendEngine = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ttsfrd", module)
    (tmp_path / "found").touch()
    load_ttsfrd.cache_clear()
    return tmp_path


def test_the_sentences_of_the_answer_are_put_together(resource: Path) -> None:
    write = load_ttsfrd(resource)
    assert write("iPhone 15 |is here") == "iPhone fifteen is here"


def test_text_without_a_sentence_stays(resource: Path) -> None:
    assert load_ttsfrd(resource)("unknown") == "unknown"


def test_resources_that_the_library_refuses_are_named(resource: Path) -> None:
    (resource / "found").unlink()
    with pytest.raises(ConfigError, match="cannot read its resources in"):
        load_ttsfrd(resource)


def test_it_is_used_only_where_its_resources_are_named(resource: Path) -> None:
    assert ttsfrd_resource({}) is None
    assert ttsfrd_resource({RESOURCE_VARIABLE: str(resource)}) == resource


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        ttsfrd_resource({RESOURCE_VARIABLE: str(tmp_path / "gone")})


def test_another_package_of_the_same_name_is_a_fault(
    resource: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["ttsfrd"], "TtsFrontendEngine")
    with pytest.raises(EngineUnavailableError, match="not the one of CosyVoice"):
        load_ttsfrd(resource)


def test_resources_without_the_package_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttsfrd_writer, "MODULE", "a_package_that_nobody_has")
    with pytest.raises(EngineUnavailableError, match="is not installed"):
        ttsfrd_resource({RESOURCE_VARIABLE: str(tmp_path)})
