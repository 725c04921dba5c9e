# SPDX-License-Identifier: Apache-2.0
"""API keys: kept as hashes, compared in constant time.

A line of the key file is "name sha256"; `printf %s "$KEY" | sha256sum` gives the hash. Keys are
long and random, so a fast hash keeps them as well as a slow one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from duologue.client.errors import AccessError
from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.setting_groups import AuthSettings

_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,63})\s+(?P<hash>[0-9a-fA-F]{64})")


class KeyRing:
    """The keys that open the door; with none at all, everybody may come in."""

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        """Take over name -> SHA-256 of a key."""
        self._hashes = dict(hashes)

    @property
    def is_empty(self) -> bool:
        """No key is asked for."""
        return not self._hashes

    def name_of(self, header: str | None) -> str | None:
        """Who is calling.

        Args:
            header: "Bearer KEY", or the key alone.

        Returns:
            The key's name; None when no key is asked for.

        Raises:
            AccessError: no key, or one that is unknown.
        """
        if self.is_empty:
            return None
        key = (header or "").strip()
        if key[:7].lower() == "bearer ":
            key = key[7:].strip()
        if not key:
            raise AccessError("an API key is needed: Authorization: Bearer KEY")
        wanted = _hash(key)
        # Every hash is looked at, so that the time says nothing about which one it was.
        found = [name for name, known in self._hashes.items() if hmac.compare_digest(known, wanted)]
        if not found:
            raise AccessError("the API key is unknown")
        return found[0]


def load_keys(settings: AuthSettings) -> KeyRing:
    """Read the keys that the settings name.

    Raises:
        ConfigError: the key file cannot be read, or a line of it is no key. The line itself is
            not shown: it may be a key that was not hashed.
    """
    hashes = {
        f"key{i}": _hash(secret.get_secret_value()) for i, secret in enumerate(settings.keys, 1)
    }
    path = settings.keys_file
    if path is not None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"auth.keys_file {path} cannot be read: {error}") from error
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.startswith("#"):
                name, digest = _read_line(line.strip(), f"{path}, line {number}")
                hashes[name] = digest
        if not hashes:
            raise ConfigError(f"auth.keys_file {path} holds no key")
    return KeyRing(hashes)


def _read_line(line: str, where: str) -> tuple[str, bytes]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ConfigError(f"{where} is no key; allowed: a name, a space, 64 hexadecimal digits")
    return match["name"], bytes.fromhex(match["hash"])


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
