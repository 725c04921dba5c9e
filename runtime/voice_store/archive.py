# SPDX-License-Identifier: Apache-2.0
"""Voices on their way from one store to another: one zip file.

voices.json             {"format": 1, "voices": [all that is known of each]}
audio/<sha256>.wav      reference audio, mono 32-bit float
"""

from __future__ import annotations

import json
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from duologue.runtime.errors import VoiceError
from duologue.runtime.voice_store.files import disk_errors, sha256_of
from duologue.runtime.voice_store.folder import FoundVoice
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import StoredVoice, VoiceDetails
from duologue.runtime.voice_store.wav_file import read_float_wav, write_float_wav
from duologue.runtime.voices import ReferenceAudio

FORMAT = 1
MANIFEST = "voices.json"

_MAX_MANIFEST_BYTES = 50_000_000
_MAX_AUDIO_BYTES = 100_000_000
# What zipfile and json say of files that were made to trouble them; `RuntimeError` is said of
# encryption, unknown compression and deep nesting.
_BROKEN = (
    *(OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)
_SAID = ("transcript", "language", "description", "consent")
# The same voices give the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def export_voices(
    store: VoiceStore, path: Path, names: Sequence[str] = ()
) -> tuple[StoredVoice, ...]:
    """Write voices into an archive, which replaces a file of that name.

    Args:
        store: that has them.
        path: of the archive.
        names: which; none means all.

    Returns:
        The voices that it holds.

    Raises:
        NoSuchVoiceError: a name is unknown.
        StoreFullError, StoreUnavailableError: the archive cannot be written.
    """
    voices = tuple(map(store.get, names)) if names else store.list()
    temporary = path.with_name(path.name + ".partial")
    with disk_errors():
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                _write(archive, MANIFEST, _manifest(voices))
                for digest, voice in {voice.audio_sha256: voice for voice in voices}.items():
                    audio = store.audio(voice)
                    data = write_float_wav(audio.samples, audio.sample_rate_hz)
                    _write(archive, f"audio/{digest}.wav", data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return voices


def read_archive(path: Path) -> Iterator[FoundVoice]:
    """The voices of an archive, one after the other.

    Args:
        path: of the archive; whoever made it is not trusted.

    Raises:
        VoiceError: no archive of this kind, or one that is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(_read(archive, MANIFEST, _MAX_MANIFEST_BYTES))
            if data["format"] != FORMAT:
                raise VoiceError(f"{path.name} has the format {data['format']}; allowed: {FORMAT}")
            for entry in data["voices"]:
                yield _found(archive, entry)
    except _BROKEN as error:
        raise VoiceError(f"{path.name} cannot be read as an archive of voices: {error}") from error


def _found(archive: zipfile.ZipFile, entry: dict[str, Any]) -> FoundVoice:
    name, digest = str(entry["name"]), str(entry["audio_sha256"])
    data = _read(archive, f"audio/{digest}.wav", _MAX_AUDIO_BYTES)
    if sha256_of(data) != digest:
        raise VoiceError(f"the audio of the voice {name[:64]!r} is damaged in the archive")
    samples, rate_hz = read_float_wav(data)
    consent_at = str(entry["consent_at"])
    details = VoiceDetails(**{key: entry[key] for key in _SAID})
    return FoundVoice(name, details, lambda: ReferenceAudio(samples, rate_hz), consent_at)


def _manifest(voices: Sequence[StoredVoice]) -> bytes:
    data = {"format": FORMAT, "voices": [voice.as_json() for voice in voices]}
    return json.dumps(data, indent=1, ensure_ascii=False).encode()


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


def _read(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """One file, by a name of ours and never onto the disk."""
    with archive.open(name) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise VoiceError(f"{name} has more than {max_bytes} bytes in the archive")
    return data
