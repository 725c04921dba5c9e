from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from fake_triton import FakeTriton, InferenceResponse, Request, TritonError, arrays, request
from scripted_synthesizer import scripted_chunk

from duologue.client import contract
from duologue.runtime.serving import whole_model
from duologue.runtime.serving.tensors import chunk_tensors
from duologue.runtime.serving.whole_model import WholeDialogueModel

pytestmark = pytest.mark.timeout(120)


def stream(triton: FakeTriton, num_chunks: int, *, ends: bool = True) -> list[InferenceResponse]:
    """What the streaming model sends, with the empty final response."""
    chunks = [scripted_chunk(i, is_last=ends and i == num_chunks - 1) for i in range(num_chunks)]
    wanted = {spec.name for spec in contract.WHOLE_RESPONSE_TENSORS}
    tensors: list[Any] = [chunk_tensors(triton, chunk, "id", 7) for chunk in chunks]
    data = [InferenceResponse([t for t in some if t.name() in wanted]) for some in tensors]
    return [*data, InferenceResponse()]


def run(triton: FakeTriton) -> Request:
    asked = request((contract.SCRIPT, ["[S1]Hi."]), (contract.SEED, [7]))
    WholeDialogueModel(triton).execute([asked])
    asked.sender.wait()
    return asked


def test_chunks_are_gathered_into_one_response() -> None:
    triton = FakeTriton()
    triton.models["dialogue_tts"] = lambda _: stream(triton, 3)

    sender = run(triton).sender

    assert sender.flags == [1]
    (whole,) = arrays(sender.data)
    assert set(whole) == {spec.name for spec in contract.WHOLE_RESPONSE_TENSORS}
    parts = [a["PCM"] for a in arrays(stream(triton, 3)) if a]
    np.testing.assert_array_equal(whole["PCM"], np.concatenate(parts))
    assert whole["FINISH_REASON"].tolist() == [b"length"]


def test_the_request_is_passed_on_as_it_is() -> None:
    triton = FakeTriton()
    triton.models["dialogue_tts"] = lambda _: stream(triton, 1)

    run(triton)

    ((model, inputs),) = triton.calls
    assert model == "dialogue_tts"
    assert inputs["SCRIPT"].tolist() == [b"[S1]Hi."]
    assert inputs["SEED"].tolist() == [7]


def test_an_error_of_the_stream_keeps_its_type_and_the_iterator_is_read_to_its_end() -> None:
    triton = FakeTriton()
    ended = threading.Event()

    def answers(_: Any) -> Any:
        yield stream(triton, 1, ends=False)[0]
        yield InferenceResponse([], TritonError("VoiceError: no such voice"))
        ended.set()

    triton.models["dialogue_tts"] = answers

    assert run(triton).sender.error == "VoiceError: no such voice"
    assert ended.is_set()


@pytest.mark.parametrize("num_chunks", [0, 2])
def test_a_stream_cut_short_is_an_error(num_chunks: int) -> None:
    triton = FakeTriton()
    triton.models["dialogue_tts"] = lambda _: stream(triton, num_chunks, ends=False)

    told = "EngineError: dialogue_tts ended without its last chunk"
    assert run(triton).sender.error == told


def test_a_call_that_raises_is_an_internal_error() -> None:
    triton = FakeTriton()

    assert run(triton).sender.error == "EngineError: internal error, see the server's log"
    assert "KeyError" in triton.log[0]


def test_too_many_requests_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_model, "MAX_REQUESTS", 1)
    triton, gate = FakeTriton(), threading.Event()

    def answers(_: Any) -> list[InferenceResponse]:
        gate.wait(60)
        return stream(triton, 1)

    triton.models["dialogue_tts"] = answers
    model = WholeDialogueModel(triton)
    first, second = (request((contract.SCRIPT, ["[S1]Hi."])) for _ in range(2))

    model.execute([first, second])

    assert str(second.sender.wait().error).startswith("CapacityError: ")
    gate.set()
    assert first.sender.wait().error is None
    model.finalize()
