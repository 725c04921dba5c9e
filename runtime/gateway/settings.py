# SPDX-License-Identifier: Apache-2.0
"""The settings of the gateway: one object from files, environment and flags.

The files have the shape of the MegaTTS3 platform's `api_config.yaml`. A later source wins:
defaults, files in their order, `API_*` variables, `MEGATTS3_*` variables, `DUOLOGUE_*` variables
(`DUOLOGUE_API__PORT`), flags. Keys of that platform which mean nothing here are named in
`Settings.notes`; keys that nobody knows are refused.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.setting_files import read_files, read_platform_variables

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

# Names by which clients of OpenAI ask for voices; all are the bundle's own.
OPENAI_VOICES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer"),
    *("verse", "marin", "cedar"),
)
OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CorsSettings(_Section):
    """Which other sites' pages may call; none unless enabled."""

    enabled: bool = False
    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("GET", "POST")
    headers: tuple[str, ...] = ("*",)


class RateLimitSettings(_Section):
    """Requests for audio per caller: by key, or by address where no keys are asked for."""

    enabled: bool = False
    requests_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30
    burst_size: Annotated[int, Field(ge=1)] = 10


class MonitoringSettings(_Section):
    """Prometheus metrics and the probe that proves the server alive.

    Attributes:
        metrics_port: of a door of its own; 0 picks a free one.
        health_check_interval: seconds between two tiny requests to the model.
    """

    enabled: bool = True
    metrics_port: Port = 9090
    health_check_interval: Seconds = 30


class ApiSettings(_Section):
    """Where the door is and what it takes in.

    Attributes:
        host, port: address of the door; port 0 picks a free one.
        timeout: seconds that one request may take altogether.
        chunk_timeout: seconds that the model may take to its first audio, waiting included.
        gap_timeout: seconds without audio in mid-stream after which a request fails.
        stall_timeout: seconds that a caller may take no byte of an answer.
        max_ahead: seconds of audio that the model may be ahead of the caller.
        max_streams: dialogues that are spoken at the same time.
        max_text_chars: longest script.
        max_json_size: largest body without files.
        max_request_size: largest body with files.
        allow_public_without_keys: serve a public address although anybody may speak there.
    """

    host: str = "127.0.0.1"
    port: Port = 9000
    timeout: Seconds = 300
    chunk_timeout: Seconds = 30
    gap_timeout: Seconds = 10
    stall_timeout: Seconds = 60
    max_ahead: Seconds = 10
    max_streams: Annotated[int, Field(ge=1)] = 64
    max_text_chars: Annotated[int, Field(ge=1)] = 20_000
    max_json_size: ByteSize = ByteSize(1_000_000)
    max_request_size: ByteSize = ByteSize(100_000_000)
    allow_public_without_keys: bool = False
    cors: CorsSettings = CorsSettings()
    rate_limit: RateLimitSettings = RateLimitSettings()
    monitoring: MonitoringSettings = MonitoringSettings()


class AuthSettings(_Section):
    """Who may call.

    Attributes:
        keys: keys as they are, for the environment; kept as hashes.
        keys_file: lines of "name sha256", of which the hash is that of a key.
    """

    keys: tuple[SecretStr, ...] = ()
    keys_file: Path | None = None


class LoggingSettings(_Section):
    """What is written to the log, and where."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: str = "%(asctime)s [%(levelname)s] %(message)s"
    file: Path | None = None
    max_size: ByteSize = ByteSize(100_000_000)
    backup_count: Annotated[int, Field(ge=0)] = 5


class VoiceSettings(_Section):
    """Voices by name.

    Attributes:
        aliases: further name -> name of a voice that the server keeps.
    """

    aliases: dict[str, str] = Field(default_factory=lambda: dict.fromkeys(OPENAI_VOICES, "default"))


class Settings(BaseSettings):
    """Everything that the gateway can be told.

    Attributes:
        model_name: under which `/v1/models` lists the model; OpenAI's names are aliases of it.
        notes: keys of the files that were understood and have no effect here, and why.
    """

    model_config = SettingsConfigDict(
        env_prefix="DUOLOGUE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    model_name: str = "duologue"
    api: ApiSettings = ApiSettings()
    auth: AuthSettings = AuthSettings()
    logging: LoggingSettings = LoggingSettings()
    voices: VoiceSettings = VoiceSettings()
    notes: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        """The address can be reached from other machines."""
        return not is_loopback(self.api.host)


def load_settings(
    files: Sequence[Path] = (),
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Put the settings together and hold them to each other.

    Args:
        files: YAML, each over the ones before it.
        flags: nested as the files are, e.g. {"api": {"port": 9000}}; over everything else.
        environment: for the two families of the platform; None takes the process's own.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, a value is out of range, or the
            address is public and no key is asked for.
    """
    values, notes = read_files(files)
    variables = read_platform_variables(os.environ if environment is None else environment)

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            platform = InitSettingsSource(settings_cls, variables)
            return init_settings, env_settings, platform, InitSettingsSource(settings_cls, values)

    try:
        settings = Sourced(**{**(flags or {}), "notes": tuple(notes)})
    except ValidationError as error:
        raise ConfigError(_first_fault(error)) from error
    _check_exposure(settings)
    return settings


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "tts.lan")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_exposure(settings: Settings) -> None:
    has_keys = bool(settings.auth.keys) or settings.auth.keys_file is not None
    if settings.is_public and not has_keys and not settings.api.allow_public_without_keys:
        raise ConfigError(
            f"api.host is {settings.api.host!r}, which other machines can reach, and no key is "
            "asked for; allowed: 127.0.0.1, keys in auth.keys_file or DUOLOGUE_AUTH__KEYS, or "
            "api.allow_public_without_keys: true"
        )


def _first_fault(error: ValidationError) -> str:
    """One line of pydantic's report, without the value: it may be a key."""
    fault = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"the setting {where} is unknown; a typing mistake?"
    return f"the setting {where} cannot be used: {fault['msg']}"
