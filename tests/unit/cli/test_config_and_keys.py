from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from duologue.cli.main import app
from duologue.runtime.keys import KeyRing

API = "api: {port: 7929, timeout: 300, workers: 2}\nlogging: {format: plain}\n"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_HOST", "API_PORT", "MEGATTS3_TIMEOUT", "DUOLOGUE_API__MAX_STREAMS"):
        monkeypatch.delenv(name, raising=False)


def show(*words: str) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["config", "show", "--json", *words])
    assert result.exit_code == 0, result.output
    told: dict[str, dict[str, object]] = json.loads(result.stdout)["settings"]
    return told


def test_every_setting_is_shown_with_where_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(API)
    monkeypatch.setenv("API_HOST", "127.0.0.2")
    monkeypatch.setenv("MEGATTS3_TIMEOUT", "600")
    monkeypatch.setenv("DUOLOGUE_API__MAX_STREAMS", "7")
    told = show("--config", str(path), "--metrics-port", "0")
    assert told["api.host"] == {"value": "127.0.0.2", "origin": "environment API_HOST"}
    assert told["api.port"] == {"value": 7929, "origin": f"file {path}"}
    assert told["api.timeout"] == {"value": 600.0, "origin": "environment MEGATTS3_TIMEOUT"}
    assert told["api.max_streams"] == {
        "value": 7,
        "origin": "environment DUOLOGUE_API__MAX_STREAMS",
    }
    assert told["api.monitoring.metrics_port"] == {"value": 0, "origin": "flag"}
    assert told["api.cors.enabled"] == {"value": False, "origin": "default"}
    assert told["logging.format"]["value"] == "plain"


def test_a_variable_of_a_whole_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOLOGUE_API", '{"max_text_chars": 5}')
    told = show()
    assert told["api.max_text_chars"] == {"value": 5, "origin": "environment DUOLOGUE_API"}


def test_keys_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOLOGUE_AUTH__KEYS", '["sk-hidden"]')
    for words in (["config", "show"], ["config", "show", "--json"]):
        result = CliRunner().invoke(app, words)
        assert "sk-hidden" not in result.output
        assert "auth.keys" in result.stdout


def test_the_table_is_for_people_and_notes_go_to_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    path.write_text(API)
    result = CliRunner().invoke(app, ["config", "show", "--config", str(path)])
    assert "api.workers has no effect" in result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("api.port ")]
    assert line.split()[1:] == ["7929", "file", str(path)]


def test_settings_that_cannot_work_are_refused() -> None:
    result = CliRunner().invoke(app, ["config", "show", "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "no key is asked for" in result.stderr


def test_a_key_is_printed_once_and_its_hash_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    words = ["keys", "make", "alice", "--keys-file", str(path), "--scopes", "speak,voices"]
    made = CliRunner().invoke(app, [*words, "--rpm", "30", "--streams", "2"])
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    key = KeyRing(path=path).find(secret)
    assert key is not None
    assert (key.scopes, key.requests_per_minute, key.max_streams) == ({"speak", "voices"}, 30, 2)

    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "holds a key 'alice' already" in again.stderr
    other = CliRunner().invoke(app, ["keys", "make", "bob", "--keys-file", str(path), "--json"])
    assert KeyRing(path=path).find(json.loads(other.stdout)["key"])


@pytest.mark.parametrize(
    "words", [["a b"], ["alice", "--scopes", "sing"], ["alice", "--rpm", "-1"]]
)
def test_a_key_that_means_nothing_is_not_made(words: list[str]) -> None:
    result = CliRunner().invoke(app, ["keys", "make", *words])
    assert result.exit_code == 2
    assert result.stdout == ""
