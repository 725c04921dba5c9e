# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from duologue.runtime.errors import VoiceError
from duologue.runtime.voice_store.types import StoreFullError, StoreUnavailableError

_TEMPORARY = ".partial"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def sha256_of(data: bytes) -> str:
    """Hash of a file's bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def disk_errors() -> Iterator[None]:
    """Tell troubles of the disk as errors of the store.

    Raises:
        StoreFullError: no room is left.
        StoreUnavailableError: anything else, such as a missing permission.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFullError("the disk of the voice store is full") from error
        raise StoreUnavailableError(f"the voice store cannot be used: {error}") from error


class FileTree:
    """Files below one folder, by relative names that this package makes up.

    All writing and sweeping is done under the write lock of the database: then whatever has no
    record is a leftover.

    Args:
        folder: made when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, name: str) -> Path:
        """Where a file lies."""
        return self._folder / name

    def write(self, name: str, data: bytes) -> None:
        """Put a file in its place: written beside it, flushed to the disk, renamed.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + _TEMPORARY)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)

    def read(self, name: str, sha256: str) -> bytes:
        """The bytes of a file.

        Raises:
            VoiceError: it is gone, or is not what was written.
        """
        try:
            data = self.path_of(name).read_bytes()
        except FileNotFoundError as error:
            raise VoiceError("the audio of the voice is gone from the store") from error
        if sha256_of(data) != sha256:
            raise VoiceError("the audio of the voice is damaged in the store: its hash differs")
        return data

    def sweep(self, wanted: Collection[str]) -> None:
        """Remove all files but these, half-written ones too."""
        for path in self._files():
            if path.relative_to(self._folder).as_posix() not in wanted:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return (path for path in sorted(self._folder.rglob("*")) if path.is_file())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
