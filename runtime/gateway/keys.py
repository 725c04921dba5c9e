# SPDX-License-Identifier: Apache-2.0
"""Who stands at the door: which key, how far it goes, how much it may ask for at a time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from duologue.runtime import keys
from duologue.runtime.gateway.faults import ForbiddenError
from duologue.runtime.gateway.logs import log_event
from duologue.runtime.gateway.setting_groups import AuthSettings, CorsSettings
from duologue.runtime.gateway.watched_keys import WatchedKeys
from duologue.runtime.keys import ADMIN, SPEAK, VOICES, Key, KeyRing

# Everything at and below these asks for a key; the page, health and documentation do not.
KEYED_PATHS = ("/v1", "/api", "/tts", "/tts_to_audio", "/speakers")
_VOICE_PATHS = ("/v1/audio/voices", "/v1/audio/voice_consents", "/api/v1/voices")
_FILE_PATHS = ("/v1/audio/voices", "/api/v1/voices/upload", "/api/v1/tts/synthesize_file")
_READING = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks for something.

    Attributes:
        request_id: of this visit; for log and answer.
        name: of the key or the address; in no answer, no metric and no log.
        requests_per_minute, burst_size, max_streams: of the key; None leaves it to the server.
    """

    request_id: str = ""
    name: str = ""
    requests_per_minute: float | None = None
    burst_size: int | None = None
    max_streams: int | None = None


def load_keys(settings: AuthSettings) -> KeyRing:
    """The keys that the settings name; those of the environment may do everything.

    Raises:
        ConfigError: the key file cannot be read, or a line of it is no key.
    """
    own = [
        Key(f"key{i}", keys.digest_of(secret.get_secret_value()), frozenset({SPEAK, VOICES, ADMIN}))
        for i, secret in enumerate(settings.keys, 1)
    ]

    def tell(fault: str) -> None:
        log_event(logging.ERROR, "the key file cannot be used, and its keys are refused", why=fault)

    return KeyRing(own, settings.keys_file, tell)


def is_keyed(path: str) -> bool:
    """Whether a path asks for a key.

    >>> [is_keyed(path) for path in ("/v1/models", "/tts", "/", "/static/app.js", "/v1x")]
    [True, True, False, False, False]
    """
    return any(path == keyed or path.startswith(f"{keyed}/") for keyed in KEYED_PATHS)


def scope_of(path: str, method: str) -> str | None:
    """How far a key must go; None where any key will do.

    >>> scope_of("/v1/audio/voices", "POST"), scope_of("/v1/audio/voices", "GET")
    ('voices', None)
    """
    if method in _READING:
        return None
    is_voice = any(path == own or path.startswith(f"{own}/") for own in _VOICE_PATHS)
    return VOICES if is_voice else SPEAK


def takes_files(path: str, method: str) -> bool:
    """Whether a route takes files.

    >>> takes_files("/v1/audio/voices", "POST"), takes_files("/v1/audio/speech", "POST")
    (True, False)
    """
    return method == "POST" and path in _FILE_PATHS


def is_welcome(headers: Headers, cors: CorsSettings) -> bool:
    """Whether a request comes from no page at all, from our own, or from one that may call."""
    origin = headers.get("origin")
    if origin is None or urlsplit(origin).netloc == headers.get("host"):
        return True
    return cors.enabled and ("*" in cors.origins or origin in cors.origins)


async def visitor_at(known: WatchedKeys, connection: HTTPConnection, scope: str | None) -> Visitor:
    """Who is calling over HTTP.

    Raises:
        AccessError, KeyFileError: see `WatchedKeys.find`.
        ForbiddenError: the key does not go that far.
    """
    host = connection.client.host if connection.client else ""
    request_id: str = getattr(connection.state, "request_id", "")
    return await visitor_with(known, connection.headers, host, scope, request_id)


async def visitor_with(
    known: WatchedKeys, headers: Headers, host: str, scope: str | None, request_id: str = ""
) -> Visitor:
    """Who shows these headers.

    Args:
        known: the keys that open the door.
        headers: of the request, or its metadata.
        host: where it comes from.
        scope: how far the key must go; None takes any.
        request_id: of this visit.

    Raises:
        AccessError, KeyFileError: see `WatchedKeys.find`.
        ForbiddenError: the key does not go that far.
    """
    key = await known.find(headers.get("authorization") or headers.get("x-api-key"))
    if key is None:
        return Visitor(request_id, f"address {host}")
    if scope is not None and not key.may(scope):
        raise ForbiddenError(f"the API key may not do this: it lacks the scope {scope!r}")
    return Visitor(
        request_id,
        f"key {key.name}",
        key.requests_per_minute,
        key.burst_size,
        key.max_streams,
    )


def visitor_of(connection: HTTPConnection) -> Visitor:
    """Who the threshold found to be calling."""
    visitor: Visitor = connection.state.visitor
    return visitor
