# SPDX-License-Identifier: Apache-2.0
"""Names under which a gateway without keys answers.

A page of a stranger may let its own name point at this machine once it is loaded (DNS rebinding);
to a browser, the gateway is then the page's own server. The Host header still tells the name. A
plain address is nobody's name, so it tells of no such page. Where a key is asked for, the page has
none, and any name will do.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection

from duologue.runtime.gateway.faults import HostNotAllowedError
from duologue.runtime.gateway.setting_groups import ApiSettings

EVERY_NAME = "*"
_SHOWN = 100
# A name or a number, or what stands in brackets; then perhaps a port.
_HOST = re.compile(r"(?:\[(?P<number>[^\]]*)\]|(?P<name>[^:@\[\]]*))(?::[0-9]*)?")


class HostNames:
    """The names that this gateway goes by.

    Args:
        host: address that it listens at.
        names: further ones; "*" allows every name.
        own_name: of this machine; None asks it.
    """

    def __init__(self, host: str, names: Collection[str], own_name: str | None = None) -> None:
        own = socket.gethostname() if own_name is None else own_name
        self._names = {_plain(name) for name in ("localhost", own, host, *names)} - {""}

    @classmethod
    def of(cls, api: ApiSettings) -> HostNames:
        """Those of the settings."""
        return cls(api.host, api.allowed_hosts)

    def allow(self, header: str) -> bool:
        """Whether a Host header is one of ours; browsers always send one, so none is harmless.

        >>> names = HostNames("127.0.0.1", ["tts.lan"], own_name="box")
        >>> [names.allow(host) for host in ("localhost:9000", "[::1]", "TTS.lan", "evil.example")]
        [True, True, True, False]
        """
        match = _HOST.fullmatch(header.strip())
        if match is None:
            return False
        name = _plain(match["number"] or match["name"] or "")
        is_own = name in self._names or name.endswith(".localhost")
        return not header or is_own or _is_number(name) or EVERY_NAME in self._names

    def check(self, header: str) -> None:
        """Refuse a Host header that is not ours.

        Raises:
            HostNotAllowedError: says which are allowed.
        """
        if not self.allow(header):
            raise HostNotAllowedError(
                f"the name {header[:_SHOWN].partition(':')[0]!r} in the Host header is none of "
                "this server's; allowed without API keys: localhost, plain addresses, this "
                "machine's own name, api.host, and the names in the setting api.allowed_hosts"
            )


def _plain(name: str) -> str:
    return name.strip().lower().removesuffix(".")


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
