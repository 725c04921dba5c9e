# SPDX-License-Identifier: Apache-2.0
"""What all routes share: settings, the connection, limits, numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import HTTPConnection

from duologue.runtime.gateway.connection import Client
from duologue.runtime.gateway.faults import UnknownModelError
from duologue.runtime.gateway.keys import load_keys
from duologue.runtime.gateway.limits import Admission, RateLimiter
from duologue.runtime.gateway.logs import num_dropped_lines
from duologue.runtime.gateway.metrics import Metrics
from duologue.runtime.gateway.model_identity import ModelIdentity
from duologue.runtime.gateway.outage import Outage
from duologue.runtime.gateway.setting_groups import OPENAI_MODELS
from duologue.runtime.gateway.settings import Settings
from duologue.runtime.gateway.trouble import Trouble
from duologue.runtime.gateway.upload_room import UploadRoom
from duologue.runtime.gateway.voices_desk import VoiceDesk
from duologue.runtime.gateway.voices_errors import unknown_voice
from duologue.runtime.gateway.voices_room import furnish_voices
from duologue.runtime.gateway.watched_keys import WatchedKeys

DEFAULT_VOICE = "default"
_SHOWN = 60


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
        model: which one it is.
        desk: knows the voices.
        uploads: files on their way in.
    """

    settings: Settings
    client: Client
    keys: WatchedKeys
    rates: RateLimiter
    admission: Admission
    metrics: Metrics
    trouble: Trouble
    outage: Outage
    model: ModelIdentity
    desk: VoiceDesk
    uploads: UploadRoom

    def check_model(self, name: str) -> None:
        """Refuse a model that is not ours.

        Raises:
            UnknownModelError: it is neither our own nor one of OpenAI's names.
        """
        if name not in self.model_names:
            raise UnknownModelError(
                f"the model {name[:_SHOWN]!r} is unknown; allowed: {', '.join(self.model_names)}"
            )

    async def voice_at_server(self, name: str) -> str:
        """The name under which a voice is spoken with.

        Args:
            name: of a voice, an alias of one, or empty for the model's own choice.

        Raises:
            UnknownVoiceError: no voice goes by that name.
            StorageError: the added voices cannot be read.
        """
        found = self.settings.voices.aliases.get(name, name) or DEFAULT_VOICE
        # Without its bundle, the settings alone say what the server knows.
        is_told = self.desk.bundle is None and found in self.voices.values()
        if not (is_told or await self.desk.knows(found)):
            raise unknown_voice(name, await self._names_that_count())
        return found

    @property
    def model_names(self) -> tuple[str, ...]:
        """Our own first."""
        return (self.settings.model_name, *OPENAI_MODELS)

    @property
    def voices(self) -> dict[str, str]:
        """Every name of a voice that was not added -> the server's name of it."""
        presets = {preset.name: preset.name for preset in self.desk.presets}
        return {DEFAULT_VOICE: DEFAULT_VOICE, **presets, **self.settings.voices.aliases}

    async def _names_that_count(self) -> list[str]:
        """Names of voices without further names of the same, for those who look for one."""
        presets = [preset.name for preset in self.desk.presets]
        return [DEFAULT_VOICE, *presets, *(voice.name for voice in await self.desk.added())]

    async def voice_names(self) -> list[str]:
        """Every name of a voice, our own first."""
        return [*self.voices, *(voice.name for voice in await self.desk.added())]


def build_house(settings: Settings, client: Client, bundle_dir: Path | None = None) -> House:
    """Furnish a house.

    Args:
        settings: as they will be all the time.
        client: makes the audio.
        bundle_dir: of the bundle behind the client; without it, no voices can be added.

    Raises:
        ConfigError: the key file or the bundle cannot be used.
    """
    admission = Admission(settings.api.max_streams, settings.api.max_streams_per_caller)
    metrics = Metrics()
    metrics.show("http_max_streams", "Dialogues at the same time", lambda: admission.max_streams)
    uploads = UploadRoom.of(settings.storage)
    metrics.show("http_uploads", "Files on their way in", lambda: uploads.num_taken)
    metrics.show("log_dropped_lines", "Lines that the log has lost", num_dropped_lines)
    metrics.show("http_draining", "Nothing new is taken", lambda: admission.is_draining)
    model = ModelIdentity()
    desk, client = furnish_voices(settings, client, metrics, bundle_dir, model)
    return House(
        settings=settings,
        client=client,
        keys=WatchedKeys(load_keys(settings.auth)),
        rates=RateLimiter(settings.api.rate_limit),
        admission=admission,
        metrics=metrics,
        trouble=Trouble(),
        outage=Outage(),
        model=model,
        desk=desk,
        uploads=uploads,
    )


def house_of(connection: HTTPConnection) -> House:
    """The house behind a route."""
    house: House = connection.app.state.house
    return house
