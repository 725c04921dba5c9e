"""Voices over HTTP: added, spoken with at once, listed, removed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from live_gateway import Gateway
from scripted_client import ScriptedClient
from sounds import file_of, noise, wav

from duologue.build_engines.bundle_voices import write_bundle_voices
from duologue.client.types import Voice
from duologue.models import noise_bundle_path
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.presets import PresetVoice


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    shutil.copytree(noise_bundle_path(), folder)
    codes = np.ones((8, 12), np.int64)
    write_bundle_voices(folder, [PresetVoice("女性温柔", codes, "你好。", "zh", "soft")])
    return folder


@pytest.fixture
def open_door(bundle_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    servers: list[GatewayServer] = []

    def start(**groups: Any) -> Gateway:
        flags = {
            "api": {"port": 0, "monitoring": {"metrics_port": 0}},
            "storage": {
                "voice_samples_dir": tmp_path / "voices",
                "cache_dir": tmp_path / "cache",
                **groups.pop("storage", {}),
            },
            **groups,
        }
        client = ScriptedClient()
        settings = load_settings(flags=flags, environment={})
        server = GatewayServer(settings, client=client, bundle_dir=bundle_dir, grace_s=1)
        server.start()
        servers.append(server)
        return Gateway(server, client)

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def door(open_door: Callable[..., Gateway]) -> Gateway:
    return open_door()


def add(door: Gateway, name: str, data: bytes, **fields: str) -> httpx.Response:
    files = {"audio_sample": (fields.pop("filename", "voice.wav"), data, "audio/wav")}
    form = {"name": name, **fields}
    return httpx.post(door.url + "/v1/audio/voices", data=form, files=files, timeout=60)


def voice_asked_for(door: Gateway) -> Any:
    return door.asked[1]["voices"]


def test_a_voice_is_spoken_with_at_once_over_every_route(door: Gateway) -> None:
    answer = add(door, "Ann", wav(), transcript="Hello.", consent="yes", language="en")
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["id"], shown["consent"], shown["version"]) == ("Ann", "stated", 1)
    assert shown["has_transcript"]
    assert "Hello." not in answer.text

    def check(speaker: int = 1) -> None:
        voice = voice_asked_for(door)[speaker]
        assert isinstance(voice, Voice)
        assert (voice.codes.shape, voice.transcript) == ((8, 25), "Hello.")

    assert door.speak("Hi.", voice="Ann").status == 200
    check()
    assert door.talk(input="[S1]Hi.[S2]Yes.", voices={"2": "Ann"}).status == 200
    check(2)
    assert door.talk(inputs=[{"voice": "Ann", "text": "Hi."}]).status == 200
    check()
    answer = door.call("/api/v1/tts/synthesize", {"text": "Hi.", "voice_id": "Ann"})
    assert answer.status == 200
    check()
    assert door.client.encoded == 1


def test_a_voice_without_a_transcript_or_a_consent_can_be_used(door: Gateway) -> None:
    shown = add(door, "Ann", wav()).json()
    assert (shown["consent"], shown["has_transcript"]) == ("unstated", False)
    assert shown["consent_at"] == shown["created_at"]

    assert door.speak("Hi.", voice="Ann").status == 200
    assert voice_asked_for(door)[1].transcript == ""


def test_codes_outlive_the_gateway(open_door: Callable[..., Gateway]) -> None:
    first = open_door()
    add(first, "Ann", wav())
    again = open_door()

    assert again.speak("Hi.", voice="Ann").status == 200
    assert isinstance(voice_asked_for(again)[1], Voice)
    assert again.client.encoded == 0


def test_a_voice_of_the_bundle_goes_to_the_model_by_its_name(door: Gateway) -> None:
    assert door.speak("Hi.", voice="女性温柔").status == 200
    assert voice_asked_for(door) == {1: "女性温柔"}


def test_all_kinds_of_voices_are_listed(door: Gateway) -> None:
    add(door, "Ann", wav())
    listed = {voice["id"]: voice for voice in door.call("/v1/audio/voices").json["data"]}
    kinds = {name: listed[name]["type"] for name in ("default", "女性温柔", "Ann", "alloy")}
    assert kinds == {"default": "default", "女性温柔": "preset", "Ann": "added", "alloy": "alias"}
    assert (listed["女性温柔"]["language"], listed["女性温柔"]["description"]) == ("zh", "soft")
    assert listed["alloy"]["alias_of"] == "default"
    assert door.call("/v1/audio/voices/Ann").json == listed["Ann"]
    assert door.call("/v1/audio/voices/bob").error["code"] == "voice_not_found"


def test_an_unknown_voice_is_told_with_those_that_there_are(door: Gateway) -> None:
    add(door, "Ann", wav())
    told = door.speak("Hi.", voice="Bob").error["message"]
    assert told.startswith("the voice 'Bob' is unknown; allowed: default, 女性温柔, Ann; GET /v1")


def test_a_voice_that_was_removed_is_gone(door: Gateway, tmp_path: Path) -> None:
    add(door, "Ann", wav())
    removed = door.call("/v1/audio/voices/Ann", method="DELETE")
    assert removed.json == {"id": "Ann", "object": "voice", "deleted": True}
    assert door.call("/v1/audio/voices/Ann", method="DELETE").status == 404
    assert door.speak("Hi.", voice="Ann").error["code"] == "voice_not_found"
    left = [path for path in (tmp_path / "voices").rglob("*") if path.suffix in (".wav",)]
    assert left == []


def test_a_name_is_taken_until_it_is_replaced(door: Gateway) -> None:
    add(door, "Ann", wav())
    refused = add(door, "Ann", wav(seed=1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "voice_exists")
    assert add(door, "Ann", wav(seed=1), replace="true").json()["version"] == 2


@pytest.mark.parametrize("name", ["alloy", "女性温柔"])
def test_the_servers_own_names_are_not_given_away(door: Gateway, name: str) -> None:
    refused = add(door, name, wav(), replace="true")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "voice_exists")
    assert door.call(f"/v1/audio/voices/{httpx.URL(name)}", method="DELETE").status == 400


@pytest.mark.parametrize("name", ["", "default", "../x", "a/b", "x" * 100, "a\x00b"])
def test_bad_names_are_refused_and_write_nothing(door: Gateway, name: str, tmp_path: Path) -> None:
    refused = add(door, name, wav())
    assert refused.status_code in (400, 422)
    assert not list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize("filename", ["../../../tmp/x.wav", "/etc/passwd", "a\\..\\b", "x" * 3000])
def test_the_name_of_the_file_means_nothing(door: Gateway, filename: str, tmp_path: Path) -> None:
    assert add(door, "Ann", wav(), filename=filename).status_code == 201
    written = {path.parent.parent.name for path in tmp_path.rglob("*.wav")}
    assert written == {"audio"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"\x80\x04pickle", "no audio that is known"),
        (wav()[:9000], "cut short"),
        (file_of(np.zeros(8000 * 3600, np.int16), 8000, format="FLAC"), "3600 s or more"),
    ],
    ids=["empty", "pickle", "cut", "bomb"],
)
def test_bad_files_are_the_callers_fault(door: Gateway, data: bytes, told: str) -> None:
    refused = add(door, "Ann", data)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_voice")
    assert told in refused.json()["error"]["message"]
    assert door.call("/v1/audio/voices/Ann").status == 404


def test_long_audio_is_trimmed_and_that_is_said(door: Gateway) -> None:
    long = wav(35.0, 8000)
    assert "35.0 s" in add(door, "Ann", long).json()["note"]
    refused = add(door, "Bob", long, transcript="All of it.").json()["error"]
    assert "lasts 35.0 s; allowed: 30 s" in refused["message"]


def test_a_file_that_is_too_large_is_refused(open_door: Callable[..., Gateway]) -> None:
    door = open_door(storage={"max_voice_file_size": 50_000})
    assert add(door, "Ann", wav()).status_code == 400


def test_a_model_that_fails_to_encode_keeps_nothing(door: Gateway) -> None:
    door.client.is_broken = True
    failed = add(door, "Ann", wav())
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "engine_error")
    assert "secret" not in failed.text
    assert door.call("/v1/audio/voices/Ann").status == 404


def test_a_store_that_is_broken_is_told_of_and_speech_goes_on(
    open_door: Callable[..., Gateway], tmp_path: Path
) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "voices.db").write_bytes(b"no database" * 1000)
    door = open_door()
    failed = add(door, "Ann", wav())
    assert (failed.status_code, failed.json()["error"]["code"]) == (503, "storage_unavailable")
    assert door.speak("Hi.").status == 200


def test_a_store_that_another_process_holds_still_answers_readers(
    open_door: Callable[..., Gateway], tmp_path: Path
) -> None:
    door = open_door()
    add(door, "Ann", wav())
    holder = sqlite3.connect(tmp_path / "voices" / "voices.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        assert door.speak("Hi.", voice="Ann").status == 200
        assert door.call("/v1/audio/voices/Ann").status == 200
    finally:
        holder.close()


def test_without_a_bundle_no_voice_is_taken(gateway: Gateway) -> None:
    refused = add(gateway, "Ann", wav())
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")


def test_seeded_results_are_remembered_where_the_settings_say_so(
    open_door: Callable[..., Gateway],
) -> None:
    door = open_door(cache={"enabled": True})
    add(door, "Ann", wav(seed=1), transcript="The same.")
    add(door, "Bob", wav(seed=2), transcript="The same.")
    for _ in range(2):
        for voice in ("Ann", "Bob", "default"):
            for form in ("wav", "mp3"):
                answer = door.speak("Hi.", voice=voice, seed=4, response_format=form)
                assert answer.status == 200
    # One for each voice: formats are made of the same audio.
    assert len(door.client.asked) == 3
    door.speak("Hi.", voice="Ann", seed=5)
    assert len(door.client.asked) == 4


def test_the_same_file_under_two_names_sounds_the_same(
    door: Gateway,
) -> None:
    sound = file_of(noise())
    for name in ("Ann", "Bob"):
        assert add(door, name, sound).status_code == 201
        door.speak("Hi.", voice=name)
    first, second = (options["voices"][1] for _, options in door.client.asked)
    np.testing.assert_array_equal(first.codes, second.codes)
