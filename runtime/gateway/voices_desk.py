# SPDX-License-Identifier: Apache-2.0
"""The gateway's voices: those of the bundle, and those that callers add.

The model knows the voices of its bundle by name. A voice that was added goes to it as codes.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from duologue.client.errors import VoiceError
from duologue.client.types import Voice
from duologue.runtime.gateway.disk_threads import DiskThreads
from duologue.runtime.gateway.faults import UnknownVoiceError, UnsupportedError, VoiceExistsError
from duologue.runtime.gateway.served_bundle import ServedBundle
from duologue.runtime.gateway.uploads import (
    DecodedUpload,
    Upload,
    UploadLimits,
    decode_upload,
)
from duologue.runtime.gateway.voices_codes import Encode, VoiceCodes
from duologue.runtime.gateway.voices_errors import translated, unknown_voice
from duologue.runtime.presets import PresetVoice
from duologue.runtime.voice_names import DEFAULT_NAMES, check_voice_name
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import StoredVoice, VoiceDetails

# Decoding takes a core and up to a gigabyte.
MAX_DECODERS = 2
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class AddedVoice:
    """A voice that was just added.

    Attributes:
        voice: as the store has it.
        trimmed_from_s: length of the file when only its beginning was taken, else None.
    """

    voice: StoredVoice
    trimmed_from_s: float | None


class VoiceDesk:
    """Adds, lists and removes voices, and puts voices in the place of names.

    All errors that it raises are `duologue.client.errors` or `gateway.faults`, ready for
    `fault_of`.

    Args:
        bundle: behind the gateway; None when it is unknown, and then no voice can be added.
        folder: of the voice store; opened when it is first needed.
        encode: mono audio at the codec's input rate to codes [K, T].
        limits: of uploads.
        reserved: further names that no voice can have.
    """

    def __init__(
        self,
        bundle: ServedBundle | None,
        folder: Path,
        encode: Encode,
        limits: UploadLimits | None = None,
        reserved: frozenset[str] = frozenset(),
    ) -> None:
        self.bundle = bundle
        self._disk = DiskThreads("voices")
        self._codes = None if bundle is None else VoiceCodes(bundle, encode, self._disk)
        self._folder = folder
        self._limits = limits or UploadLimits()
        self._reserved = reserved
        self._opened: VoiceStore | None = None
        self._lock = threading.Lock()
        self._decoders = asyncio.Semaphore(MAX_DECODERS)

    @property
    def presets(self) -> tuple[PresetVoice, ...]:
        """The voices of the bundle."""
        return () if self.bundle is None else tuple(self.bundle.presets.voices.values())

    async def knows(self, name: str) -> bool:
        """Whether the model's own choice, the bundle or the store goes by a name.

        Raises:
            StorageError: the store cannot be read.
        """
        if self._is_of_the_model(name):
            return True
        try:
            await self._disk.run(lambda: self._find(name))
        except UnknownVoiceError:
            return False
        return True

    async def added(self) -> tuple[StoredVoice, ...]:
        """All voices that were added, by name.

        Raises:
            StorageError: the store cannot be read.
        """
        if self.bundle is None:
            return ()
        with translated():
            return await self._disk.run(lambda: self._store().list())

    async def add(
        self, name: str, data: Upload, details: VoiceDetails, *, replace: bool = False
    ) -> AddedVoice:
        """Add a voice; it can be spoken with when this returns.

        Args:
            name: by which it will be asked for.
            data: a file with its reference audio, which is the caller's to close.
            details: what is known of it.
            replace: an added voice of that name becomes this one.

        Raises:
            VoiceError: the name or the file cannot be used; says why.
            VoiceExistsError: the name is taken.
            StorageFullError, StorageError: there is no room, or the disk fails.
            UnsupportedError: the server takes no voices.
        """
        codes_of = self._open_codes()
        with translated():
            name = check_voice_name(name)
            if name in self._reserved or self._is_of_the_model(name):
                raise VoiceExistsError(f"the voice name {name!r} is one of the server's own")
            if not replace and await self.knows(name):
                raise VoiceExistsError(f"a voice {name!r} exists already; remove it first")
            upload = await self._decode(data, details.transcript)
        # Before it is kept: a voice that cannot be spoken with is none.
        codes = await codes_of.of_audio(upload.audio)
        with translated():
            voice = await self._disk.run(
                lambda: self._store().add(name, upload.audio, details, replace=replace)
            )
        await codes_of.keep(voice, codes, self._store())
        return AddedVoice(voice, upload.trimmed_from_s)

    async def voice_of_audio(self, data: Upload, transcript: str = "") -> Voice:
        """A voice for one request, of which nothing is kept.

        Args:
            data: a file with reference audio, which is the caller's to close.
            transcript: what is said there.

        Raises:
            VoiceError: the file cannot be used; says why.
            UnsupportedError: the server takes no voices.
        """
        codes_of = self._open_codes()
        with translated():
            details = VoiceDetails(transcript)
            upload = await self._decode(data, details.transcript)
        return Voice(await codes_of.of_audio(upload.audio), details.transcript)

    async def remove(self, name: str) -> None:
        """Forget a voice that was added.

        Raises:
            UnknownVoiceError: none goes by that name.
            VoiceError: it is one of the server's own.
            StorageError: the disk fails.
        """
        if name in self._reserved or self._is_of_the_model(name):
            raise VoiceError(f"the voice {name[:_SHOWN]!r} is one of the server's own, and stays")
        if self.bundle is None:
            raise unknown_voice(name)
        with translated(name):
            await self._disk.run(lambda: self._store().remove(name))

    async def resolve(self, voices: Mapping[int, Voice | str]) -> dict[int, Voice | str]:
        """Put codes in the place of names that the model does not know.

        Args:
            voices: speaker -> voice or name; without a bundle, names are left as they are.

        Raises:
            UnknownVoiceError: a name is unknown.
            VoiceError: the audio of a voice cannot be used any more.
            StorageError: the store cannot be read.
        """
        resolved: dict[int, Voice | str] = {}
        for speaker, voice in voices.items():
            if self._codes is None or isinstance(voice, Voice) or self._is_of_the_model(voice):
                resolved[speaker] = voice
            else:
                stored = await self._disk.run(functools.partial(self._find, voice))
                resolved[speaker] = await self._codes.of_stored(stored, self._store())
        return resolved

    def close(self) -> None:
        """Close the store; may wait for the disk."""
        self._disk.close()
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _is_of_the_model(self, name: str) -> bool:
        is_preset = self.bundle is not None and name in self.bundle.presets.voices
        return is_preset or name in DEFAULT_NAMES

    def _find(self, name: str) -> StoredVoice:
        if self.bundle is None:
            raise unknown_voice(name)
        with translated(name):
            return self._store().get(name)

    async def _decode(self, data: Upload, transcript: str) -> DecodedUpload:
        async with self._decoders:
            return await asyncio.to_thread(
                lambda: decode_upload(data, self._limits, transcript=transcript)
            )

    def _store(self) -> VoiceStore:
        with self._lock:
            if self._opened is None:
                self._opened = VoiceStore(self._folder)
            return self._opened

    def _open_codes(self) -> VoiceCodes:
        if self._codes is None:
            raise UnsupportedError("this server takes no voices: its bundle is unknown", "voice")
        return self._codes
