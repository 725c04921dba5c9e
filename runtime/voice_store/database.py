# SPDX-License-Identifier: Apache-2.0
"""The records of the voice store: SQLite with a write-ahead log, through SQLAlchemy.

Readers never wait; writers of all processes queue up for one lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)
from sqlalchemy.exc import DatabaseError

from duologue.runtime.voice_store.types import StoreFullError, StoreUnavailableError

SCHEMA_VERSION = 1

_METADATA = MetaData()

VOICES = Table(
    "voices",
    _METADATA,
    Column("name", String, primary_key=True),
    Column("transcript", String, nullable=False),
    Column("language", String, nullable=False),
    Column("description", String, nullable=False),
    Column("consent", String, nullable=False),
    Column("consent_at", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("audio_sha256", String, nullable=False, index=True),
    Column("num_bytes", Integer, nullable=False),
    Column("sample_rate_hz", Integer, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("created_at", String, nullable=False),
)
# `used` counts uses of the whole table: the smallest number was used longest ago.
CODES = Table(
    "codes",
    _METADATA,
    Column("audio_sha256", String, primary_key=True),
    Column("codec_version", String, primary_key=True),
    Column("num_bytes", Integer, nullable=False),
    Column("used", Integer, nullable=False, index=True),
)

_WRITES = "duologue_writes"


class Database:
    """Transactions on the records.

    Args:
        path: of the database; made if it is not there.
        busy_timeout_s: the longest wait for another process's transaction.

    Raises:
        StoreUnavailableError: the file is no database of ours, or cannot be opened.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        self._path = path
        self._engine = _open(path, busy_timeout_s)
        with self.reading() as db:
            found = db.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found not in (0, SCHEMA_VERSION):
            raise StoreUnavailableError(
                f"{path} has version {found}; allowed: {SCHEMA_VERSION}, or a newer duologue"
            )
        if found == 0:
            with self.writing() as db:
                _METADATA.create_all(db)
                db.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the records."""
        with self._translated(), self._engine.begin() as db:
            yield db

    @contextmanager
    def writing(self, *, patient: bool = True) -> Iterator[Connection]:
        """A transaction that holds the write lock from its beginning to its end.

        Args:
            patient: wait for other writers; else fail at once if there is one.
        """
        engine = self._engine.execution_options(**{_WRITES: "patient" if patient else "now"})
        with self._translated(), engine.begin() as db:
            yield db

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            code = getattr(error.orig, "sqlite_errorname", "")
            if code == "SQLITE_FULL":
                raise StoreFullError("the disk of the voice store is full") from error
            raise StoreUnavailableError(f"{self._path} cannot be used: {error.orig}") from error


def _open(path: Path, busy_timeout_s: float) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": busy_timeout_s})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        # The driver begins no transactions by itself: they are ours to begin.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        wait_ms = 0 if writes == "now" else round(1000 * busy_timeout_s)
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {wait_ms}")
        connection.exec_driver_sql("BEGIN" if writes is None else "BEGIN IMMEDIATE")

    return engine
