"""Voices of a bundle with real engines: made from audio files, asked for by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.models import noise_bundle_path
from duologue.runtime.config import Bundle
from duologue.runtime.core import SpeechRequest, Voice
from duologue.runtime.errors import VoiceError
from duologue.runtime.synthesizer import Synthesizer

SCRIPT = "[S1]Have you read it?[S2]Twice."


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the noise bundle with two voices, written by the program."""
    root = tmp_path_factory.mktemp("presets")
    shutil.copytree(noise_bundle_path(), root / "bundle")
    folder = root / "folder"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for name in ("女性温柔", "Ann"):
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(24_000), 24_000)
    (folder / "女性温柔.txt").write_text("你好。\n")
    (folder / "女性温柔.json").write_text('{"language": "zh", "description": "温柔"}')
    command = [sys.executable, "-m", "duologue.build_engines.bundle_voices"]
    done = subprocess.run(
        [*command, str(root / "bundle"), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "女性温柔: 12 frames, '你好。'" in done.stdout
    return root / "bundle"


@pytest.fixture(scope="module")
def synthesizer(bundle_dir: Path) -> Iterator[Synthesizer]:
    with Synthesizer.load(bundle_dir, engine="onnx") as loaded:
        yield loaded


def _samples(synthesizer: Synthesizer, request: SpeechRequest) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in synthesizer.submit(request)])


def test_a_name_sounds_as_its_codes_and_transcript_do(synthesizer: Synthesizer) -> None:
    preset = synthesizer.presets.voices["女性温柔"]
    assert (preset.transcript, preset.language, preset.description) == ("你好。", "zh", "温柔")
    voice = Voice(preset.codes, preset.transcript)

    by_name = _samples(
        synthesizer, SpeechRequest(SCRIPT, voice_ids={2: "女性温柔"}, seed=4, max_frames=30)
    )
    by_codes = _samples(
        synthesizer, SpeechRequest(SCRIPT, voices={2: voice}, seed=4, max_frames=30)
    )
    without = _samples(synthesizer, SpeechRequest(SCRIPT, seed=4, max_frames=30))

    np.testing.assert_array_equal(by_name, by_codes)
    assert not np.array_equal(by_name, without)


def test_a_voice_without_a_transcript_speaks(synthesizer: Synthesizer) -> None:
    assert synthesizer.presets.voices["Ann"].transcript == ""

    both = {1: "Ann", 2: "女性温柔"}
    samples = _samples(synthesizer, SpeechRequest(SCRIPT, voice_ids=both, seed=4, max_frames=30))

    assert len(samples) == 30 * synthesizer.bundle.codec.samples_per_frame


def test_an_unknown_name_is_refused_before_anything_is_spoken(synthesizer: Synthesizer) -> None:
    with pytest.raises(VoiceError, match="allowed: 'default', 'Ann', '女性温柔', or codes"):
        synthesizer.submit(SpeechRequest(SCRIPT, voice_ids={1: "bob"}))


def test_the_program_refuses_a_folder_without_audio(bundle_dir: Path, tmp_path: Path) -> None:
    before = Bundle.load(bundle_dir)
    command = [sys.executable, "-m", "duologue.build_engines.bundle_voices"]

    done = subprocess.run(
        [*command, str(bundle_dir), str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "holds no .wav" in done.stderr
    assert Bundle.load(bundle_dir) == before
