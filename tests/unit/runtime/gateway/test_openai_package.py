"""The official package, pointed at the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from live_gateway import wait_for
from scripted_client import CHUNK, tone

WHOLE = np.concatenate([tone(i * CHUNK, CHUNK) for i in range(3)])


@pytest.fixture
def client(gateway: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="coral", input="Hello.", response_format="pcm"
    )
    np.testing.assert_array_equal(np.frombuffer(answer.content, "<i2"), WHOLE)


def test_a_streamed_answer_and_a_file(client: openai.OpenAI, tmp_path: Any) -> None:
    create = client.audio.speech.with_streaming_response.create
    with create(model="tts-1", voice="alloy", input="Hello.") as answer:
        answer.stream_to_file(tmp_path / "talk.mp3")
    assert (tmp_path / "talk.mp3").stat().st_size > 5000


def test_its_extra_body_carries_our_fields(client: openai.OpenAI, gateway: Any) -> None:
    client.audio.speech.create(
        model="tts-1", voice="alloy", input="[S1]Hi.[S2]Ho.", speed=1.5, extra_body={"seed": 11}
    )
    assert gateway.asked[1]["seed"] == 11


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert "tts-1" in [model.id for model in client.models.list()]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model": "none"}, openai.NotFoundError),
        ({"input": "refuse"}, openai.BadRequestError),
        ({"speed": 9}, openai.UnprocessableEntityError),
        ({"input": "crash"}, openai.InternalServerError),
        ({"instructions": "cheerful"}, openai.BadRequestError),
    ],
)
def test_errors_arrive_by_its_own_types(
    client: openai.OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError]
) -> None:
    request = {"model": "tts-1", "voice": "alloy", "input": "Hi.", **fields}
    with pytest.raises(kind) as caught:
        client.audio.speech.create(**request)
    assert caught.value.code
    assert caught.value.body


def test_leaving_its_stream_cancels(client: openai.OpenAI, gateway: Any) -> None:
    create = client.audio.speech.with_streaming_response.create
    with create(model="tts-1", voice="alloy", input="hold", response_format="pcm") as answer:
        next(answer.iter_bytes(100))
    wait_for(lambda: gateway.client.streams[-1].is_left)
