"""F06, F07: requests and uploads that are malformed or meant to hurt."""

from __future__ import annotations

import io
import json
import pickle
import random
import socket
import struct
import time
import wave
import zipfile
from collections import Counter
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from conftest import Judge
from live_gateway import wait_for
from live_serve import LiveServe
from raw_door import RawStream, tensor

from duologue.client import contract

SETTINGS = {"api": {"max_json_size": "1MB", "max_request_size": "12MB"}}
NUM_MALFORMED = 1000
BODIES: tuple[bytes, ...] = (
    *(b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}" * 50, b"[" * 10_000, b'{"input": 1}'),
    *(b'{"input": ""}', b'{"input": "[S9]Who?"}', b'{"input": "a\\u0000b"}', b'{"input": NaN}'),
    *(b'{"input": "Hi.", "speed": 1e999}', b'{"input": "Hi.", "speed": -1}', b'{"input": null}'),
    *(b'{"input": "Hi.", "seed": -5}', b'{"input": "Hi.", "voice": "../../x"}', b"\0" * 1000),
    *(b'{"input": "Hi.", "response_format": "exe"}', b'{"input": "Hi.", "model": []}'),
)
PATHS = ("/v1/audio/speech", "/v1/audio/dialogue", "/api/v1/tts/synthesize", "/tts", "/v1/%00")
HEADS: tuple[bytes, ...] = (
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /tts HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    b"GET / HTTP/9.9\r\n\r\n",
    b"A" * 70_000,
)


def raw_status(server: LiveServe, data: bytes) -> int:
    """Status of the answer to some bytes; 0 when the connection is closed without one."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(200)
        except ConnectionError:
            return 0
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/") else 0


def malformed(server: LiveServe, index: int, chance: random.Random) -> int:
    if index % 5 == 0:
        return raw_status(server, HEADS[index // 5 % len(HEADS)])
    body = BODIES[index % len(BODIES)] if index % 2 else chance.randbytes(chance.randrange(2000))
    return server.call(PATHS[index % len(PATHS)], data=body).status


def test_f06_malformed_http_requests(server: LiveServe, judge: Judge) -> None:
    chance = random.Random(6)
    for i in range(100):  # so that buffers have their size
        malformed(server, i, chance)
    rss = server.rss_bytes()
    statuses = Counter(malformed(server, i, chance) for i in range(NUM_MALFORMED))
    grown = server.rss_bytes() / rss - 1
    bad = {status: count for status, count in statuses.items() if status >= 500}
    told = " ".join(f"{status}:{count}" for status, count in sorted(statuses.items()))
    judge("F06", f"{NUM_MALFORMED} over HTTP: no 5xx", told, not bad)
    judge("F06", "memory flat within 5 %", f"{grown:+.1%}", grown <= 0.05)


def wrong_tensors() -> list[list[Any]]:
    script = tensor(contract.SCRIPT, ["[S1]Hi."])
    huge = triton.InferInput("VOICE_CODES", [8, 2**31], "INT32")
    huge._raw_content = b""
    seed = triton.InferInput("SEED", [1], "FP64")
    seed.set_data_from_numpy(np.zeros(1))
    return [
        [tensor(contract.SCRIPT, [b"\xff\xfe"])],
        [tensor(contract.SCRIPT, ["a\0b"])],
        [tensor(contract.SCRIPT, ["[S1]a", "[S2]b"])],
        [script, tensor(contract.SAMPLING, ["{" * 1000])],
        [script, tensor(contract.VOICE_LENGTHS, [-1])],
        [script, seed],
        [script, huge],
    ]


def test_f06_malformed_grpc_requests(server: LiveServe, judge: Judge) -> None:
    url, kinds = server.facts["grpc_url"], Counter[str]()
    for _ in range(10):
        for inputs in wrong_tensors():
            with RawStream(url, *inputs) as stream:
                kinds[stream.error().partition(":")[0][:20]] += 1
    told = " ".join(f"{kind}:{count}" for kind, count in kinds.most_common(2))
    allowed = sum(kinds[kind] for kind in kinds if kind != "EngineError")
    judge("F06", "70 wrong tensors over gRPC are refused", told[:40], allowed == 70)
    before = server.started()
    assert server.speak("[S1]Hi.", max_new_tokens=10).status == 200
    restarts = [n for n in server.metrics() if n.startswith("duologue_server_restarts_total{")]
    judge("F06", "no restart, all processes live", f"{len(before)} live", not restarts)


def wav_bytes(seconds: float = 4.0, rate: int = 24_000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        times = np.arange(int(seconds * rate)) / rate
        file.writeframes((8000 * np.sin(2 * np.pi * 220 * times)).astype("<i2").tobytes())
    return out.getvalue()


def form(fields: list[tuple[str, str | None, bytes]]) -> tuple[bytes, dict[str, str]]:
    """A multipart body of (name, file name, data), and its headers."""
    parts = []
    for name, file_name, data in fields:
        file = "" if file_name is None else f'; filename="{file_name}"'
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + b"--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def upload(server: LiveServe, name: str, data: bytes, file_name: str = "v.wav") -> int:
    body, headers = form(
        [
            ("name", None, name.encode()),
            ("consent", None, b"yes"),
            ("audio_sample", file_name, data),
        ]
    )
    return server.call("/v1/audio/voices", data=body, headers=headers).status


def flac_bomb() -> bytes:
    """Hours of silence in little."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.zeros(24_000 * 3600, np.int16), 24_000, format="FLAC")
    return out.getvalue()


def zip_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v.wav", b"\0" * 50_000_000)
    return out.getvalue()


def attacks() -> dict[str, tuple[str, bytes, str]]:
    """What -> name of the voice, file, file name."""
    good = wav_bytes()
    claims_4_gb = good[:40] + struct.pack("<I", 0xFFFFFFF0) + good[44:]
    return {
        "FLAC bomb": ("bomb", flac_bomb(), "v.flac"),
        "zip bomb": ("zip", zip_bomb(), "v.wav"),
        "header of 4 GB": ("big", claims_4_gb[:200], "v.wav"),
        "path in the voice's name": ("../../x", good, "v.wav"),
        "path in both names": ("..", good, "../../../tmp/evil.wav"),
        "pickle": ("pickle", pickle.dumps({"a": 1}), "v.npy"),
        "script in WAV's clothes": ("poly", b"RIFF\x24\0\0\0WAVE<script>", "v.wav"),
        "nothing": ("empty", b"", "v.wav"),
        "silence": ("hush", wav_bytes(4)[:44] + b"\0" * 192_000, "v.wav"),
    }


def test_f07_upload_attacks(server: LiveServe, judge: Judge) -> None:
    assert upload(server, "honest", wav_bytes()) == 201
    store = server.folder / "data" / "duologue" / "voices"
    outside = set(server.folder.rglob("*")) - set(store.rglob("*"))
    files = {path for path in store.rglob("*") if path.is_file()}
    for what, (name, data, file_name) in attacks().items():
        start = time.monotonic()
        status = upload(server, name, data, file_name)
        took_s = time.monotonic() - start
        judge("F07", f"{what}: 4xx", str(status), 400 <= status < 500)
        judge("F07", f"{what}: <= 2 s", f"{took_s:.1f} s", took_s <= 2)
    fields = [("x" + str(i), None, b"y") for i in range(100_000)]
    body, headers = form([*fields, ("audio_sample", "v.wav", wav_bytes())])
    start = time.monotonic()
    status = server.call("/v1/audio/voices", data=body, headers=headers).status
    took_s = time.monotonic() - start
    judge("F07", "100,000 fields: 4xx <= 2 s", f"{status}, {took_s:.1f} s", 400 <= status < 500)
    now = {path for path in store.rglob("*") if path.is_file()}
    written = (set(server.folder.rglob("*")) - set(store.rglob("*"))) - outside
    new = {path for path in (now - files) | written if path.suffix not in (".db-wal", ".db-shm")}
    judge("F07", "nothing is written", f"{len(new)} files", not new)
    listed = json.loads(server.call("/v1/audio/voices").body)["voices"]
    assert "honest" in listed
    assert not {"bomb", "zip", "big", "x", "..", "pickle", "poly", "empty"} & set(listed)
    wait_for(server.is_ready, 30)
