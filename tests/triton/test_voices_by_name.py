"""Voices through a real server: those of the bundle by name, added ones as codes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sounds import noise, wav

from duologue.build_engines.bundle_voices import write_bundle_voices
from duologue.client import AsyncDialogueClient, DialogueClient, RequestError, VoiceError
from duologue.models import noise_bundle_path
from duologue.runtime.audio import to_int16
from duologue.runtime.codec.registry import load_codec
from duologue.runtime.config import Bundle
from duologue.runtime.core import SpeechRequest, Voice
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings
from duologue.runtime.presets import PresetVoice
from duologue.runtime.supervisor.embedded import EmbeddedServer
from duologue.runtime.synthesizer import Synthesizer
from duologue.runtime.voices import ReferenceAudio, encode_voice

SCRIPT = "[S1]Have you read it?[S2]Twice."
NAME = "女性温柔"


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    shutil.copytree(noise_bundle_path(), folder)
    codec = load_codec(Bundle.load(folder), folder)
    codes = encode_voice(codec, [ReferenceAudio(noise(rate_hz=16_000), 16_000)]).codes
    codec.close()
    write_bundle_voices(folder, [PresetVoice(NAME, codes, "你好。", "zh")])
    return folder


@pytest.fixture(scope="module")
def server(needs_triton: None, bundle_dir: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(bundle_dir, engine="onnx") as running:
        yield running


@pytest.fixture(scope="module")
def in_process(bundle_dir: Path) -> Iterator[Synthesizer]:
    with Synthesizer.load(bundle_dir, engine="onnx") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def gateway(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    flags = {
        "api": {"port": 0, "monitoring": {"enabled": False}},
        "storage": {"voice_samples_dir": tmp_path_factory.mktemp("voices")},
    }
    settings = load_settings(flags=flags, environment={})
    door = GatewayServer(settings, server.grpc_url, bundle_dir=server.bundle_dir, grace_s=1)
    with door:
        yield door.url


def _expected(in_process: Synthesizer, **request: Any) -> np.ndarray:
    chunks = in_process.submit(SpeechRequest(SCRIPT, seed=9, max_frames=25, **request))
    return to_int16(np.concatenate([chunk.samples for chunk in chunks]))


def test_a_voice_of_the_bundle_speaks_by_its_name(
    server: EmbeddedServer, in_process: Synthesizer
) -> None:
    client = DialogueClient(server.grpc_url)
    got = client.synthesize(SCRIPT, voices={2: NAME}, seed=9, max_frames=25)

    np.testing.assert_array_equal(got.samples, _expected(in_process, voice_ids={2: NAME}))
    with pytest.raises(VoiceError, match=f"'bob' is unknown; allowed: 'default', '{NAME}', or"):
        client.synthesize(SCRIPT, voices={1: "bob"})
    client.close()


def test_the_server_encodes_as_the_library_does(
    server: EmbeddedServer, in_process: Synthesizer
) -> None:
    samples = noise(1.5, 16_000, seed=4)
    expected = in_process.codec.encode(samples)
    client = DialogueClient(server.grpc_url)

    async def encode() -> np.ndarray:
        async with AsyncDialogueClient(server.grpc_url) as other:
            return await other.encode(samples)

    np.testing.assert_array_equal(client.encode(samples), expected)
    np.testing.assert_array_equal(asyncio.run(encode()), expected)
    with pytest.raises(RequestError, match="at least 1280 finite samples"):
        client.encode(samples[:100])
    client.close()


@pytest.mark.parametrize("transcript", ["", "What I said."])
def test_an_added_voice_sounds_as_its_audio_does_in_process(
    gateway: str, in_process: Synthesizer, transcript: str
) -> None:
    name = "Ann" if transcript else "Silent Ann"
    added = httpx.post(
        gateway + "/v1/audio/voices",
        data={"name": name, "transcript": transcript},
        files={"audio_sample": ("ann.wav", wav(seed=6))},
        timeout=60,
    )
    assert added.status_code == 201, added.text
    body = {
        "input": SCRIPT,
        "voices": {"1": name},
        "seed": 9,
        "max_new_tokens": 25,
        "response_format": "pcm",
    }
    got = httpx.post(gateway + "/v1/audio/dialogue", json=body, timeout=60)
    assert got.status_code == 200, got.text

    pcm = np.round(noise(seed=6) * 32768).clip(-32768, 32767) / 32768
    audio = ReferenceAudio(pcm.astype(np.float32), 24_000, transcript)
    voice: Voice = encode_voice(in_process.codec, [audio])
    expected = _expected(in_process, voices={1: voice})
    np.testing.assert_array_equal(np.frombuffer(got.content, "<i2"), expected)


def test_a_voice_of_the_bundle_speaks_over_http(gateway: str, in_process: Synthesizer) -> None:
    body = {
        "inputs": [
            {"voice": NAME, "text": "Have you read it?"},
            {"voice": "default", "text": "Twice."},
        ],
        "seed": 9,
        "max_new_tokens": 25,
        "response_format": "pcm",
    }
    got = httpx.post(gateway + "/v1/audio/dialogue", json=body, timeout=60)
    expected = _expected(in_process, voice_ids={1: NAME})
    np.testing.assert_array_equal(np.frombuffer(got.content, "<i2"), expected)
