# SPDX-License-Identifier: Apache-2.0
"""The wire between rank 0 and the others: a Unix socket each, beside MPI.

Waiting in MPI burns a core, and a rank that waits there for a dead one waits for ever. A socket
does neither: it sleeps until something comes, and it closes when the other end dies.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
from pathlib import Path

from duologue.runtime.errors import ConfigError, EngineError

_LENGTH = struct.Struct("<Q")
_NAME = "link"


class Link:
    """A connection on which messages go, each as a whole.

    Args:
        connection: a connected stream socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            OSError: the other end has gone.
        """
        self._connection.sendall(_LENGTH.pack(len(message)) + message)

    def receive(self) -> bytes | None:
        """The next message; None when the other end has gone."""
        head = self._read(_LENGTH.size)
        return None if head is None else self._read(_LENGTH.unpack(head)[0])

    def close(self) -> None:
        """Close the connection; a `receive` that waits in another thread returns None."""
        with contextlib.suppress(OSError):  # the other end may have been faster
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self, num_bytes: int) -> bytes | None:
        blocks: list[bytes] = []
        while num_bytes > 0:
            try:
                block = self._connection.recv(min(num_bytes, 1 << 20))
            except OSError:
                return None
            if not block:
                return None
            blocks.append(block)
            num_bytes -= len(block)
        return b"".join(blocks)


class Meeting:
    """The place where rank 0 waits for the others; only this user can reach it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="duologue-ranks-")
        self.path = Path(self._folder.name) / _NAME
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()

    def await_ranks(self, size: int, timeout_s: float) -> dict[int, Link]:
        """Wait until every other rank has come.

        Args:
            size: of the world.
            timeout_s: limit for each of them.

        Returns:
            Rank -> its link.

        Raises:
            EngineError: one did not come in time.
        """
        links: dict[int, Link] = {}
        self._listener.settimeout(timeout_s)
        while len(links) < size - 1:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                missing = sorted(set(range(1, size)) - set(links))
                raise EngineError(
                    f"rank {missing} did not come to rank 0 within {timeout_s:g} s"
                ) from None
            connection.settimeout(None)
            link = Link(connection)
            greeting = link.receive()
            if greeting is not None:
                links[int(greeting)] = link
        return links

    def close(self) -> None:
        """Take the place away; links stay open."""
        self._listener.close()
        self._folder.cleanup()


def join(path: Path, rank: int) -> Link:
    """Go to where rank 0 waits.

    Raises:
        ConfigError: it cannot be reached: the ranks run on different machines.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(os.fspath(path))
    except OSError as error:
        connection.close()
        raise ConfigError(
            f"rank {rank} cannot reach rank 0 at {path}: {error.strerror}; "
            "allowed: all ranks on one machine"
        ) from error
    link = Link(connection)
    link.send(str(rank).encode())
    return link
