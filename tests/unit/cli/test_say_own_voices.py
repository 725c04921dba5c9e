"""`say --voice`: names of the bundle and of this user's store, or of the server that is reached."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sounds import noise

from duologue.build_engines.bundle_voices import write_bundle_voices
from duologue.client.types import Voice
from duologue.models import noise_bundle_path
from duologue.runtime.presets import PresetVoice
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import VoiceDetails
from duologue.runtime.voices import ReferenceAudio

SCRIPT = "[S1]Hello.[S2]Hi."
CODES = np.arange(8 * 12, dtype=np.int64).reshape(8, 12)


class Encoder:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def encode(self, samples: np.ndarray) -> np.ndarray:
        self.lengths.append(len(samples))
        return CODES.astype(np.int32)


@pytest.fixture
def store_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "duologue" / "voices"


@pytest.fixture
def stored(store_dir: Path) -> Path:
    with VoiceStore(store_dir) as store:
        store.add("Ann", ReferenceAudio(noise(), 24_000), VoiceDetails(transcript="Hello there."))
    return store_dir


@pytest.fixture
def speaking(house: Any, tmp_path: Path) -> Any:
    """A house with a real bundle that has one voice."""
    folder = tmp_path / "real"
    shutil.copytree(noise_bundle_path(), folder)
    write_bundle_voices(
        folder, [PresetVoice("女性温柔", np.ones((8, 12), np.int64), "你好。", "zh")]
    )
    house.bundle_dir = folder
    house.encoder = Encoder()
    house.client.encode = house.encoder.encode
    house.synthesizer.codec = house.encoder
    return house


def say(house: Any, tmp_path: Path, *words: str) -> Any:
    return house.run("say", "--text", SCRIPT, "-o", tmp_path / "out.wav", *words)


def test_a_voice_of_the_store_goes_to_the_server_as_codes(
    speaking: Any, stored: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        result = say(speaking, tmp_path, "--voice", "S1=Ann", "--voice", "S2=女性温柔")
        assert result.exit_code == 0, result.output
        voices = speaking.client.asked[-1][1]["voices"]
        assert isinstance(voices[1], Voice)
        np.testing.assert_array_equal(voices[1].codes, CODES)
        assert voices[1].transcript == "Hello there."
        assert voices[2] == "女性温柔"
    # 2 s at the codec's rate; the second time, the codes are kept already.
    assert speaking.encoder.lengths == [32_000]


def test_a_voice_of_the_store_is_spoken_with_in_this_process(
    speaking: Any, stored: Path, tmp_path: Path
) -> None:
    speaking.reason = "no Triton here"
    result = say(speaking, tmp_path, "--voice", "S1=Ann", "--voice", "S2=女性温柔")
    assert result.exit_code == 0, result.output
    request = speaking.synthesizer.asked[-1][1]["request"]
    np.testing.assert_array_equal(request.voices[1].codes, CODES)
    assert request.voice_ids == {2: "女性温柔"}


def test_an_unknown_name_is_told_with_those_that_there_are_before_anything_starts(
    speaking: Any, stored: Path, tmp_path: Path
) -> None:
    result = say(speaking, tmp_path, "--voice", "S1=Bob")
    assert result.exit_code == 2
    told = " ".join(result.stderr.split())
    assert "the voice 'Bob' is unknown; allowed: default, 女性温柔; of the voice store: Ann" in told
    assert not speaking.server.was_running


def test_without_a_store_the_names_of_the_bundle_are_told_and_no_store_is_made(
    speaking: Any, store_dir: Path, tmp_path: Path
) -> None:
    result = say(speaking, tmp_path, "--voice", "S1=Ann")
    assert result.exit_code == 2
    assert "allowed: default, 女性温柔; `duologue" in " ".join(result.stderr.split())
    assert say(speaking, tmp_path, "--voice", "S1=default").exit_code == 0
    assert not store_dir.exists()


def test_a_name_of_the_bundle_goes_before_one_of_the_store(
    speaking: Any, stored: Path, tmp_path: Path
) -> None:
    with VoiceStore(stored) as store:
        store.add("女性温柔", ReferenceAudio(noise(), 24_000), VoiceDetails())
    assert say(speaking, tmp_path, "--voice", "S1=女性温柔").exit_code == 0
    assert speaking.client.asked[-1][1]["voices"] == {1: "女性温柔"}


@pytest.mark.parametrize("address", ["far:8001", "http://far:9000"])
def test_names_are_those_of_the_server_that_is_reached(
    speaking: Any, stored: Path, tmp_path: Path, address: str
) -> None:
    result = say(speaking, tmp_path, "--voice", "S1=Ann", "--server", address)
    assert result.exit_code == 0, result.output
    assert speaking.client.asked[-1][1]["voices"] == {1: "Ann"}
    assert speaking.encoder.lengths == []
