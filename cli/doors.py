# SPDX-License-Identifier: Apache-2.0
"""What the verbs need of the rest of the house, handed in so that tests can stand in for it.

Nothing heavy is imported before a door is opened: `--help` needs typer and rich alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from duologue.runtime.supervisor.charges import FrontDoor, SpeechServer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    from duologue.cli.player import Player
    from duologue.client.types import AudioChunk, SpeechKwargs
    from duologue.runtime.codec.base import Codec
    from duologue.runtime.core import PcmChunk, SpeechRequest
    from duologue.runtime.gateway.settings import Settings


class ChunkStream(Protocol):
    """A stream of the client."""

    def __iter__(self) -> Iterator[AudioChunk]: ...

    def close(self) -> None:
        """End it; cancels what is not finished."""
        ...


class Client(Protocol):
    """A connection to a server, such as `duologue.client.DialogueClient`."""

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> ChunkStream:
        """Speak a script."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Encoder(Client, Protocol):
    """A connection over gRPC, which can also make voices."""

    def encode(self, samples: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Reference audio, mono at the codec's input rate, as codes [K, T]."""
        ...


class Connect(Protocol):
    """Connects to a running server."""

    def __call__(self, url: str, *, api_key: str | None = None) -> Client:
        """Connect to "host:port" over gRPC, or to "http://..." or "https://..."."""
        ...


class Server(AbstractContextManager["Server"], SpeechServer, Protocol):
    """A server of our own, such as `supervisor.embedded.EmbeddedServer`.

    It runs for the length of a `with` block, or between `start` and `stop`.
    """

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC door, "host:port"."""
        ...

    @property
    def http_url(self) -> str | None:
        """Base address of Triton's HTTP door, or None when it is closed."""
        ...

    @property
    def metrics_url(self) -> str | None:
        """Address of the Prometheus metrics, or None when that door is closed."""
        ...

    @property
    def bundle_dir(self) -> Path:
        """Folder of the bundle that it serves."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts about the server: engine, precision, slots, kv_bytes."""
        ...


class Gateway(FrontDoor, Protocol):
    """The HTTP door in a process of its own, such as `gateway.process.GatewayProcess`."""

    @property
    def url(self) -> str:
        """Base address of it."""
        ...

    @property
    def grpc_url(self) -> str | None:
        """Address of the gRPC door for other machines, or None when it is closed."""
        ...

    @property
    def metrics_url(self) -> str | None:
        """Address of the metrics of gateway and Triton, or None when they are off."""
        ...


class RuntimeStream(Protocol):
    """A stream of the synthesizer in this process."""

    stream_id: str
    seed: int

    def __iter__(self) -> Iterator[PcmChunk]: ...

    def cancel(self) -> None:
        """End it."""
        ...


class Synthesizer(Protocol):
    """Speech in this process, such as `duologue.runtime.synthesizer.Synthesizer`."""

    @property
    def codec(self) -> Codec:
        """For those who encode voices themselves."""
        ...

    def submit(self, request: SpeechRequest) -> RuntimeStream:
        """Begin to speak."""
        ...

    def close(self) -> None:
        """Give memory and threads back."""
        ...


class StartServer(Protocol):
    """Makes a server that runs for the length of a `with` block."""

    def __call__(self, bundle_dir: Path, *, engine: str, **options: Any) -> Server:
        """Describe the server; entering the result starts it."""
        ...


class StartGateway(Protocol):
    """Makes the HTTP door in front of a server."""

    def __call__(self, settings: Settings, server: Server, grace_s: float) -> Gateway:
        """Describe it; its `start` starts it."""
        ...


class LoadSynthesizer(Protocol):
    """Loads a bundle into this process."""

    def __call__(self, bundle: Path, *, engine: str) -> Synthesizer:
        """Load it."""
        ...


def _connect(url: str, *, api_key: str | None = None) -> Client:
    from duologue.client import DialogueClient

    if url.startswith(("http://", "https://")):
        from duologue.client import HttpDialogueClient

        return HttpDialogueClient(url, api_key=api_key)
    return DialogueClient(url, api_key=api_key)


def _start_server(bundle_dir: Path, *, engine: str, **options: Any) -> Server:
    from duologue.runtime.supervisor.embedded import EmbeddedServer

    return EmbeddedServer(bundle_dir, engine=engine, **options)


def _start_gateway(settings: Settings, server: Server, grace_s: float) -> Gateway:
    from duologue.runtime.gateway.process import GatewayProcess

    return GatewayProcess(
        settings,
        server.grpc_url,
        triton_metrics_url=server.metrics_url,
        bundle_dir=server.bundle_dir,
        grace_s=grace_s,
        describe_model=server.describe,
    )


def _why_not_embedded() -> str | None:
    from duologue.runtime.supervisor.requirements import why_not_embedded

    return why_not_embedded()


def _load_synthesizer(bundle: Path, *, engine: str) -> Synthesizer:
    from duologue.runtime.synthesizer import Synthesizer as Loaded

    return Loaded.load(bundle, engine=engine)


def _resolve_bundle(bundle: str) -> Path:
    from duologue.models import resolve_bundle

    return resolve_bundle(bundle)


def _find_player() -> Player | None:
    from duologue.cli.player import find_player

    return find_player()


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything that a verb opens.

    Attributes:
        connect: to a server at "host:port".
        start_server: of our own, for the length of a `with` block.
        start_gateway: the HTTP door in front of a server.
        why_not_embedded: why no such server can run here, or None.
        load_synthesizer: for speech in this process.
        resolve_bundle: the folder of a bundle as named on the command line.
        find_player: a program that plays audio, or None.
    """

    connect: Connect = _connect
    start_server: StartServer = _start_server
    start_gateway: StartGateway = _start_gateway
    why_not_embedded: Callable[[], str | None] = _why_not_embedded
    load_synthesizer: LoadSynthesizer = _load_synthesizer
    resolve_bundle: Callable[[str], Path] = _resolve_bundle
    find_player: Callable[[], Player | None] = _find_player
