# SPDX-License-Identifier: Apache-2.0
"""Voices in a folder: audio files, each with its transcript beside it.

    ann.wav  ann.txt           the voice "ann" and what is said there
    ann/sample.wav             the voice "ann", if it is the only audio there
    storage/voices/...         the storage of a MegaTTS3 platform, named by any of its folders

Latents of that platform (`ann.npy`) belong to another model: they are named, and not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from duologue.runtime.errors import VoiceError
from duologue.runtime.voice_store.types import Consent, VoiceDetails
from duologue.runtime.voices import ReferenceAudio

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")

_BELOW = ("voices", "storage/voices")
_LATENT = ".npy"


@dataclass(frozen=True, slots=True, eq=False)
class FoundVoice:
    """A voice that could be added.

    Attributes:
        name: as it was found; nobody has checked it.
        details: what is known of it.
        read: gives its audio, or raises `VoiceError`.
        consent_at: when the consent was stated; empty for now.
        note: what was left aside, or empty.
    """

    name: str
    details: VoiceDetails
    read: Callable[[], ReferenceAudio]
    consent_at: str = ""
    note: str = ""


def find_voices(
    folder: Path, read: Callable[[Path, str], ReferenceAudio], consent: Consent = "unstated"
) -> Iterator[FoundVoice]:
    """The voices of a folder, by name.

    Args:
        folder: see the head of this module.
        read: decodes an audio file with its transcript.
        consent: for all of them.

    Raises:
        VoiceError: there is no audio, or a transcript is no UTF-8 text.
    """
    root = next((folder / below for below in _BELOW if (folder / below).is_dir()), folder)
    found = dict(_audio_files(root))
    if not found:
        raise VoiceError(f"{root} holds no audio; allowed: {', '.join(AUDIO_SUFFIXES)}")
    for name, path in sorted(found.items()):
        words = path.with_suffix(".txt")
        has_latent = any(path.parent.glob(f"*{_LATENT}"))
        is_own = path.with_suffix(_LATENT).is_file() or (path.parent != root and has_latent)
        transcript = _read_text(words) if words.is_file() else ""
        yield FoundVoice(
            name,
            VoiceDetails(transcript=transcript, consent=consent),
            partial(read, path, transcript),
            note=f"its latent ({_LATENT}) belongs to another model" if is_own else "",
        )


def _audio_files(root: Path) -> Iterator[tuple[str, Path]]:
    for path in root.iterdir():
        if path.is_dir():
            inside = [each for each in path.iterdir() if _is_audio(each)]
            if len(inside) == 1:
                yield path.name, inside[0]
        elif _is_audio(path):
            yield path.stem, path


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise VoiceError(f"{path.name} cannot be read as a transcript: {error}") from error
