"""`duologue voices`, and voices on the command line of `say`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from sounds import wav
from typer.testing import CliRunner

from duologue.build_engines.bundle_voices import write_bundle_voices
from duologue.cli.main import app
from duologue.cli.voice_choice import read_voices
from duologue.models import noise_bundle_path
from duologue.runtime.presets import PresetVoice


class Program:
    """`duologue voices` on a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: object, fails: bool = False) -> str:
        command = ["voices", str(words[0]), "--store", str(self.folder), *map(str, words[1:])]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == (2 if fails else 0), result.output
        return result.output

    @property
    def names(self) -> list[str]:
        return [voice["name"] for voice in json.loads(self("list", "--json"))]


@pytest.fixture
def voices(tmp_path: Path) -> Program:
    return Program(tmp_path / "store")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "ann.wav"
    path.write_bytes(wav())
    return path


def test_a_voice_is_added_shown_and_removed(voices: Program, sound: Path) -> None:
    options = ("--name", "女性温柔", "--transcript", "你好。", "--language", "zh", "--consent")
    added = json.loads(voices("add", sound, *options, "--json"))
    assert (added["name"], added["consent"], added["duration_s"]) == ("女性温柔", "stated", 2.0)
    assert json.loads(voices("show", "女性温柔", "--json")) == added
    assert "你好。" in voices("show", "女性温柔")
    assert "女性温柔" in voices("list")
    voices("rm", "女性温柔")
    assert "no voices yet" in voices("list")


def test_a_file_gives_its_name_and_replaces_only_when_told_to(voices: Program, sound: Path) -> None:
    voices("add", sound)
    assert voices.names == ["ann"]
    assert "exists already" in voices("add", sound, fails=True)
    assert json.loads(voices("add", sound, "--replace", "--json"))["version"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "none.wav"), "there is no audio file none.wav"),
        (("show", "bob"), "no voice 'bob'"),
        (("rm", "bob"), "no voice 'bob'"),
        (("import", "none.zip"), "cannot be read as an archive"),
        (("export", "out.zip", "bob"), "no voice 'bob'"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    voices: Program, words: tuple, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = voices(*words, fails=True)
    assert told in output
    assert "Traceback" not in output


def test_voices_travel_in_an_archive(voices: Program, sound: Path, tmp_path: Path) -> None:
    voices("add", sound, "--consent")
    assert "1 voices" in voices("export", tmp_path / "voices.zip")
    other = Program(tmp_path / "other")
    other("import", tmp_path / "voices.zip")
    assert json.loads(other("show", "ann", "--json"))["consent"] == "stated"


def test_a_platforms_storage_is_imported_and_what_is_no_voice_is_named(
    voices: Program, sound: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "MegaTTS3" / "storage" / "voices"
    folder.mkdir(parents=True)
    shutil.copy(sound, folder / "custom_voice_001.wav")
    (folder / "custom_voice_001.npy").write_bytes(b"latent")
    (folder / "broken.mp3").write_bytes(b"no audio")

    output = voices("import", tmp_path / "MegaTTS3", fails=True)

    assert "custom_voice_001: its latent (.npy) belongs to another model" in output
    assert "broken: the file is no audio" in output
    assert voices.names == ["custom_voice_001"]


def test_the_voices_of_a_bundle_are_listed(voices: Program, tmp_path: Path) -> None:
    shutil.copytree(noise_bundle_path(), tmp_path / "bundle")
    preset = PresetVoice("女性温柔", np.ones((8, 25), np.int64), "你好。", "zh", "soft")
    write_bundle_voices(tmp_path / "bundle", [preset])
    (row,) = json.loads(voices("list", "--bundle", tmp_path / "bundle", "--json"))
    assert row == {
        "name": "女性温柔",
        "language": "zh",
        "description": "soft",
        "transcript": "你好。",
        "duration_s": 2.0,
    }
    assert json.loads(voices("list", "--bundle", "noise", "--json")) == []


def test_what_others_wrote_is_shown_and_not_obeyed(voices: Program, sound: Path) -> None:
    voices("add", sound, "--description", "[red]x[/red] [/nothing]")
    assert "[red]x[/red] [/nothing]" in voices("list")


def test_a_missing_package_is_named_with_its_extra(
    voices: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if "voice_store" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    result = CliRunner().invoke(app, ["voices", "list", "--store", str(voices.folder)])
    assert result.exit_code == 1
    assert "voices need the package sqlalchemy: pip install 'duologue[gateway]'" in result.output


def test_voices_of_a_script_are_read_by_speaker() -> None:
    assert read_voices(["S1=女性温柔", "s2=a=b"]) == {1: "女性温柔", 2: "a=b"}


@pytest.mark.parametrize("choices", [["Ann"], ["S0=Ann"], ["S1="], ["=Ann"], ["S1=a", "S1=b"]])
def test_another_form_is_refused(choices: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        read_voices(choices)
