# SPDX-License-Identifier: Apache-2.0
"""Reference audio as codes: made by the model's own codec, and kept as long as there is room."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import numpy as np
import numpy.typing as npt

from duologue.client.types import Voice
from duologue.runtime.gateway.disk_threads import DiskThreads
from duologue.runtime.gateway.faults import StorageError
from duologue.runtime.gateway.logs import log_event
from duologue.runtime.gateway.served_bundle import ServedBundle
from duologue.runtime.gateway.voices_errors import translated
from duologue.runtime.voice_store.store import VoiceStore
from duologue.runtime.voice_store.types import StoredVoice, StoreFullError, StoreUnavailableError
from duologue.runtime.voices import ReferenceAudio, to_codec_input

Codes = npt.NDArray[np.int32]
Encode = Callable[[npt.NDArray[np.float32]], Awaitable[Codes]]

# Codes of the voices that speak at present, to leave the disk alone.
_MAX_REMEMBERED = 64


class VoiceCodes:
    """Codes of reference audio, made once for each codec.

    Args:
        bundle: whose codec makes them.
        encode: mono audio at the codec's input rate to codes [K, T].
        disk: that codes are kept on.
    """

    def __init__(self, bundle: ServedBundle, encode: Encode, disk: DiskThreads) -> None:
        self._bundle = bundle
        self._encode = encode
        self._disk = disk
        self._remembered: OrderedDict[str, Codes] = OrderedDict()

    async def of_audio(self, audio: ReferenceAudio) -> Codes:
        """Encode audio.

        Raises:
            DuologueError: whatever the model's server says.
        """
        samples = await asyncio.to_thread(to_codec_input, [audio], self._bundle.input_rate_hz)
        return await self._encode(samples)

    async def of_stored(self, voice: StoredVoice, store: VoiceStore) -> Voice:
        """The codes of a voice, from memory, from the store, or made now.

        Raises:
            VoiceError: its audio is gone or damaged.
            StorageError: the store cannot be read.
            DuologueError: whatever the model's server says.
        """
        codes = self._remembered.get(voice.audio_sha256)
        if codes is None:
            with translated(voice.name):
                version = self._bundle.codec_version
                kept = await self._disk.run(lambda: store.codes(voice, version))
                audio = (
                    None if kept is not None else await self._disk.run(lambda: store.audio(voice))
                )
            if kept is not None:
                codes = kept.astype(np.int32)
            elif audio is not None:
                codes = await self.of_audio(audio)
                await self.keep(voice, codes, store)
        assert codes is not None
        self._remember(voice, codes)
        return Voice(codes, voice.details.transcript)

    async def keep(self, voice: StoredVoice, codes: Codes, store: VoiceStore) -> None:
        """Keep codes; where that fails, they are made again when they are needed."""
        self._remember(voice, codes)
        version = self._bundle.codec_version
        try:
            await self._disk.run(lambda: store.keep_codes(voice, version, codes.astype(np.int64)))
        except (StoreFullError, StoreUnavailableError, StorageError) as error:
            log_event(logging.WARNING, "the codes of a voice cannot be kept", why=str(error))

    def _remember(self, voice: StoredVoice, codes: Codes) -> None:
        self._remembered[voice.audio_sha256] = codes
        self._remembered.move_to_end(voice.audio_sha256)
        while len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
