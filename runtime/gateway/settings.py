# SPDX-License-Identifier: Apache-2.0
"""The settings of the gateway: one object from files, environment and flags.

The files have the shape of the MegaTTS3 platform's YAML. A later source wins: defaults, files in
their order, `API_*` variables, `MEGATTS3_*` variables, `DUOLOGUE_*` variables
(`DUOLOGUE_API__PORT`), flags. Keys of that platform which mean nothing here are named in
`Settings.notes`; keys that nobody knows are refused.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.setting_files import (
    Layer,
    merge,
    note_platform_variables,
    read_files,
    read_platform_variables,
)
from duologue.runtime.gateway.setting_groups import (
    ApiSettings,
    AuthSettings,
    CacheSettings,
    CodecSettings,
    GrpcSettings,
    LoggingSettings,
    StorageSettings,
    VoiceSettings,
)

PREFIX = "DUOLOGUE_"
# The layer of the variables with that prefix.
ENVIRONMENT = "environment"


class Settings(BaseSettings):
    """Everything that the gateway can be told.

    Attributes:
        model_name: under which `/v1/models` lists the model; OpenAI's names are aliases of it.
        notes: keys of the files that were understood and have no effect here, and why.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    model_name: str = "duologue"
    api: ApiSettings = ApiSettings()
    grpc: GrpcSettings = GrpcSettings()
    auth: AuthSettings = AuthSettings()
    logging: LoggingSettings = LoggingSettings()
    storage: StorageSettings = StorageSettings()
    cache: CacheSettings = CacheSettings()
    codec: CodecSettings = CodecSettings()
    voices: VoiceSettings = VoiceSettings()
    notes: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        """An address can be reached from other machines."""
        return self.public_host is not None

    @property
    def public_host(self) -> str | None:
        """The first address that other machines can reach, or None."""
        hosts = (self.api.host, self.grpc.host)
        return next((host for host in hosts if host and not is_loopback(host)), None)


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
    return load_layered(files, flags, environment)[0]


def load_layered(
    files: Sequence[Path] = (),
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings, list[Layer]]:
    """As `load_settings`, and the layers that the settings were made of, the strongest last.

    Raises:
        ConfigError: as `load_settings`.
    """
    present = os.environ if environment is None else environment
    layers, notes = read_files(files)
    layers += read_platform_variables(present)
    notes += note_platform_variables(present)
    below: dict[str, Any] = {}
    for layer in layers:
        below = merge(below, layer.values)

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
            return init_settings, env_settings, InitSettingsSource(settings_cls, below)

    try:
        settings = Sourced(**{**(flags or {}), "notes": tuple(notes)})
        own = EnvSettingsSource(Settings)()
    except ValidationError as error:
        raise ConfigError(_first_fault(error)) from error
    _check_exposure(settings)
    layers += [Layer(ENVIRONMENT, own), Layer("flag", dict(flags or {}))]
    return settings, layers


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
            f"the host is {settings.public_host!r}, which other machines can reach, and no key is "
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
