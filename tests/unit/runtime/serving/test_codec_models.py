from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_triton import (
    FakeTriton,
    InferenceResponse,
    Request,
    Tensor,
    TritonError,
    TritonModelException,
    model_args,
)
from fakes import CODEC, NUM_CHANNELS, NUM_CODES, SAMPLES_PER_FRAME, FakeCodec, spell_out

from duologue.client import contract
from duologue.runtime.errors import RequestError
from duologue.runtime.serving.codec_models import (
    CodecDecoderModel,
    CodecEncoderModel,
    load_model_codec,
)
from duologue.runtime.serving.triton_codec import TritonCodec

RNG = np.random.default_rng(5)


def some_codes(batch: int, frames: int) -> Any:
    return RNG.integers(0, NUM_CODES, (batch, NUM_CHANNELS, frames))


def ask(codes: Any) -> Request:
    return Request([Tensor("CODES", np.ascontiguousarray(codes, dtype=np.int32))])


def hear(samples: Any) -> Request:
    return Request([Tensor("SAMPLES", np.ascontiguousarray(samples, dtype=np.float32))])


def values(response: InferenceResponse) -> Any:
    assert not response.has_error(), response.error().message()
    return response.output_tensors()[0].as_numpy()


def test_requests_of_one_length_are_decoded_in_one_call() -> None:
    codec = FakeCodec()
    batches = [some_codes(2, 6), some_codes(1, 4), some_codes(3, 6)]

    responses = CodecDecoderModel(codec, FakeTriton()).execute([ask(c) for c in batches])

    assert codec.num_decodes == 2
    for codes, response in zip(batches, responses, strict=True):
        np.testing.assert_array_equal(values(response), spell_out(codes))


@pytest.mark.parametrize(
    "faulty",
    [
        some_codes(1, 6) + NUM_CODES,
        some_codes(1, 6) - NUM_CODES,
        some_codes(1, 6)[:, :-1],
        some_codes(1, CODEC.max_frames + 1),
        some_codes(1, 1)[:, :, :0],
        some_codes(1, 6)[0],
    ],
    ids=["high", "low", "codebooks", "long", "empty", "rank"],
)
def test_a_faulty_request_fails_alone(faulty: Any) -> None:
    good = some_codes(1, 6)

    bad, fine = CodecDecoderModel(FakeCodec(), FakeTriton()).execute([ask(faulty), ask(good)])

    assert bad.error().message().startswith("RequestError: CODES ")
    np.testing.assert_array_equal(values(fine), spell_out(good))


def test_a_broken_codec_answers_every_request_of_its_batch() -> None:
    model = CodecDecoderModel(FakeCodec(fail_at=1), FakeTriton())

    responses = model.execute([ask(some_codes(1, 6)), ask(some_codes(1, 6))])

    assert {r.error().message() for r in responses} == {
        "EngineError: internal error, see the server's log"
    }


def test_audio_becomes_codes() -> None:
    (response,) = CodecEncoderModel(FakeCodec(), FakeTriton()).execute(
        [hear(np.zeros((1, 5 * SAMPLES_PER_FRAME + 3)))]
    )

    codes = values(response)
    assert codes.shape == (1, NUM_CHANNELS, 5)
    assert codes.dtype == np.int32


@pytest.mark.parametrize(
    "faulty",
    [np.zeros((1, SAMPLES_PER_FRAME - 1)), np.zeros((2, 80)), np.full((1, 80), np.nan)],
    ids=["short", "two", "nan"],
)
def test_faulty_audio_is_refused(faulty: Any) -> None:
    (response,) = CodecEncoderModel(FakeCodec(), FakeTriton()).execute([hear(faulty)])

    assert response.error().message().startswith("RequestError: SAMPLES ")


def connect(triton: FakeTriton) -> TritonCodec:
    decoder = CodecDecoderModel(FakeCodec(), triton)
    encoder = CodecEncoderModel(FakeCodec(), triton)
    triton.models["codec_decoder"] = lambda inputs: decoder.execute([ask(inputs["CODES"])])
    triton.models["codec_encoder"] = lambda inputs: encoder.execute([hear(inputs["SAMPLES"])])
    return TritonCodec(CODEC, triton, never)


def never() -> FakeCodec:
    raise AssertionError("the codec is not needed in this process")


def test_the_codec_behind_triton_gives_what_the_codec_itself_gives() -> None:
    codes = some_codes(3, 6)
    audio = RNG.random(50).astype(np.float32)
    codec = connect(FakeTriton())

    np.testing.assert_array_equal(codec.decode(codes), FakeCodec().decode(codes))
    np.testing.assert_array_equal(codec.encode(audio), FakeCodec().encode(audio))
    assert codec.encode(audio).dtype == np.int64


def test_a_batch_beyond_the_model_s_limit_goes_out_in_pieces() -> None:
    triton = FakeTriton()
    codes = some_codes(contract.MAX_DECODER_BATCH + 3, 2)

    np.testing.assert_array_equal(connect(triton).decode(codes), spell_out(codes))
    assert [len(inputs["CODES"]) for _, inputs in triton.calls] == [contract.MAX_DECODER_BATCH, 3]


def refuse(triton: FakeTriton, text: str) -> None:
    for model in ("codec_encoder", "codec_decoder"):
        triton.models[model] = lambda _: [InferenceResponse([], TritonError(text))]


def test_a_typed_error_of_the_decoder_keeps_its_type() -> None:
    triton = FakeTriton()
    refuse(triton, "RequestError: CODES are wrong")

    with pytest.raises(RequestError, match=r"^CODES are wrong$"):
        TritonCodec(CODEC, triton, never).decode(some_codes(1, 2))


@pytest.mark.parametrize(
    "text", ["Model codec_decoder - Error when running inference: Server not ready", "not healthy"]
)
def test_what_triton_refuses_is_done_here_by_a_codec_loaded_once(text: str) -> None:
    triton, loaded = FakeTriton(), []
    refuse(triton, text)

    def load() -> FakeCodec:
        loaded.append(FakeCodec())
        return loaded[-1]

    codec, codes = TritonCodec(CODEC, triton, load), some_codes(2, 5)
    np.testing.assert_array_equal(codec.decode(codes), spell_out(codes))
    np.testing.assert_array_equal(codec.decode(codes), spell_out(codes))
    assert codec.encode(np.zeros(16, dtype=np.float32)).shape == (NUM_CHANNELS, 2)
    assert len(loaded) == 1
    assert text in triton.log[0]


def test_a_bundle_that_does_not_exist_is_named_when_loading() -> None:
    with pytest.raises(TritonModelException, match=r"ConfigError: .*no-such-bundle"):
        load_model_codec(model_args(bundle="no-such-bundle"), FakeTriton())
