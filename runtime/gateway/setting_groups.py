# SPDX-License-Identifier: Apache-2.0
"""The groups of settings, in the shape of the MegaTTS3 platform's `api_config.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, field_validator

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

VoiceFormat = Literal["wav", "mp3", "flac", "ogg", "m4a"]

# Names by which clients of OpenAI ask for voices; all are the bundle's own.
OPENAI_VOICES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer"),
    *("verse", "marin", "cedar"),
)
OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15")


class Section(BaseModel):
    """A group of settings: an unknown key is refused, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CorsSettings(Section):
    """Which other sites' pages may call; none unless enabled."""

    enabled: bool = False
    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("GET", "POST")
    headers: tuple[str, ...] = ("*",)


class RateLimitSettings(Section):
    """Requests for audio per caller: by key, or by address where no keys are asked for."""

    enabled: bool = False
    requests_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30
    burst_size: Annotated[int, Field(ge=1)] = 10


class MonitoringSettings(Section):
    """Prometheus metrics and the probe that proves the server alive.

    Attributes:
        metrics_port: of a door of its own; 0 picks a free one.
        health_check_interval: seconds between two tiny requests to the model.
    """

    enabled: bool = True
    metrics_port: Port = 9090
    health_check_interval: Seconds = 30


class ApiSettings(Section):
    """Where the door is and what it takes in.

    Attributes:
        host, port: address of the door; port 0 picks a free one.
        allowed_hosts: further names that callers may reach the door by while no key is asked for;
            "*" allows every name.
        timeout: seconds that one request may take altogether.
        chunk_timeout: seconds that the model may take to its first audio, waiting included.
        gap_timeout: seconds without audio in mid-stream after which a request fails.
        stall_timeout: seconds that a caller may take no byte of an answer.
        max_ahead: seconds of audio that the model may be ahead of the caller.
        max_streams: dialogues that are spoken at the same time.
        max_streams_per_caller: those of one key or address; None leaves them all to one.
        max_text_chars: longest script.
        max_json_size: largest body without files.
        max_request_size: largest body with files.
        allow_public_without_keys: serve a public address although anybody may speak there.
    """

    host: str = "127.0.0.1"
    port: Port = 9000
    allowed_hosts: tuple[str, ...] = ()
    timeout: Seconds = 300
    chunk_timeout: Seconds = 30
    gap_timeout: Seconds = 10
    stall_timeout: Seconds = 60
    max_ahead: Seconds = 10
    max_streams: Annotated[int, Field(ge=1)] = 64
    max_streams_per_caller: Annotated[int, Field(ge=1)] | None = None
    max_text_chars: Annotated[int, Field(ge=1)] = 20_000
    max_json_size: ByteSize = ByteSize(1_000_000)
    max_request_size: ByteSize = ByteSize(100_000_000)
    allow_public_without_keys: bool = False
    cors: CorsSettings = CorsSettings()
    rate_limit: RateLimitSettings = RateLimitSettings()
    monitoring: MonitoringSettings = MonitoringSettings()


class GrpcSettings(Section):
    """The gRPC door for other machines, with the same keys as HTTP.

    Attributes:
        host: address of the door; None leaves it closed, and Triton alone on loopback.
        port: of the door; 0 picks a free one.
    """

    host: str | None = None
    port: Port = 8001


class CodecSettings(Section):
    """Where the server in this machine runs the codec.

    Attributes:
        engine: "auto" takes torch on a GPU and onnx on a CPU.
        device: "auto" is the GPU where torch sees one.
    """

    engine: Literal["auto", "onnx", "torch"] = "auto"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"


class AuthSettings(Section):
    """Who may call.

    Attributes:
        keys: keys as they are, for the environment; kept as hashes.
        keys_file: lines of "name sha256", of which the hash is that of a key.
    """

    keys: tuple[SecretStr, ...] = ()
    keys_file: Path | None = None


class LoggingSettings(Section):
    """What is written to the log, and where.

    Attributes:
        level: lines below it are left out.
        format: "json" is one object per line; "plain" is the platform's format, of which its log
            analysis is made; or any format of Python's `logging` with "%(message)s".
        file: is rotated; None is standard error.
        max_size: bytes at which a file is put aside.
        backup_count: files that are kept beside the present one.
        with_text: scripts are written to the log, too. Off: they are nobody's business there.
    """

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: str = "json"
    with_text: bool = False
    file: Path | None = None
    max_size: ByteSize = ByteSize(100_000_000)
    backup_count: Annotated[int, Field(ge=0)] = 5

    @field_validator("format")
    @classmethod
    def _is_a_format(cls, value: str) -> str:
        if value in ("json", "plain") or "%(message)s" in value:
            return value
        raise ValueError('allowed: "json", "plain", or a format with "%(message)s"')


class StorageSettings(Section):
    """Where voices and results are kept, and which files are taken as voices.

    Attributes:
        voice_samples_dir: of the voice store; None is the user's own data folder.
        cache_dir: of results; None is the user's own cache folder.
        temp_dir: of uploads while they are read; None is the system's.
        max_voice_file_size: largest upload.
        max_uploads: that are on their way in, or wait to be decoded, at the same time.
        max_uploads_per_caller: those of one key or address; None is a quarter of them.
        supported_formats: of uploads, by what the file really is.
    """

    voice_samples_dir: Path | None = None
    cache_dir: Path | None = None
    temp_dir: Path | None = None
    max_voice_file_size: ByteSize = ByteSize(50_000_000)
    max_uploads: Annotated[int, Field(ge=1)] = 16
    max_uploads_per_caller: Annotated[int, Field(ge=1)] | None = None
    supported_formats: tuple[VoiceFormat, ...] = ("wav", "mp3", "flac", "ogg", "m4a")


class CacheSettings(Section):
    """Results, given again when the very same is asked for with the same seed: off at first.

    Attributes:
        max_size: bytes on disk; the results that were not asked for longest go first.
        ttl: seconds that a result is kept.
    """

    enabled: bool = False
    max_size: ByteSize = ByteSize(2_000_000_000)
    ttl: Seconds = 3600


class VoiceSettings(Section):
    """Voices by name.

    Attributes:
        aliases: further name -> name of a voice that the server keeps.
    """

    aliases: dict[str, str] = Field(default_factory=lambda: dict.fromkeys(OPENAI_VOICES, "default"))
