# SPDX-License-Identifier: Apache-2.0
"""API keys: kept as hashes, compared in constant time, read again when their file changes.

A line of the key file is "name sha256" and what the key may do:

    alice 2bb80d... scopes=speak,voices rpm=60 burst=10 streams=4

Without `scopes` a key may speak. Keys are long and random, so a fast hash keeps them as well as a
slow one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from duologue.runtime.errors import AccessError, ConfigError

SPEAK, VOICES, ADMIN = "speak", "voices", "admin"
SCOPES = (SPEAK, VOICES, ADMIN)
PREFIX = "sk-duologue-"
_KEY_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of one key.

    Attributes:
        name: whose it is; shown in no answer and no metric.
        digest: SHA-256 of the key.
        scopes: "speak", "voices" (add and remove voices), "admin" (everything, and metrics).
        requests_per_minute, burst_size, max_streams: of this key; None leaves it to the server.
    """

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str] = frozenset({SPEAK})
    requests_per_minute: float | None = None
    burst_size: int | None = None
    max_streams: int | None = None

    def may(self, scope: str) -> bool:
        """Whether the key goes that far."""
        return scope in self.scopes or ADMIN in self.scopes

    def as_line(self) -> str:
        """As it stands in a key file."""
        limits = (
            ("rpm", self.requests_per_minute),
            ("burst", self.burst_size),
            ("streams", self.max_streams),
        )
        words = [f"{name}={value:g}" for name, value in limits if value is not None]
        scopes = ",".join(scope for scope in SCOPES if scope in self.scopes)
        return " ".join([self.name, self.digest.hex(), f"scopes={scopes}", *words])


class KeyRing:
    """The keys that open the door; with none at all, everybody may come in."""

    def __init__(
        self,
        keys: Sequence[Key] = (),
        path: Path | None = None,
        on_fault: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Take over keys, and watch over a file with more.

        Args:
            keys: that always count.
            path: of the file with more.
            on_fault: told when the file has become one that cannot be read.

        Raises:
            ConfigError: the file cannot be read, holds no key, or a line of it is none.
        """
        self._fixed = tuple(keys)
        self._path = path
        self._on_fault = on_fault
        self._stamp: object = None
        self._keys = self._fixed
        if path is not None:
            # Before the reading: a change in between is then seen at the next visit.
            self._stamp = _stamp(path)
            self._keys = (*self._fixed, *read_keys(path))

    @property
    def is_empty(self) -> bool:
        """No key is asked for."""
        return not self._fixed and self._path is None

    @property
    def has_file(self) -> bool:
        """A file has keys, so that `refresh` has something to look at."""
        return self._path is not None

    def find(self, header: str | None) -> Key | None:
        """Who is calling, by the keys as `refresh` last found them; waits for nothing.

        Args:
            header: "Bearer KEY", or the key alone.

        Returns:
            The key; None when no key is asked for.

        Raises:
            AccessError: no key, or one that is unknown.
        """
        if self.is_empty:
            return None
        shown = (header or "").strip()
        if shown[:7].lower() == "bearer ":
            shown = shown[7:].strip()
        if not shown:
            raise AccessError("an API key is needed: Authorization: Bearer KEY")
        wanted = digest_of(shown)
        # Every hash is looked at, so that the time says nothing about which one it was.
        found = [key for key in self._keys if hmac.compare_digest(key.digest, wanted)]
        if not found:
            raise AccessError("the API key is unknown")
        return found[0]

    def refresh(self) -> None:
        """Read the file again if it is another one: a key that was taken out is refused next.

        May wait for the disk: call it from a thread, and from one at a time.
        """
        if self._path is None:
            return
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = (*self._fixed, *read_keys(self._path))
        except ConfigError as error:
            self._on_fault(str(error))
            # Better nobody than somebody whose key was being taken out.
            self._keys = self._fixed


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file.

    Raises:
        ConfigError: it cannot be read, holds no key, or a line is none. The line itself is not
            shown: it may be a key that was not hashed.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"auth.keys_file {path} cannot be read: {error}") from error
    keys = tuple(
        _read_line(line.split(), f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    )
    if not keys:
        raise ConfigError(f"auth.keys_file {path} holds no key")
    return keys


def make_key(name: str, **limits: object) -> tuple[str, Key]:
    """Draw a key.

    Args:
        name: whose it is.
        **limits: other fields of `Key`.

    Returns:
        The key itself, which is nowhere kept, and what is to be kept of it.

    Raises:
        ConfigError: the name or a limit cannot be used.
    """
    secret = PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    line = Key(name, digest_of(secret), **limits).as_line()  # type: ignore[arg-type]
    # Read back, so that whatever is written can be read.
    return secret, _read_line(line.split(), "the new key")


def digest_of(key: str) -> bytes:
    """SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _read_line(words: list[str], where: str) -> Key:
    name, digest, *rest = (*words, "", "")
    if not _NAME.fullmatch(name) or not _HASH.fullmatch(digest):
        raise ConfigError(f"{where} is no key; allowed: a name, a space, 64 hexadecimal digits")
    fields = dict(word.partition("=")[::2] for word in rest if word)
    scopes = frozenset(fields.pop("scopes", SPEAK).split(","))
    try:
        rpm = _positive(fields.pop("rpm", None), float)
        burst = _positive(fields.pop("burst", None), int)
        streams = _positive(fields.pop("streams", None), int)
    except ValueError:
        raise ConfigError(f"{where}: rpm, burst and streams are numbers above 0") from None
    if fields or not scopes <= set(SCOPES):
        raise ConfigError(
            f"{where}: behind the hash are allowed: scopes={','.join(SCOPES)} rpm= burst= streams="
        )
    return Key(
        name=name,
        digest=bytes.fromhex(digest),
        scopes=scopes,
        requests_per_minute=rpm,
        burst_size=None if burst is None else int(burst),
        max_streams=None if streams is None else int(streams),
    )


def _positive(text: str | None, kind: type[float] | type[int]) -> float | None:
    if text is None:
        return None
    value = kind(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _stamp(path: Path) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
