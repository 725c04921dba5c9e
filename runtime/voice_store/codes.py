# SPDX-License-Identifier: Apache-2.0
"""Prompt codes, kept per codec; what was used longest ago makes room."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from duologue.runtime.config import Bundle
from duologue.runtime.core import IntArray
from duologue.runtime.voice_store.database import CODES, VOICES, Database
from duologue.runtime.voice_store.files import FileTree

_CODEC_FILES = "codec"
_DIGITS = 32
_TENSOR = "codes"


def codec_version_of(bundle: Bundle) -> str:
    """A name for what turns audio into codes: the same audio, the same codes.

    Args:
        bundle: its codec's numbers and the hashes of its codec's files count.

    Returns:
        Hexadecimal digits, also good as the name of a folder.
    """
    files = {name: entry for name, entry in bundle.files.items() if name.startswith(_CODEC_FILES)}
    facts = {
        "files": {name: entry["sha256"] for name, entry in files.items()},
        "kind": bundle.codec.kind,
        "input_rate_hz": bundle.codec.input_rate_hz,
        "num_codebooks": bundle.codec.num_codebooks,
        "codebook_size": bundle.codec.codebook_size,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:_DIGITS]


class CodesCache:
    """Codes on disk, by audio and codec.

    Args:
        database: holds their records.
        files: hold the codes.
        max_bytes: of all files together.
    """

    def __init__(self, database: Database, files: FileTree, max_bytes: int) -> None:
        self._database = database
        self._files = files
        self._max_bytes = max_bytes

    def get(self, audio_sha256: str, codec_version: str) -> IntArray | None:
        """Codes [K, T], or None when they are not here."""
        key = _key(audio_sha256, codec_version)
        with self._database.reading() as db:
            used = db.execute(select(CODES.c.used).where(key)).scalar()
            newest = db.execute(select(func.max(CODES.c.used))).scalar()
        if used is None:
            return None
        try:
            data = self._files.path_of(_name(audio_sha256, codec_version)).read_bytes()
            codes: IntArray = load(data)[_TENSOR].astype(np.int64)
        except (OSError, SafetensorError, KeyError):
            return None  # gone or damaged: they are made again
        if used != newest:
            with self._database.writing() as db:
                db.execute(update(CODES).where(key).values(used=_next_use(db)))
        return codes

    def put(self, audio_sha256: str, codec_version: str, codes: IntArray) -> None:
        """Keep codes [K, T] of an audio that the store has, if they fit at all."""
        data = save({_TENSOR: np.ascontiguousarray(codes, dtype=np.int16)})
        if len(data) > self._max_bytes:
            return
        with self._database.writing() as db:
            is_known = select(VOICES.c.name).where(VOICES.c.audio_sha256 == audio_sha256)
            if db.execute(is_known.limit(1)).scalar() is None:
                return  # removed in the meantime
            self._files.write(_name(audio_sha256, codec_version), data)
            db.execute(delete(CODES).where(_key(audio_sha256, codec_version)))
            db.execute(
                insert(CODES).values(
                    audio_sha256=audio_sha256,
                    codec_version=codec_version,
                    num_bytes=len(data),
                    used=_next_use(db),
                )
            )
            is_crowded = self._make_room(db)
        if is_crowded:
            self.sweep()

    def sweep(self, *, patient: bool = True) -> None:
        """Remove records without a voice, and files without a record.

        Args:
            patient: wait for other writers.
        """
        with self._database.writing(patient=patient) as db:
            voices = select(VOICES.c.audio_sha256)
            db.execute(delete(CODES).where(CODES.c.audio_sha256.not_in(voices)))
        with self._database.writing(patient=patient) as db:
            rows = db.execute(select(CODES.c.audio_sha256, CODES.c.codec_version)).all()
            self._files.sweep({_name(row.audio_sha256, row.codec_version) for row in rows})

    def _make_room(self, db: Connection) -> bool:
        """Forget the codes that were used longest ago; says whether there were any."""
        rows = db.execute(select(CODES).order_by(CODES.c.used.desc())).all()
        total, is_crowded = 0, False
        for row in rows:
            total += row.num_bytes
            if total > self._max_bytes:
                is_crowded = True
                db.execute(delete(CODES).where(_key(row.audio_sha256, row.codec_version)))
        return is_crowded


def _key(audio_sha256: str, codec_version: str) -> ColumnElement[bool]:
    return and_(CODES.c.audio_sha256 == audio_sha256, CODES.c.codec_version == codec_version)


def _name(audio_sha256: str, codec_version: str) -> str:
    return f"{codec_version}/{audio_sha256}.safetensors"


def _next_use(db: Connection) -> int:
    return int(db.execute(select(func.max(CODES.c.used))).scalar() or 0) + 1
