"""The voices of a bundle: written, read back, asked for by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from fakes import BUNDLE, NUM_CHANNELS, NUM_CODES

from duologue.build_engines.bundle_voices import write_bundle_voices
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.config import BUNDLE_FILE, Bundle
from duologue.runtime.core import Voice
from duologue.runtime.errors import ConfigError, VoiceError
from duologue.runtime.presets import CODES_FILE, PRESETS_FILE, PresetVoice, read_presets


@pytest.fixture
def bundle_dir(tmp_path: Path) -> Path:
    (tmp_path / "lm.bin").write_bytes(b"weights")
    bundle = dataclasses.replace(BUNDLE, files={})
    (tmp_path / BUNDLE_FILE).write_text(bundle.to_json())
    return tmp_path


def preset(name: str, seed: int = 0, frames: int = 5) -> PresetVoice:
    codes = np.random.default_rng(seed).integers(0, NUM_CODES, (NUM_CHANNELS, frames))
    return PresetVoice(name, codes, f"I am {name}.", "zh", "warm")


def test_voices_are_read_as_they_were_written(bundle_dir: Path) -> None:
    voices = [preset("女性温柔", 1), preset("Ann", 2, frames=9)]

    bundle = write_bundle_voices(bundle_dir, voices)

    got = read_presets(bundle, bundle_dir)
    assert got.names == ("女性温柔", "Ann")
    for voice in voices:
        read = got.voices[voice.name]
        np.testing.assert_array_equal(read.codes, voice.codes)
        assert (read.transcript, read.language, read.description) == (
            voice.transcript,
            "zh",
            "warm",
        )


def test_the_same_voices_give_the_same_bytes(bundle_dir: Path) -> None:
    voices = [preset("a", 1), preset("b", 2)]
    write_bundle_voices(bundle_dir, voices)
    first = {path.name: path.read_bytes() for path in bundle_dir.iterdir()}

    write_bundle_voices(bundle_dir, voices)

    assert {path.name: path.read_bytes() for path in bundle_dir.iterdir()} == first


def test_a_bundle_without_voices_names_neither_file(bundle_dir: Path) -> None:
    write_bundle_voices(bundle_dir, [preset("a")])
    bundle = write_bundle_voices(bundle_dir, [])

    assert not {PRESETS_FILE, CODES_FILE} & set(bundle.files)
    assert not (bundle_dir / PRESETS_FILE).exists()
    assert read_presets(bundle, bundle_dir).names == ()


def test_a_changed_file_is_noticed(bundle_dir: Path) -> None:
    write_bundle_voices(bundle_dir, [preset("a")])
    data = bytearray((bundle_dir / CODES_FILE).read_bytes())
    data[-1] ^= 1
    (bundle_dir / CODES_FILE).write_bytes(bytes(data))

    with pytest.raises(ConfigError, match="differs from what was built"):
        verify_bundle(bundle_dir, hashes=True)


@pytest.mark.parametrize(
    ("voices", "told"),
    [
        ([preset("a"), preset("a")], "each name once"),
        ([preset("../a")], "the voice name '../a' cannot be used"),
        ([preset("default")], "reserved"),
        ([PresetVoice("a", np.zeros((2, 5), np.int64))], "have the shape"),
        ([PresetVoice("a", np.zeros((NUM_CHANNELS, 0), np.int64))], "1 or more"),
        ([PresetVoice("a", np.full((NUM_CHANNELS, 2), NUM_CODES))], "allowed: 0 to 15"),
    ],
)
def test_a_voice_that_cannot_be_spoken_with_is_not_written(
    bundle_dir: Path, voices: list[PresetVoice], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        write_bundle_voices(bundle_dir, voices)
    assert {path.name for path in bundle_dir.iterdir()} == {"lm.bin", BUNDLE_FILE}


def test_files_that_do_not_fit_each_other_are_refused(bundle_dir: Path) -> None:
    bundle = write_bundle_voices(bundle_dir, [preset("a")])
    entries = json.loads((bundle_dir / PRESETS_FILE).read_text())
    entries["voices"][0]["name"] = "b"
    (bundle_dir / PRESETS_FILE).write_text(json.dumps(entries))

    with pytest.raises(ConfigError, match="allowed: the same names"):
        read_presets(bundle, bundle_dir)


def test_names_become_voices(bundle_dir: Path) -> None:
    voices = read_presets(write_bundle_voices(bundle_dir, [preset("a")]), bundle_dir)
    own = Voice(np.zeros((NUM_CHANNELS, 3), np.int64))

    got = voices.resolve({1: "a", 2: "default"}, {2: own})

    assert got[1].transcript == "I am a."
    assert got[2] is own


def test_an_unknown_name_is_refused_with_those_that_are_allowed(bundle_dir: Path) -> None:
    bundle: Bundle = write_bundle_voices(bundle_dir, [preset("a"), preset("b")])
    voices = read_presets(bundle, bundle_dir)

    with pytest.raises(VoiceError, match=r"'bob' is unknown; allowed: 'default', 'a', 'b', or"):
        voices.resolve({1: "bob"}, {})


def test_a_speaker_has_a_name_or_codes_but_not_both(bundle_dir: Path) -> None:
    voices = read_presets(write_bundle_voices(bundle_dir, [preset("a")]), bundle_dir)

    with pytest.raises(VoiceError, match="allowed: one of the two"):
        voices.resolve({1: "a"}, {1: Voice(np.zeros((NUM_CHANNELS, 3), np.int64))})
