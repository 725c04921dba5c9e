# SPDX-License-Identifier: Apache-2.0
"""The voices that come with a bundle, by name.

`voices.json` says who they are, `voices.safetensors` holds their codes, int16 [K, T] under each
name. A bundle whose `files` name neither has no voices of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.runtime.config import Bundle
from duologue.runtime.core import IntArray, Voice
from duologue.runtime.errors import ConfigError, EngineUnavailableError, VoiceError
from duologue.runtime.voice_names import DEFAULT_NAMES, check_voice_name

PRESETS_FILE = "voices.json"
CODES_FILE = "voices.safetensors"
PRESETS_FORMAT = 1

_SHOWN = 60


@dataclass(frozen=True, slots=True, eq=False)
class PresetVoice:
    """A voice that comes with a bundle.

    Attributes:
        name: by which it is asked for.
        codes: aligned codes [K, T] of its reference audio.
        transcript: what is said there.
        language: as in "zh" or "en-GB"; empty when nobody said.
        description: for people.
    """

    name: str
    codes: IntArray
    transcript: str = ""
    language: str = ""
    description: str = ""

    @property
    def voice(self) -> Voice:
        """As the model takes it."""
        return Voice(self.codes, self.transcript)


@dataclass(frozen=True, slots=True, eq=False)
class PresetVoices:
    """All voices of a bundle, in the order in which it names them.

    Attributes:
        voices: name -> voice.
    """

    voices: dict[str, PresetVoice] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(self.voices)

    def resolve(
        self, voice_ids: Mapping[int, str], voices: Mapping[int, Voice]
    ) -> dict[int, Voice]:
        """Put voices in the place of names.

        Args:
            voice_ids: speaker -> name; empty or "default" leaves the speaker to the model.
            voices: speaker -> voice, of speakers that need no name.

        Returns:
            Speaker -> voice, for all speakers that have one.

        Raises:
            VoiceError: an unknown name, or a speaker with a name and a voice.
        """
        resolved = dict(voices)
        for speaker, name in voice_ids.items():
            if name in DEFAULT_NAMES:
                continue
            if speaker in voices:
                raise VoiceError(
                    f"speaker {speaker} has codes and the voice name {name[:_SHOWN]!r}; "
                    "allowed: one of the two"
                )
            preset = self.voices.get(name)
            if preset is None:
                allowed = ", ".join(repr(known) for known in ("default", *self.names))
                raise VoiceError(
                    f"the voice {name[:_SHOWN]!r} is unknown; allowed: {allowed}, or codes of "
                    "your own"
                )
            resolved[speaker] = preset.voice
        return resolved


def read_presets(bundle: Bundle, bundle_dir: Path) -> PresetVoices:
    """Read the voices of a bundle.

    Args:
        bundle: its description.
        bundle_dir: where its files lie.

    Raises:
        ConfigError: the two files do not fit each other or the bundle.
        EngineUnavailableError: the package `safetensors` is missing.
    """
    if PRESETS_FILE not in bundle.files:
        return PresetVoices()
    entries = _read_entries(bundle_dir / PRESETS_FILE)
    codes = _read_codes(bundle_dir / CODES_FILE)
    if set(codes) != set(entries):
        raise ConfigError(
            f"{PRESETS_FILE} names {sorted(entries)} and {CODES_FILE} {sorted(codes)}; "
            "allowed: the same names"
        )
    voices = {
        name: PresetVoice(name, codes[name].astype(np.int64), **entry)
        for name, entry in entries.items()
    }
    for voice in voices.values():
        check_preset(voice, bundle)
    return PresetVoices(voices)


def check_preset(voice: PresetVoice, bundle: Bundle) -> None:
    """Refuse a voice that a bundle cannot speak with.

    Raises:
        ConfigError: its name or codes cannot be used.
    """
    codebooks, size = bundle.codec.num_codebooks, bundle.codec.codebook_size
    shape = voice.codes.shape
    if len(shape) != 2 or shape[0] != codebooks or shape[1] == 0:
        raise ConfigError(
            f"the codes of the voice {voice.name!r} have the shape {list(shape)}; allowed: "
            f"[{codebooks}, 1 or more]"
        )
    if voice.codes.min() < 0 or voice.codes.max() >= size:
        raise ConfigError(
            f"the codes of the voice {voice.name!r} range from {voice.codes.min()} to "
            f"{voice.codes.max()}; allowed: 0 to {size - 1}"
        )
    try:
        check_voice_name(voice.name)
    except VoiceError as error:
        raise ConfigError(str(error)) from error


def _read_entries(path: Path) -> dict[str, dict[str, str]]:
    """Name -> the texts about it."""
    fields = {"name", "transcript", "language", "description"}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        entries: list[dict[str, Any]] = data["voices"]
        if data["format"] != PRESETS_FORMAT or any(set(entry) != fields for entry in entries):
            raise ConfigError(f"{path} is of another format; allowed: {PRESETS_FORMAT}")
        return {entry.pop("name"): entry for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {error!r}") from error


def _read_codes(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError as error:
        raise EngineUnavailableError(
            "the voices of a bundle need safetensors: pip install 'duologue[cpu]'"
        ) from error
    try:
        codes: dict[str, npt.NDArray[Any]] = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return codes
