"""What one model said is never given as the answer of another one, not even after a restart."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from live_gateway import Gateway, wait_for
from scripted_client import ScriptedClient

from duologue.models import noise_bundle_path
from duologue.runtime.gateway.model_identity import ModelIdentity
from duologue.runtime.gateway.process import GatewayProcess
from duologue.runtime.gateway.served_bundle import read_served_bundle
from duologue.runtime.gateway.server import GatewayServer
from duologue.runtime.gateway.settings import load_settings

ONNX = {"engine": "onnx", "precision": "float32", "slots": 4, "codec_engine": "onnx"}
OTHERS = (
    {**ONNX, "engine": "torch"},
    {**ONNX, "precision": "bfloat16"},
    {**ONNX, "codec_engine": "torch"},
    {**ONNX, "codec_device": "cuda"},
)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    servers: list[GatewayServer] = []

    def opened(model: Mapping[str, Any] | None, bundle_dir: Path | None = None) -> Gateway:
        flags = {
            "api": {"port": 0, "monitoring": {"enabled": False}},
            "storage": {
                "voice_samples_dir": tmp_path / "voices",
                "cache_dir": tmp_path / "cache",
            },
            "cache": {"enabled": True},
        }
        settings = load_settings(flags=flags, environment={})
        client, bundle_dir = ScriptedClient(), bundle_dir or noise_bundle_path()
        server = GatewayServer(settings, client=client, bundle_dir=bundle_dir, grace_s=1)
        server.model_away("the model is being loaded")
        server.start()
        servers.append(server)
        server.model_back(model)
        gateway = Gateway(server, client)
        wait_for(lambda: gateway.call("/readyz").status == 200)
        return gateway

    yield opened
    for server in servers:
        server.stop()


def is_spoken_anew(gateway: Gateway) -> bool:
    before = len(gateway.client.asked)
    assert gateway.speak("Hi.", seed=1).status == 200
    return len(gateway.client.asked) > before


@pytest.mark.parametrize("other", OTHERS)
def test_another_engine_speaks_anew_after_a_restart(
    start: Callable[..., Gateway], other: dict[str, Any]
) -> None:
    assert is_spoken_anew(start(ONNX))
    assert is_spoken_anew(start(other))
    assert not is_spoken_anew(start({**ONNX, "slots": 8}))


def test_a_model_that_comes_back_as_another_one_speaks_anew(start: Callable[..., Gateway]) -> None:
    gateway = start(ONNX)
    assert [is_spoken_anew(gateway) for _ in range(2)] == [True, False]
    for model, is_new in ((OTHERS[0], True), (ONNX, False)):
        gateway.server.model_away("the process of the model x has died")
        gateway.server.model_back(model)
        wait_for(lambda: gateway.call("/readyz").status == 200)
        assert is_spoken_anew(gateway) is is_new


def test_a_model_of_which_nothing_is_known_is_like_no_other(start: Callable[..., Gateway]) -> None:
    first = start(None)
    assert [is_spoken_anew(first) for _ in range(2)] == [True, False]
    assert is_spoken_anew(start(None))


def test_a_bundle_whose_files_were_replaced_speaks_anew(
    start: Callable[..., Gateway], tmp_path: Path
) -> None:
    bundle_dir = tmp_path / "bundle"
    shutil.copytree(noise_bundle_path(), bundle_dir)
    assert is_spoken_anew(start(ONNX, bundle_dir))
    assert not is_spoken_anew(start(ONNX, bundle_dir))
    before = read_served_bundle(bundle_dir).version
    weights = max(bundle_dir.iterdir(), key=lambda path: path.stat().st_size)
    os.utime(weights, ns=(1, 1))
    assert read_served_bundle(bundle_dir).version != before
    assert is_spoken_anew(start(ONNX, bundle_dir))


@pytest.mark.parametrize("facts", [None, {}, {"slots": 4}, {"engine": "onnx"}])
def test_facts_that_say_too_little_name_no_model(facts: dict[str, Any] | None) -> None:
    one, other = ModelIdentity(), ModelIdentity()
    one.note(facts)
    other.note(facts)
    assert one.name != other.name


def test_the_process_is_told_what_has_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    class Child:
        class stdin:  # noqa: N801 - the name of a pipe
            write, flush = lines.append, staticmethod(lambda: None)

    models = iter((ONNX, OTHERS[0]))
    process = GatewayProcess(load_settings(environment={}), "", describe_model=lambda: next(models))
    monkeypatch.setattr(process, "_process", Child())
    monkeypatch.setattr(process, "_read_answer", lambda child: {"back": True})
    process.model_back()
    process.model_away("it has died")
    process.model_back()
    monkeypatch.setattr(process, "_process", None)
    told = [json.loads(line) for line in lines]
    assert told == [{"back": ONNX}, {"away": "it has died"}, {"back": OTHERS[0]}]
