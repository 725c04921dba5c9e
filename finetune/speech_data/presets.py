# SPDX-License-Identifier: Apache-2.0
"""`python -m duologue.finetune.speech_data.presets FOLDER`: recordings of the preset voices.

FOLDER is what `python -m duologue.build_engines.bundle_voices` takes. Which training voice speaks
for a name was chosen by how well the trained model keeps to it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from rich.console import Console

from duologue.finetune.speech_data.espeak import ESPEAK_RATE_HZ, require_espeak, speak
from duologue.finetune.speech_data.maker import at_level
from duologue.finetune.speech_data.voices import OTHER_VOICES, voice_for_language
from duologue.runtime.errors import DuologueError

_SAMPLE_RATE_HZ = 24_000
_BEFORE_S, _AFTER_S = 0.07, 0.18
_TEXTS = {
    "en": "Good morning, it is nice to meet you. "
    "The weather is fine today, so let us walk to the park.",
    "cmn": "你好，很高兴认识你。今天的天气真不错，我们一起去公园走走吧。",
}


@dataclass(frozen=True, slots=True)
class Preset:
    """One voice that a bundle has by name.

    Attributes:
        name: by which it is asked for.
        voice: name of the training voice that speaks.
        language: of its recording, as espeak-ng names it.
        description: for people.
    """

    name: str
    voice: str
    language: str
    description: str


PRESETS = (
    Preset("女性温柔", "alicia", "cmn", "A gentle woman"),
    Preset("女性活泼", "female-lively", "cmn", "A lively woman"),
    Preset("男性成熟", "male-mature", "cmn", "A mature man"),
    Preset("男性年轻", "klatt", "cmn", "A young man"),
    Preset("gentle", "alicia", "en", "A gentle woman"),
    Preset("lively", "female-lively", "en", "A lively woman"),
    Preset("mature", "male-mature", "en", "A mature man"),
    Preset("young", "klatt", "en", "A young man"),
)
"""Four voices, each once in Mandarin and once in English."""


def record_presets(directory: Path) -> list[Path]:
    """Write a recording, its transcript and its description for every preset.

    Args:
        directory: is made where it is not there.

    Returns:
        The recordings: 24 kHz mono WAV files.

    Raises:
        EngineUnavailableError: espeak-ng is not installed.
    """
    require_espeak()
    directory.mkdir(parents=True, exist_ok=True)
    voices = {voice.name: voice for voice in OTHER_VOICES}
    written = []
    for preset in PRESETS:
        text = _TEXTS[preset.language]
        spoken = at_level(speak(text, voice_for_language(voices[preset.voice], preset.language)))
        silences = (round(_BEFORE_S * ESPEAK_RATE_HZ), round(_AFTER_S * ESPEAK_RATE_HZ))
        samples = soxr.resample(np.pad(spoken, silences), ESPEAK_RATE_HZ, _SAMPLE_RATE_HZ)
        path = directory / f"{preset.name}.wav"
        soundfile.write(path, samples, _SAMPLE_RATE_HZ, subtype="PCM_16")
        path.with_suffix(".txt").write_text(f"{text}\n", encoding="utf-8")
        language = "zh" if preset.language == "cmn" else preset.language
        facts = {"language": language, "description": preset.description}
        content = json.dumps(facts, ensure_ascii=False)
        path.with_suffix(".json").write_text(f"{content}\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m duologue.finetune.speech_data.presets FOLDER")
    try:
        recorded = record_presets(Path(sys.argv[1]))
    except DuologueError as error:
        raise SystemExit(f"error: {error}") from error
    Console(stderr=True).print(f"wrote {len(recorded)} recordings to {sys.argv[1]}")
