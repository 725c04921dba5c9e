# SPDX-License-Identifier: Apache-2.0
"""The voice store.

with VoiceStore(folder) as store:
    store.add("Ann", read_reference(Path("ann.wav")), VoiceDetails(transcript="Hello there."))
    codes = store.codes(store.get("Ann"), codec_version_of(bundle))
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from duologue.runtime.audio import mono, validate_reference_audio
from duologue.runtime.core import IntArray
from duologue.runtime.voice_names import check_voice_name
from duologue.runtime.voice_store.codes import CodesCache
from duologue.runtime.voice_store.database import VOICES, Database
from duologue.runtime.voice_store.files import FileTree, disk_errors, sha256_of
from duologue.runtime.voice_store.types import (
    NameTakenError,
    NoSuchVoiceError,
    StoredVoice,
    StoreFullError,
    StoreUnavailableError,
    VoiceDetails,
    check_time,
)
from duologue.runtime.voice_store.wav_file import read_float_wav, write_float_wav
from duologue.runtime.voices import ReferenceAudio

DATABASE_FILE = "voices.db"
MAX_CODES_BYTES = 64_000_000
MAX_AUDIO_BYTES = 4_000_000_000
BUSY_TIMEOUT_S = 10.0


class VoiceStore:
    """Voices by name, shared by all processes that open the same folder.

    Every method may be called from several threads. Besides the errors named below, each raises
    `StoreUnavailableError` when the database is locked for too long or damaged.

    Args:
        folder: made if it is not there.
        max_codes_bytes: of the cache of codes; what was used longest ago makes room.
        max_audio_bytes: of all reference audio; beyond it no voice is added.
        busy_timeout_s: the longest wait for another process's write.

    Raises:
        StoreUnavailableError: the folder cannot be made, or holds another kind of database.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_codes_bytes: int = MAX_CODES_BYTES,
        max_audio_bytes: int = MAX_AUDIO_BYTES,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        with disk_errors():
            folder.mkdir(parents=True, exist_ok=True)
        self._max_audio_bytes = max_audio_bytes
        self._audio = FileTree(folder / "audio")
        self._database = Database(folder / DATABASE_FILE, busy_timeout_s=busy_timeout_s)
        self._codes = CodesCache(self._database, FileTree(folder / "codes"), max_codes_bytes)
        # Who is writing now sweeps, too: opening waits for nobody.
        with suppress(StoreUnavailableError):
            self._sweep(patient=False)

    def add(
        self,
        name: str,
        audio: ReferenceAudio,
        details: VoiceDetails,
        *,
        replace: bool = False,
        consent_at: str = "",
    ) -> StoredVoice:
        """Add a voice; when this returns, it survives a crash.

        Args:
            name: by which it will be asked for, see `voice_names.check_voice_name`.
            audio: its reference audio; its own transcript is not looked at.
            details: what is known of it.
            replace: a voice of that name becomes this one, with its version one higher.
            consent_at: when the consent was stated (ISO 8601); empty for now.

        Raises:
            VoiceError: the name or the audio cannot be used.
            NameTakenError: a voice of that name exists, and `replace` is False.
            StoreFullError: the limit is reached, or the disk is full.
        """
        name = check_voice_name(name)
        validate_reference_audio(audio.samples, audio.sample_rate_hz)
        data = write_float_wav(mono(audio.samples), audio.sample_rate_hz)
        now = _now()
        voice = StoredVoice(
            name=name,
            details=details,
            consent_at=check_time(consent_at) if consent_at else now,
            version=1,
            audio_sha256=sha256_of(data),
            sample_rate_hz=audio.sample_rate_hz,
            duration_s=len(audio.samples) / audio.sample_rate_hz,
            created_at=now,
        )
        before = self._insert(voice, data, replace)
        if before is None:
            return voice
        if before.audio_sha256 != voice.audio_sha256:
            self._sweep()
        return dataclasses.replace(voice, version=before.version + 1)

    def get(self, name: str) -> StoredVoice:
        """One voice.

        Raises:
            NoSuchVoiceError: there is none of that name.
        """
        with self._database.reading() as db:
            voice = _find(db, name)
        if voice is None:
            raise NoSuchVoiceError(f"the store has no voice {name[:64]!r}")
        return voice

    def list(self) -> tuple[StoredVoice, ...]:
        """All voices, by name."""
        with self._database.reading() as db:
            rows = db.execute(select(VOICES).order_by(VOICES.c.name)).all()
        return tuple(_from_row(row) for row in rows)

    def remove(self, name: str) -> None:
        """Forget a voice: its record, its audio unless another voice has the same, its codes.

        Raises:
            NoSuchVoiceError: there is none of that name.
        """
        with self._database.writing() as db:
            if db.execute(delete(VOICES).where(VOICES.c.name == name)).rowcount == 0:
                raise NoSuchVoiceError(f"the store has no voice {name[:64]!r}")
        # Only now: a file whose record is still there must not be missing.
        self._sweep()

    def audio(self, voice: StoredVoice) -> ReferenceAudio:
        """The reference audio of a voice, mono.

        Raises:
            VoiceError: it was removed in the meantime, or is damaged.
        """
        data = self._audio.read(_audio_name(voice.audio_sha256), voice.audio_sha256)
        samples, rate_hz = read_float_wav(data)
        return ReferenceAudio(samples, rate_hz, voice.details.transcript)

    def codes(self, voice: StoredVoice, codec_version: str) -> IntArray | None:
        """Codes [K, T] as a codec made them before, or None when they must be made.

        Args:
            voice: of this store.
            codec_version: see `codes.codec_version_of`.
        """
        return self._codes.get(voice.audio_sha256, codec_version)

    def keep_codes(self, voice: StoredVoice, codec_version: str, codes: IntArray) -> None:
        """Keep what a codec made of a voice; older codes make room.

        Args:
            voice: of this store; nothing is kept when it was removed in the meantime.
            codec_version: see `codes.codec_version_of`.
            codes: [K, T].

        Raises:
            StoreFullError: the disk is full.
        """
        with disk_errors():
            self._codes.put(voice.audio_sha256, codec_version, codes)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _insert(self, voice: StoredVoice, data: bytes, replace: bool) -> StoredVoice | None:
        """File and record in one transaction; gives the voice that had the name before."""
        with self._database.writing() as db, disk_errors():
            before = _find(db, voice.name)
            if before is not None:
                if not replace:
                    raise NameTakenError(f"a voice {voice.name!r} exists already; remove it first")
                voice = dataclasses.replace(voice, version=before.version + 1)
                db.execute(delete(VOICES).where(VOICES.c.name == voice.name))
            self._check_room(db, len(data))
            self._audio.write(_audio_name(voice.audio_sha256), data)
            db.execute(insert(VOICES).values(num_bytes=len(data), **voice.as_json()))
        return before

    def _check_room(self, db: Connection, num_bytes: int) -> None:
        taken = int(db.execute(select(func.sum(VOICES.c.num_bytes))).scalar() or 0)
        if taken + num_bytes > self._max_audio_bytes:
            raise StoreFullError(
                f"the voice store holds {taken} bytes of audio, and the voice has {num_bytes}; "
                f"allowed: {self._max_audio_bytes} altogether"
            )

    def _sweep(self, *, patient: bool = True) -> None:
        """Remove what no record names: leftovers of killed processes, and removed voices."""
        with self._database.writing(patient=patient) as db, disk_errors():
            digests = db.execute(select(VOICES.c.audio_sha256)).scalars()
            self._audio.sweep({_audio_name(digest) for digest in digests})
        self._codes.sweep(patient=patient)

    def __enter__(self) -> VoiceStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _audio_name(digest: str) -> str:
    return f"{digest[:2]}/{digest}.wav"


def _find(db: Connection, name: str) -> StoredVoice | None:
    row = db.execute(select(VOICES).where(VOICES.c.name == name)).one_or_none()
    return None if row is None else _from_row(row)


def _from_row(row: Row[Any]) -> StoredVoice:
    fields = dict(row._mapping)
    del fields["num_bytes"]
    said = ("transcript", "language", "description", "consent")
    details = VoiceDetails(**{key: fields.pop(key) for key in said})
    return StoredVoice(details=details, **fields)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
