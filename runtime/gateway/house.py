# SPDX-License-Identifier: Apache-2.0
"""What all routes share: settings, the connection, limits, numbers."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from starlette.requests import HTTPConnection

from duologue.client.types import AudioChunk, SpeechKwargs
from duologue.runtime.gateway.faults import UnknownModelError, UnknownVoiceError
from duologue.runtime.gateway.keys import load_keys
from duologue.runtime.gateway.limits import Admission, RateLimiter
from duologue.runtime.gateway.logs import num_dropped_lines
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.outage import Outage
from duologue.runtime.gateway.setting_groups import OPENAI_MODELS
from duologue.runtime.gateway.settings import Settings
from duologue.runtime.gateway.trouble import Trouble
from duologue.runtime.keys import KeyRing

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT_VOICE = "default"
_SHOWN = 60


class ChunkStream(AbstractAsyncContextManager["ChunkStream"], Protocol):
    """A stream of the client; leaving it early cancels the request."""

    async def __anext__(self) -> AudioChunk: ...


class Client(Protocol):
    """A connection to the model, such as `duologue.client.AsyncDialogueClient`."""

    def stream(self, script: str, **options: Unpack[SpeechKwargs]) -> ChunkStream:
        """Speak a script."""
        ...

    async def is_ready(self) -> bool:
        """Whether the server answers and its model is loaded."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """What all routes share.

    Attributes:
        settings: as they were at the start.
        client: makes the audio.
        keys: that open the door.
        rates: requests per caller.
        admission: dialogues at the same time.
        metrics: for Prometheus.
        trouble: rung when the model failed a request.
        outage: whether the model is away at present.
    """

    settings: Settings
    client: Client
    keys: KeyRing
    rates: RateLimiter
    admission: Admission
    metrics: Metrics
    trouble: Trouble
    outage: Outage

    def check_model(self, name: str) -> None:
        """Refuse a model that is not ours.

        Raises:
            UnknownModelError: it is neither our own nor one of OpenAI's names.
        """
        if name not in self.model_names:
            raise UnknownModelError(
                f"the model {name[:_SHOWN]!r} is unknown; allowed: {', '.join(self.model_names)}"
            )

    def voice_at_server(self, name: str) -> str:
        """The server's name of a voice.

        Raises:
            UnknownVoiceError: no voice goes by that name.
        """
        found = self.voices.get(name or DEFAULT_VOICE)
        if found is None:
            raise UnknownVoiceError(
                f"the voice {name[:_SHOWN]!r} is unknown; GET /v1/audio/voices lists all voices"
            )
        return found

    @property
    def model_names(self) -> tuple[str, ...]:
        """Our own first."""
        return (self.settings.model_name, *OPENAI_MODELS)

    @property
    def voices(self) -> dict[str, str]:
        """Every name of a voice -> the server's name of it."""
        return {DEFAULT_VOICE: DEFAULT_VOICE, **self.settings.voices.aliases}

    async def voice_names(self) -> list[str]:
        """Every name of a voice, our own first."""
        return list(self.voices)


def build_house(settings: Settings, client: Client) -> House:
    """Furnish a house.

    Raises:
        ConfigError: the key file cannot be used.
    """
    admission = Admission(settings.api.max_streams, settings.api.max_streams_per_caller)
    metrics = Metrics()
    metrics.show("http_max_streams", "Dialogues at the same time", lambda: admission.max_streams)
    metrics.show("log_dropped_lines", "Lines that the log has lost", num_dropped_lines)
    metrics.show("http_draining", "Nothing new is taken", lambda: admission.is_draining)
    return House(
        settings=settings,
        client=client,
        keys=load_keys(settings.auth),
        rates=RateLimiter(settings.api.rate_limit),
        admission=admission,
        metrics=metrics,
        trouble=Trouble(),
        outage=Outage(),
    )


def house_of(connection: HTTPConnection) -> House:
    """The house behind a route."""
    house: House = connection.app.state.house
    return house
