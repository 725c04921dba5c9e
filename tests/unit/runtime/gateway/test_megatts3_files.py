"""The platform's routes that take files, by its own client as its guide gives it."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import platform_client
import pytest
import soundfile
from live_gateway import Gateway, wait_for
from platform_client import MegaTTS3Client
from scripted_client import CHUNK, ScriptedClient, tone

from duologue.client.errors import VoiceError
from duologue.models import resolve_bundle
from duologue.runtime.gateway.faults import UnsupportedError
from duologue.runtime.gateway.latent import MAX_LATENT_BYTES, check_latent, refuse_latent
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

# The guide's own code leaves files and sessions for the collector to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("storage")
    flags = {
        "api": {"port": 0, "monitoring": {"metrics_port": 0}},
        "storage": {"voice_samples_dir": folder / "voices", "cache_dir": folder / "cache"},
    }
    client = ScriptedClient()
    settings = load_settings(flags=flags, environment={})
    bundle = resolve_bundle("noise")
    with GatewayServer(settings, client=client, bundle_dir=bundle, grace_s=2) as server:
        gateway = Gateway(server, client)
        wait_for(lambda: gateway.call("/readyz").status == 200)
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> Iterator[MegaTTS3Client]:
    client = MegaTTS3Client(gateway.url)
    yield client
    client.session.close()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "voice.wav"
    soundfile.write(path, tone(0, 24_000 * 3), 24_000)
    return path


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


LATENT = npy(np.zeros((1, 40, 32), dtype=np.float32))


def num_frames(data: bytes) -> int:
    with wave.open(io.BytesIO(data)) as file:
        return file.getnframes()


def test_the_guides_first_lines(client: MegaTTS3Client) -> None:
    assert client.health_check()["status"] == "healthy"
    audio = client.synthesize_text(
        text="欢迎使用MegaTTS3语音合成服务", voice_id="default", speed=1.0, pitch=1.0
    )
    assert num_frames(audio) == 3 * CHUNK


def test_a_file_speaks_and_is_not_kept(
    client: MegaTTS3Client, gateway: Gateway, sample: Path
) -> None:
    before = platform_client.list_voices(client)
    audio = client.synthesize_with_voice_file("你好世界", str(sample), speed=2.0, emotion="neutral")
    assert num_frames(audio) == pytest.approx(3 * CHUNK / 2, rel=0.06)
    voice = gateway.asked[1]["voices"][1]
    assert voice.codes.shape[0] == 8
    assert voice.transcript == ""
    assert platform_client.list_voices(client) == before


def test_an_uploaded_voice_can_be_spoken_with_at_once(
    client: MegaTTS3Client, gateway: Gateway, sample: Path
) -> None:
    for _ in range(2):
        told = platform_client.upload_voice_sample(
            client,
            voice_id="custom_voice_001",
            voice_file=str(sample),
            description="自定义女声样本",
        )
    assert (told["success"], told["voice_id"], told["consent"]) == (
        True,
        "custom_voice_001",
        "unstated",
    )
    assert num_frames(client.synthesize_text("Hi.", "custom_voice_001")) == 3 * CHUNK
    assert gateway.asked[1]["voices"][1].codes.shape[0] == 8
    listed = platform_client.list_voices(client)["voices"]
    assert {"id": "custom_voice_001", "name": "custom_voice_001", "type": "custom"} in listed


def post(client: MegaTTS3Client, gateway: Gateway, path: str, **fields: Any) -> Any:
    files = {k: v if isinstance(v, tuple) else (None, str(v)) for k, v in fields.items()}
    return client.session.post(f"{gateway.url}/api/v1/{path}", files=files)


def test_the_real_clients_fields_are_taken(
    client: MegaTTS3Client, gateway: Gateway, sample: Path
) -> None:
    audio = ("ref.m4a", sample.read_bytes(), "audio/wav")
    answer = post(
        client,
        gateway,
        "tts/synthesize_file",
        text="Hi.",
        audio_file=audio,
        time_step=32,
        p_w=1.4,
        t_w=3.0,
        transcript="Hello there.",
    )
    assert answer.content.startswith(b"RIFF")
    assert gateway.asked[1]["voices"][1].transcript == "Hello there."


@pytest.mark.parametrize("name", ["voice_latent", "latent_file"])
def test_a_latent_is_read_and_refused_with_a_reason(
    client: MegaTTS3Client, gateway: Gateway, sample: Path, name: str
) -> None:
    audio = ("ref.wav", sample.read_bytes())
    fields = {"text": "Hi.", "voice_file": audio, name: ("ref.npy", LATENT)}
    answer = post(client, gateway, "tts/synthesize_file", **fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_parameter")
    assert error["param"] == "voice_latent"
    assert "40 frames" in error["message"]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 422, "invalid_body"),
        ({"text": ""}, 422, "invalid_body"),
        ({"text": " "}, 400, "invalid_script"),
        ({"text": "Hi.", "volume": 3}, 400, "invalid_request"),
        ({"text": "Hi.", "speed": 9}, 422, "invalid_body"),
        ({"text": "Hi.", "emotion": "happy"}, 400, "unsupported_parameter"),
        ({"text": "Hi.", "voice_id": "nobody"}, 404, "voice_not_found"),
        ({"text": "Hi.", "voice_file": ("x.wav", b"RIFF no audio")}, 400, "invalid_voice"),
        ({"text": "Hi.", "voice_file": ("x.wav", b"")}, 400, "invalid_voice"),
        ({"text": "Hi.", "voice_file": ("x.pt", b"PK\3\4")}, 400, "invalid_voice"),
        ({"text": "Hi.", "voice_latent": ("x.npy", b"\x93NUMPY")}, 400, "invalid_voice"),
        ({"text": "Hi.", "voice_file": "no file"}, 422, "invalid_body"),
    ],
)
def test_what_cannot_be_done_is_refused(
    client: MegaTTS3Client, gateway: Gateway, fields: dict[str, Any], status: int, code: str
) -> None:
    fields = fields or {"speed": 1}
    answer = post(client, gateway, "tts/synthesize_file", **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


@pytest.mark.parametrize("name", ["../../x", "", "default", "alloy", "a\0b", "x" * 200])
def test_names_that_no_voice_can_have_are_refused(
    client: MegaTTS3Client, gateway: Gateway, sample: Path, name: str
) -> None:
    audio = ("ref.wav", sample.read_bytes())
    answer = post(client, gateway, "voices/upload", voice_id=name, voice_file=audio)
    assert 400 <= answer.status_code < 500, answer.text


def test_a_body_beyond_the_limit_is_refused_before_it_is_parsed(
    client: MegaTTS3Client, gateway: Gateway
) -> None:
    answer = post(
        client, gateway, "voices/upload", voice_id="x", voice_file=("x", b"x" * 52_000_000)
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        LATENT[:-1],
        LATENT + b"x",
        npy(np.zeros((1, 4, 31), dtype=np.float32)),
        npy(np.zeros((4, 32), dtype=np.float32)),
        npy(np.zeros((1, 4, 32), dtype=np.float64)),
        npy(np.array([{"a": print}], dtype=object)),
        b"\x93NUMPY\1\0" + (2**16 - 1).to_bytes(2, "little") + b"(" * (2**16 - 1),
        b"\x93NUMPY\2\0" + (2**31).to_bytes(4, "little"),
        b"\x93NUMPY\1\0\x40\0"
        + b"{'descr':'<f4','fortran_order':False,'shape':(1,10**9,32)}".ljust(64),
        b"x" * (MAX_LATENT_BYTES + 1),
    ],
)
def test_a_latent_that_is_none_is_refused_without_unpickling(data: bytes) -> None:
    with pytest.raises(VoiceError):
        check_latent(data)


def test_a_good_latent_has_its_frames() -> None:
    assert check_latent(LATENT) == 40
    with pytest.raises(UnsupportedError, match="leave voice_latent out"):
        refuse_latent(LATENT)
