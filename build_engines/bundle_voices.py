# SPDX-License-Identifier: Apache-2.0
"""Give a bundle voices of its own.

    python -m duologue.build_engines.bundle_voices BUNDLE FOLDER

FOLDER holds one `<name>.wav` per voice; `<name>.txt` beside it says what is said there, and
`<name>.json` may say more: {"language": "zh", "description": "..."}. All voices are encoded with
the bundle's codec and take the place of those that the bundle had.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import save

from duologue.models import resolve_bundle
from duologue.runtime.bundle_files import describe_file, verify_bundle
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.registry import load_codec
from duologue.runtime.config import BUNDLE_FILE, Bundle
from duologue.runtime.errors import ConfigError, VoiceError
from duologue.runtime.presets import (
    CODES_FILE,
    PRESETS_FILE,
    PRESETS_FORMAT,
    PresetVoice,
    check_preset,
)
from duologue.runtime.voices import encode_voice, read_reference

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg")

_MORE = ("language", "description")


def write_bundle_voices(bundle_dir: Path, voices: Sequence[PresetVoice]) -> Bundle:
    """Put voices into a bundle, in the place of those that it had.

    The same voices give the same bytes. A process that dies here leaves a bundle whose files do
    not hold to their hashes, which is refused until this has run again.

    Args:
        bundle_dir: of the bundle.
        voices: in the order in which they will be listed; none leaves the bundle without.

    Returns:
        The bundle as its `bundle.json` now describes it.

    Raises:
        ConfigError: no such bundle, two voices of one name, or a voice that the bundle cannot
            speak with.
    """
    bundle = Bundle.load(bundle_dir)
    names = [voice.name for voice in voices]
    if len(set(names)) != len(names):
        raise ConfigError(f"the voices are {names}; allowed: each name once")
    for voice in voices:
        check_preset(voice, bundle)
    files = {
        name: entry
        for name, entry in bundle.files.items()
        if name not in (PRESETS_FILE, CODES_FILE)
    }
    if voices:
        for name, data in ((PRESETS_FILE, _entries(voices)), (CODES_FILE, _codes(voices))):
            _replace(bundle_dir / name, data)
            files[name] = describe_file(bundle_dir / name)
    described = dataclasses.replace(bundle, files=dict(sorted(files.items())))
    _replace(bundle_dir / BUNDLE_FILE, described.to_json().encode())
    if not voices:
        for name in (PRESETS_FILE, CODES_FILE):
            (bundle_dir / name).unlink(missing_ok=True)
    return verify_bundle(bundle_dir)


def read_preset_folder(folder: Path, codec: Codec) -> list[PresetVoice]:
    """Encode a folder of audio files, each of which becomes a voice of its name.

    Args:
        folder: see the head of this module.
        codec: of the bundle.

    Returns:
        Voices by name.

    Raises:
        ConfigError: no audio file is there, or a description cannot be read.
        VoiceError: audio that cannot be a voice.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise ConfigError(f"{folder} holds no {', '.join(AUDIO_SUFFIXES)} file")
    return [_read_preset(path, codec) for path in paths]


def _read_preset(path: Path, codec: Codec) -> PresetVoice:
    words = path.with_suffix(".txt")
    transcript = words.read_text(encoding="utf-8").strip() if words.is_file() else ""
    voice = encode_voice(codec, [read_reference(path, transcript)])
    more = _read_more(path.with_suffix(".json"))
    return PresetVoice(path.stem, voice.codes, voice.transcript, *(more[key] for key in _MORE))


def _read_more(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON: {error}") from error
    fits = isinstance(data, dict) and set(data) <= set(_MORE)
    if not fits or not all(isinstance(value, str) for value in data.values()):
        raise ConfigError(f"{path} holds {data!r}; allowed: texts under {', '.join(_MORE)}")
    return {key: data.get(key, "") for key in _MORE}


def _entries(voices: Sequence[PresetVoice]) -> bytes:
    entries = [
        {
            "name": voice.name,
            "description": voice.description,
            "language": voice.language,
            "transcript": voice.transcript,
        }
        for voice in voices
    ]
    data = {"format": PRESETS_FORMAT, "voices": entries}
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def _codes(voices: Sequence[PresetVoice]) -> bytes:
    tensors = {voice.name: np.ascontiguousarray(voice.codes, np.int16) for voice in voices}
    data: bytes = save(tensors)
    return data


def _replace(path: Path, data: bytes) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def main(
    bundle: Annotated[str, typer.Argument(help="folder of the bundle, or its name")],
    folder: Annotated[Path, typer.Argument(help="folder of wav and txt files")],
) -> None:
    """Give a bundle the voices of a folder."""
    directory = resolve_bundle(bundle)
    codec = load_codec(Bundle.load(directory), directory)
    try:
        voices = read_preset_folder(folder, codec)
        write_bundle_voices(directory, voices)
    except (ConfigError, VoiceError) as error:
        typer.echo(f"bundle_voices: {error}", err=True)
        raise typer.Exit(2) from error
    finally:
        codec.close()
    for voice in voices:
        typer.echo(f"{voice.name}: {voice.codes.shape[1]} frames, {voice.transcript[:60]!r}")


if __name__ == "__main__":
    typer.run(main)
