"""All four clients behind the same verbs, and a gateway for the two that speak HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client_verbs import AsyncVerbs, SyncVerbs
from live_gateway import Gateway
from scripted_client import ScriptedClient

from duologue.client import (
    AsyncDialogueClient,
    AsyncHttpDialogueClient,
    DialogueClient,
    HttpDialogueClient,
)
from duologue.models import noise_bundle_path
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

CLIENTS: dict[str, Any] = {
    "grpc": DialogueClient,
    "grpc-asyncio": AsyncDialogueClient,
    "http": HttpDialogueClient,
    "http-asyncio": AsyncHttpDialogueClient,
}


@contextlib.contextmanager
def open_gateway(grpc_url: str, storage: Path, **api: Any) -> Iterator[Gateway]:
    """A gateway in front of a server with the noise bundle; its files lie in `storage`."""
    monitoring = {"metrics_port": 0, "health_check_interval": 3600}
    flags = {
        "api": {"port": 0, "monitoring": monitoring, **api},
        "storage": {"voice_samples_dir": storage / "voices", "cache_dir": storage / "cache"},
    }
    settings = load_settings(flags=flags, environment={})
    bundle = noise_bundle_path()
    with GatewayServer(settings, grpc_url, bundle_dir=bundle, grace_s=2) as server:
        yield Gateway(server, ScriptedClient())


def open_client(kind: str, url: str, **settings: Any) -> Any:
    """A client of a kind behind the verbs that all of them have."""
    verbs = AsyncVerbs if kind.endswith("asyncio") else SyncVerbs
    return verbs(lambda: CLIENTS[kind](url, **settings))
