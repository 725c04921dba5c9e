from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from fake_triton import FakeTriton, Request, TritonModelException, arrays, model_args, request
from fakes import LM
from scripted_synthesizer import CHUNK, ScriptedSynthesizer

from duologue.client import contract
from duologue.runtime.audio import to_int16
from duologue.runtime.backbone.base import BackboneSpec
from duologue.runtime.serving import dialogue_model
from duologue.runtime.serving.dialogue_model import (
    DialogueModel,
    announcement,
    load_dialogue_model,
)
from duologue.runtime.supervisor.log import read_announcement

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton()


@pytest.fixture
def synthesizer() -> ScriptedSynthesizer:
    return ScriptedSynthesizer()


@pytest.fixture
def model(triton: FakeTriton, synthesizer: ScriptedSynthesizer) -> Iterator[DialogueModel]:
    model = DialogueModel(cast(Any, synthesizer), triton)
    yield model
    model.finalize()


def speak(model: DialogueModel, script: str, *pairs: Any) -> Request:
    asked = request((contract.SCRIPT, [script]), *pairs)
    model.execute([asked])
    return asked


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


def test_chunks_come_in_order_then_one_empty_final(model: DialogueModel) -> None:
    sender = speak(model, "speak 3", (contract.SEED, [11])).sender.wait()

    assert sender.error is None
    assert sender.flags == [0, 0, 0, 1]
    assert sender.responses[-1] is None
    got = list(arrays(sender.data))
    assert [int(a["CHUNK_IDX"][0]) for a in got] == [0, 1, 2]
    assert [int(a["FIRST_SAMPLE"][0]) for a in got] == [0, CHUNK, 2 * CHUNK]
    assert [bool(a["IS_LAST"][0]) for a in got] == [False, False, True]
    assert {int(a["SEED_USED"][0]) for a in got} == {11}
    pcm = np.concatenate([a["PCM"] for a in got])
    floats = np.repeat(np.array([0, 1, 2], dtype=np.float32) / np.float32(100), CHUNK)
    np.testing.assert_array_equal(pcm, to_int16(floats))


def test_only_the_last_chunk_tells_reason_and_turns(model: DialogueModel) -> None:
    sender = speak(model, "speak 2").sender.wait()

    first, last = arrays(sender.data)
    end = {"FINISH_REASON", "TURN_TIMES_S", "TURN_SPEAKERS"}
    assert not end & set(first)
    assert last["FINISH_REASON"].tolist() == [b"length"]
    np.testing.assert_allclose(last["TURN_TIMES_S"], [[0.0, 0.5]])
    assert last["TURN_SPEAKERS"].tolist() == [1]


def test_every_declared_output_is_sent_with_its_type_and_shape(model: DialogueModel) -> None:
    sender = speak(model, "speak 1").sender.wait()

    (last,) = arrays(sender.data)
    assert set(last) == {spec.name for spec in contract.RESPONSE_TENSORS}
    for spec in contract.RESPONSE_TENSORS:
        values = last[spec.name]
        assert values.ndim == len(spec.shape), spec.name
        assert all(a in (-1, n) for n, a in zip(values.shape, spec.shape, strict=True)), spec.name


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("refuse", "ScriptError: line 3, column 7: nothing is said"),
        ("break 0", "EngineError: the engine failed"),
        ("break 2", "EngineError: the engine failed"),
        ("crash", "EngineError: internal error, see the server's log"),
    ],
)
def test_an_error_carries_the_final_flag_itself(
    model: DialogueModel, script: str, error: str
) -> None:
    sender = speak(model, script).sender.wait()

    assert sender.error == error
    assert sender.flags[-1] == 1


def test_an_unexpected_exception_is_logged_with_its_trace_and_not_told(
    model: DialogueModel, triton: FakeTriton
) -> None:
    sender = speak(model, "crash").sender.wait()

    assert "secret" not in str(sender.error)
    (entry,) = triton.log
    assert "secret /path/of/the/server" in entry
    assert "Traceback" in entry


def test_a_cancelled_stream_ends_and_frees_its_slot(
    model: DialogueModel, triton: FakeTriton, synthesizer: ScriptedSynthesizer
) -> None:
    held = speak(model, "hold 2").sender
    until(lambda: len(held.responses) == 2)
    until(lambda: triton.value("duologue_active_streams") == 1)

    held.cancelled = True

    assert held.wait().error == "CancelledError: the request was cancelled"
    assert synthesizer.streams[0].is_ended
    model.finalize()
    assert triton.value("duologue_active_streams") == 0
    assert triton.value("duologue_cancellations_total") == 1
    assert len(triton.metrics["duologue_cancel_to_free_seconds"][0].observed) == 1


def test_a_broken_connection_ends_the_stream(
    model: DialogueModel, synthesizer: ScriptedSynthesizer
) -> None:
    asked = request((contract.SCRIPT, ["hold 3"]))
    asked.sender.broken = True
    model.execute([asked])

    assert asked.sender.wait().error == "EngineError: internal error, see the server's log"
    until(lambda: synthesizer.streams[0].is_ended)


def test_an_acknowledgement_reaches_its_stream(
    model: DialogueModel, synthesizer: ScriptedSynthesizer
) -> None:
    held = speak(model, "hold 2", (contract.MAX_AHEAD_S, [0.1])).sender
    until(lambda: len(held.responses) == 2)
    (stream,) = synthesizer.streams
    assert stream.is_full
    ack = request((contract.ACK_STREAM_ID, [stream.stream_id]), (contract.ACK_SAMPLES, [2 * CHUNK]))

    model.execute([ack])

    assert ack.sender.responses == [None]
    assert ack.sender.flags == [1]
    assert not stream.is_full


def test_an_acknowledgement_of_a_stream_just_ended_is_no_error(
    model: DialogueModel, synthesizer: ScriptedSynthesizer, triton: FakeTriton
) -> None:
    speak(model, "speak 1").sender.wait()
    until(lambda: triton.value("duologue_requests_total", outcome="length") == 1)
    stream_id = synthesizer.streams[0].stream_id
    ack = request((contract.ACK_STREAM_ID, [stream_id]), (contract.ACK_SAMPLES, [5]))

    model.execute([ack])

    assert ack.sender.wait().error is None


@pytest.mark.parametrize(
    "pairs",
    [
        [(contract.ACK_STREAM_ID, ["nobody"]), (contract.ACK_SAMPLES, [5])],
        [(contract.ACK_STREAM_ID, ["nobody"])],
        [(contract.ACK_STREAM_ID, ["nobody"]), (contract.ACK_SAMPLES, [-1])],
        [],
        [(contract.ACK_SAMPLES, [5])],
        [(contract.SCRIPT, ["speak 1"]), (contract.ACK_SAMPLES, [5])],
    ],
    ids=["unknown", "no number", "negative", "empty", "no id", "both"],
)
def test_a_request_that_is_neither_one_nor_the_other_is_refused(
    model: DialogueModel, pairs: list[Any]
) -> None:
    asked = request(*pairs)

    model.execute([asked])

    assert str(asked.sender.wait().error).startswith("RequestError: ")


def test_a_faulty_request_leaves_its_neighbours_alone(model: DialogueModel) -> None:
    held = speak(model, "hold 1").sender
    good, bad = request((contract.SCRIPT, ["speak 2"])), request((contract.SEED, [1]))
    model.execute([bad, good])

    assert str(bad.sender.wait().error).startswith("RequestError: SCRIPT is missing")
    assert good.sender.wait().error is None
    assert not held.ended.is_set()


def test_too_many_requests_are_refused_at_once(
    model: DialogueModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue_model, "MAX_REQUESTS", 2)
    speak(model, "hold 1")
    speak(model, "hold 1")

    assert str(speak(model, "speak 1").sender.wait().error).startswith("CapacityError: ")


def test_finalize_ends_running_streams_and_refuses_new_ones(
    triton: FakeTriton, synthesizer: ScriptedSynthesizer
) -> None:
    model = DialogueModel(cast(Any, synthesizer), triton)
    held = speak(model, "hold 1").sender
    assert held.started.wait(60)

    model.finalize()

    assert held.wait().error == "CapacityError: the server is shutting down"
    assert synthesizer.is_closed
    first, last = triton.log
    assert first == "dialogue_tts ends: 1 request threads and 1 streams are open"
    assert last.startswith("dialogue_tts has ended after ")
    late = speak(model, "speak 1").sender.wait()
    assert late.error == "CapacityError: the server is shutting down"


def test_outcomes_and_audio_are_counted(model: DialogueModel, triton: FakeTriton) -> None:
    speak(model, "speak 2").sender.wait()
    speak(model, "refuse").sender.wait()
    model.finalize()

    assert triton.value("duologue_active_streams") == 0
    assert triton.value("duologue_requests_total", outcome="length") == 1
    assert triton.value("duologue_requests_total", outcome="ScriptError") == 1
    assert triton.value("duologue_audio_seconds_total") == pytest.approx(0.2)
    assert len(triton.metrics["duologue_ttfa_seconds"][0].observed) == 1


def test_a_model_that_is_not_decoupled_is_not_loaded(triton: FakeTriton) -> None:
    with pytest.raises(TritonModelException, match="ConfigError: dialogue_tts is not decoupled"):
        load_dialogue_model(model_args(decoupled=False), triton)


def test_a_bundle_that_does_not_exist_is_named_when_loading(triton: FakeTriton) -> None:
    with pytest.raises(TritonModelException, match=r"ConfigError: .*no-such-bundle"):
        load_dialogue_model(model_args(decoupled=True, bundle="no-such-bundle"), triton)


def test_what_is_served_is_announced_as_the_supervisor_reads_it(tmp_path: Path) -> None:
    spec = BackboneSpec(LM, "onnx", "int8", max_slots=4, max_rows=10, kv_bytes_per_row=3)
    log = tmp_path / "log"
    log.write_text(announcement(cast(Any, SimpleNamespace(backbone_spec=spec))))

    facts = read_announcement(log)

    assert facts == {"engine": "onnx", "precision": "int8", "slots": 4, "kv_bytes": 120}


def test_a_machine_without_threads_refuses_and_forgets_the_request(
    model: DialogueModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert speak(model, "speak 1").sender.wait().error is not None
    monkeypatch.undo()
    assert not model._threads, "it would count against the limit for ever"
    assert speak(model, "speak 1").sender.wait().error is None
