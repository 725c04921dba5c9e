# SPDX-License-Identifier: Apache-2.0
"""Voices by name for a server of our own: its bundle's, and those of this user's store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from duologue.client.types import Voice
    from duologue.runtime.config import Bundle
    from duologue.runtime.core import FloatArray
    from duologue.runtime.voice_store.store import VoiceStore
    from duologue.runtime.voice_store.types import StoredVoice

# Mono audio at the codec's input rate to codes [K, T].
Encode = Callable[["FloatArray"], "npt.NDArray[np.integer[Any]]"]
_SHOWN = 60


class OwnVoices:
    """The voices of the store among those that are asked for.

    Args:
        bundle: that will speak.
        store: where they were found.
        found: speaker -> voice; the others are the bundle's, which the model knows by name.
    """

    def __init__(
        self, bundle: Bundle, store: VoiceStore | None, found: Mapping[int, StoredVoice]
    ) -> None:
        self._bundle = bundle
        self._store = store
        self._found = found

    def encoded(self, encode: Encode) -> dict[int, Voice]:
        """The same as codes, made now unless they are kept already.

        Args:
            encode: of the codec that belongs to the bundle.

        Raises:
            VoiceError: the audio of a voice is gone or damaged.
        """
        return {speaker: self._voice(voice, encode) for speaker, voice in self._found.items()}

    def _voice(self, stored: StoredVoice, encode: Encode) -> Voice:
        import numpy as np

        from duologue.client.types import Voice
        from duologue.runtime.voice_store.codes import codec_version_of
        from duologue.runtime.voices import to_codec_input

        assert self._store is not None
        version = codec_version_of(self._bundle)
        codes = self._store.codes(stored, version)
        if codes is None:
            rate_hz = self._bundle.codec.input_rate_hz
            samples = to_codec_input([self._store.audio(stored)], rate_hz)
            codes = encode(samples).astype(np.int64)
            self._store.keep_codes(stored, version, codes)
        return Voice(codes.astype(np.int32), stored.details.transcript)


@contextlib.contextmanager
def find_voices(names: Mapping[int, str], bundle: Bundle, bundle_dir: Path) -> Iterator[OwnVoices]:
    """Look voices up before anything is started; the store is open within the block.

    Args:
        names: speaker -> name. A name of the bundle goes before one of the store.
        bundle: that will speak.
        bundle_dir: where it lies.

    Raises:
        VoiceError: nobody goes by a name; says which names there are.
    """
    from duologue.runtime.presets import read_presets
    from duologue.runtime.voice_names import DEFAULT_NAMES

    named = {speaker: name for speaker, name in names.items() if name not in DEFAULT_NAMES}
    presets = read_presets(bundle, bundle_dir).names if named else ()
    wanted = {speaker: name for speaker, name in named.items() if name not in presets}
    if not wanted:
        yield OwnVoices(bundle, None, {})
        return
    with _open_store() as store:
        stored = {} if store is None else {voice.name: voice for voice in store.list()}
        for name in wanted.values():
            if name not in stored:
                raise _unknown(name, ("default", *presets), tuple(stored))
        found = {speaker: stored[name] for speaker, name in wanted.items()}
        yield OwnVoices(bundle, store, found)


def _unknown(name: str, of_bundle: tuple[str, ...], of_store: tuple[str, ...]) -> Exception:
    from duologue.runtime.errors import VoiceError

    kept = f"; of the voice store: {', '.join(of_store)}" if of_store else ""
    return VoiceError(
        f"the voice {name[:_SHOWN]!r} is unknown; allowed: {', '.join(of_bundle)}{kept}; "
        "`duologue voices add FILE` adds one"
    )


@contextlib.contextmanager
def _open_store() -> Iterator[VoiceStore | None]:
    """The store, if there is one and what reads it is installed."""
    from duologue.runtime.places import voices_dir

    try:
        from duologue.runtime.voice_store.store import DATABASE_FILE, VoiceStore
    except ModuleNotFoundError:
        yield None
        return
    if not (voices_dir() / DATABASE_FILE).is_file():
        yield None
        return
    with VoiceStore(voices_dir()) as store:
        yield store
