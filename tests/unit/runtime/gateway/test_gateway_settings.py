from __future__ import annotations

from pathlib import Path

import pytest

from duologue.runtime.errors import ConfigError
from duologue.runtime.gateway.settings import load_settings

PLATFORM_FILE = """
api:
  host: "0.0.0.0"
  port: 9000
  workers: 2
  timeout: 300
  max_request_size: "100MB"
  cors: {enabled: true, origins: ["*"], methods: ["GET", "POST"], headers: ["*"]}
  rate_limit: {enabled: true, requests_per_minute: 30, burst_size: 10}
  monitoring: {enabled: true, metrics_port: 9090, health_check_interval: 30}
logging:
  level: "INFO"
  format: "%(asctime)s [%(levelname)s] %(message)s"
  file: "/app/logs/megatts3.log"
  max_size: "100MB"
  backup_count: 5
storage:
  voice_samples_dir: "/app/storage/voices"
  cache_dir: "/app/storage/cache"
  temp_dir: "/app/storage/temp"
  max_voice_file_size: "50MB"
  supported_formats: ["wav", "mp3", "flac", "m4a"]
"""
MODEL_FILE = """
model:
  name: "MegaTTS3-DIT"
  type: "diffusion_transformer"
  version: "1.0.0"
  checkpoint_path: "/app/checkpoints/dit_base/model.pt"
  config_path: "/app/checkpoints/dit_base/config.yaml"
  inference: {device: "cuda:0", precision: "fp16", batch_size: 1, max_length: 1000}
  vocoder: {type: "WaveVAE", checkpoint_path: "/app/checkpoints/wavevae/model.pt"}
  cache: {enabled: true, max_size: "2GB", ttl: 3600}
"""
TUNING_FILE = """
gpu_config: {memory_fraction: 0.8, allow_growth: true, mixed_precision: true}
inference_config: {batch_size: 4, max_sequence_length: 512, use_cache: true}
cache_config:
  redis_url: "redis://localhost:6379"
  ttl: 60
  max_memory: "1GB"
  compression: true
  key_prefix: "megatts3:"
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEGATTS3_PORT", "API_PORT", "API_HOST", "LOG_LEVEL", "DUOLOGUE_API__PORT"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, text: str, name: str = "settings.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_without_anything_the_door_is_on_loopback_port_9000() -> None:
    settings = load_settings()
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 9000)
    assert not settings.is_public
    assert not settings.api.cors.enabled


def test_the_platforms_files_are_taken_and_what_does_not_apply_is_named(tmp_path: Path) -> None:
    files = [write(tmp_path, PLATFORM_FILE), write(tmp_path, MODEL_FILE, "model.yaml")]
    settings = load_settings(files, {"api": {"allow_public_without_keys": True}})

    assert settings.api.host == "0.0.0.0"
    assert settings.api.max_request_size == 100_000_000
    assert settings.api.rate_limit.burst_size == 10
    assert settings.logging.file == Path("/app/logs/megatts3.log")
    assert settings.storage.voice_samples_dir == Path("/app/storage/voices")
    assert settings.storage.max_voice_file_size == 50_000_000
    assert settings.api.max_text_chars == 1000
    assert (settings.cache.enabled, settings.cache.max_size, settings.cache.ttl) == (
        True,
        2e9,
        3600,
    )
    assert settings.notes == (
        "settings.yaml: api.workers has no effect: one process serves all requests",
        "model.yaml: model.name, model.type, model.version, model.checkpoint_path, "
        "model.config_path, model.inference.device, model.inference.precision, "
        "model.vocoder.type, model.vocoder.checkpoint_path have no effect: the model and its "
        "engines are described by the bundle",
        "model.yaml: model.inference.batch_size has no effect: the scheduler batches by itself",
    )


def test_the_platforms_tuning_blocks_are_taken_too(tmp_path: Path) -> None:
    settings = load_settings([write(tmp_path, TUNING_FILE)])
    assert (settings.cache.max_size, settings.cache.ttl) == (1_000_000_000, 60)
    assert "cache_config.redis_url, cache_config.compression" in " ".join(settings.notes)
    assert all("has no effect" in note or "have no effect" in note for note in settings.notes)


def test_the_platforms_variables_name_folders_and_what_does_not_apply() -> None:
    settings = load_settings(
        environment={
            "MEGATTS3_STORAGE_DIR": "/app/storage",
            "VOICE_STORAGE_DIR": "/elsewhere",
            "MEGATTS3_LOG_DIR": "/app/logs",
            "MEGATTS3_TIMEOUT": "600",
            "MEGATTS3_WORKERS": "2",
            "WORKERS": "2",
        }
    )
    assert settings.storage.voice_samples_dir == Path("/app/storage/voices")
    assert settings.storage.temp_dir == Path("/app/storage/temp")
    assert settings.logging.file == Path("/app/logs/duologue.log")
    assert settings.api.timeout == 600
    assert settings.notes == ("MEGATTS3_WORKERS has no effect: one process serves all requests",)


def test_groups_may_stand_beside_api(tmp_path: Path) -> None:
    text = "rate_limit: {enabled: true, burst_size: 3}\nmonitoring: {metrics_port: 1}\n"
    settings = load_settings([write(tmp_path, text)])
    assert settings.api.rate_limit.burst_size == 3
    assert settings.api.monitoring.metrics_port == 1


def test_flags_win_over_variables_and_variables_over_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write(tmp_path, "api: {port: 1, timeout: 7}")]
    assert load_settings(files).api.port == 1
    assert load_settings(files, environment={"API_PORT": "2"}).api.port == 2
    both = {"API_PORT": "2", "MEGATTS3_PORT": "3"}
    assert load_settings(files, environment=both).api.port == 3
    monkeypatch.setenv("DUOLOGUE_API__PORT", "4")
    assert load_settings(files, environment=both).api.port == 4
    settings = load_settings(files, {"api": {"port": 5}}, both)
    assert (settings.api.port, settings.api.timeout) == (5, 7)


def test_a_later_file_wins_key_by_key(tmp_path: Path) -> None:
    files = [
        write(tmp_path, "api: {port: 1, timeout: 7}", "a.yaml"),
        write(tmp_path, "api: {port: 2}", "b.yaml"),
    ]
    assert load_settings(files).api.port == 2
    assert load_settings(files).api.timeout == 7


def test_a_public_address_without_keys_is_refused_unless_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key is asked for"):
        load_settings(flags={"api": {"host": "0.0.0.0"}})
    allowed = {"api": {"host": "0.0.0.0", "allow_public_without_keys": True}}
    assert load_settings(flags=allowed).is_public
    keyed = {"api": {"host": "192.0.2.1"}, "auth": {"keys": ["secret"]}}
    assert load_settings(flags=keyed).is_public


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("api: {prot: 9000}", "api.prot is unknown"),
        ("apii: {}", "apii is unknown"),
        ("api: {port: 70000}", "api.port"),
        ("api: {timeout: -1}", "api.timeout"),
        ("api: {timeout: .inf}", "api.timeout"),
        ("model: {nmae: x}", "the setting model is unknown"),
        ("logging: {format: none}", "logging.format"),
        ("- 1", "no YAML object"),
        ("api: [", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings([write(tmp_path, text)])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings([tmp_path / "none.yaml"])


def test_a_key_never_shows_in_print_or_error() -> None:
    settings = load_settings(flags={"auth": {"keys": ["sk-hidden"]}})
    assert "sk-hidden" not in repr(settings)
    with pytest.raises(ConfigError) as caught:
        load_settings(flags={"auth": {"keys": [{"x": "sk-hidden"}]}})
    assert "sk-hidden" not in str(caught.value)
