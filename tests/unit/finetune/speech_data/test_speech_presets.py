from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.finetune.speech_data import presets
from duologue.finetune.speech_data.voices import OTHER_VOICES, EspeakVoice
from duologue.models import default_bundle_path
from duologue.runtime.errors import EngineUnavailableError


def test_every_preset_gets_its_recording_transcript_and_language(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard: list[EspeakVoice] = []

    def speak(text: str, voice: EspeakVoice) -> np.ndarray:
        heard.append(voice)
        return np.sin(np.arange(22_050, dtype=np.float32) / 20)

    monkeypatch.setattr(presets, "require_espeak", lambda: None)
    monkeypatch.setattr(presets, "speak", speak)

    paths = presets.record_presets(tmp_path / "presets")

    assert [path.stem for path in paths] == [preset.name for preset in presets.PRESETS]
    for path, preset, voice in zip(paths, presets.PRESETS, heard, strict=True):
        samples, rate_hz = soundfile.read(path)
        assert rate_hz == 24_000
        assert len(samples) == pytest.approx(1.25 * rate_hz, abs=2)
        assert path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert facts["language"] == ("zh" if preset.language == "cmn" else "en")
        assert voice.accent.startswith(preset.language)


def test_the_presets_are_voices_of_the_training_and_of_the_default_bundle() -> None:
    assert {preset.voice for preset in presets.PRESETS} <= {voice.name for voice in OTHER_VOICES}
    shipped = json.loads((default_bundle_path() / "voices.json").read_text(encoding="utf-8"))
    names = {voice["name"] for voice in shipped["voices"]}
    assert names == {preset.name for preset in presets.PRESETS}


def test_a_machine_without_espeak_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineUnavailableError, match="espeak-ng"):
        presets.record_presets(tmp_path / "presets")
    assert not (tmp_path / "presets").exists()
