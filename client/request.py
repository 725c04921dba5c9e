# SPDX-License-Identifier: Apache-2.0
"""A script and its options to a request on the wire. Pure: no connection here.

Shared by the sync and the asyncio client; the names and types of the tensors are those of
`duologue.client.contract`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from duologue.client import contract
from duologue.client.contract import TensorSpec
from duologue.client.errors import EngineError, RequestError
from duologue.client.types import SpeechOptions, Voice

_DTYPES = {"INT32": "<i4", "INT64": "<i8", "FP32": "<f4"}
_SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "repetition_penalty")
_WANT_FINAL = "triton_enable_empty_final_response"


def build_request(script: str, options: SpeechOptions) -> Any:
    """The request that asks for a script to be spoken.

    Args:
        script: text in any notation that the server's script parser knows.
        options: what else is wanted.

    Returns:
        A `ModelInferRequest` for the streaming model.

    Raises:
        RequestError: an option does not fit its tensor.
    """
    request = _new_request()
    _put_text(request, contract.SCRIPT, [script])
    _put_voices(request, options.voices)
    sampling = _sampling(options)
    if sampling:
        _put_text(request, contract.SAMPLING, [json.dumps(sampling)])
    _put_text(request, contract.NORMALIZATION, [options.normalization])
    _put_text(request, contract.TEXT_FRONTEND, [options.text_frontend])
    _put_text(request, contract.MODE, [options.mode])
    for spec, value in (
        (contract.SEED, options.seed),
        (contract.MAX_FRAMES, options.max_frames),
        (contract.DEADLINE_S, options.deadline_s),
        (contract.MAX_AHEAD_S, options.max_ahead_s),
    ):
        if value is not None:
            _put_numbers(request, spec, [value])
    return request


def build_ack(stream_id: str, num_samples: int) -> Any:
    """The request that tells the server how much of a stream's audio has been taken.

    Args:
        stream_id: as the chunks name it.
        num_samples: taken since the stream began.
    """
    request = _new_request()
    _put_text(request, contract.ACK_STREAM_ID, [stream_id])
    _put_numbers(request, contract.ACK_SAMPLES, [num_samples])
    return request


def build_encoding(samples: npt.ArrayLike) -> Any:
    """The request that asks for reference audio as codes.

    Args:
        samples: mono [N] at the input rate of the server's codec.

    Returns:
        A `ModelInferRequest` for the codec's encoder.
    """
    request = service_pb2.ModelInferRequest(model_name=contract.ENCODER_MODEL)
    _put_numbers(request, contract.CODEC_SAMPLES, np.atleast_2d(samples))
    return request


def read_encoding(response: Any) -> npt.NDArray[np.int32]:
    """Codes [K, T] from the answer to `build_encoding`.

    Raises:
        EngineError: the answer holds no codes.
    """
    for output, data in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == contract.CODEC_CODES.name:
            batch = np.frombuffer(data, "<i4").reshape(tuple(output.shape))
            codes: npt.NDArray[np.int32] = batch[0]
            return codes
    raise EngineError(f"{contract.ENCODER_MODEL} answered without {contract.CODEC_CODES.name}")


def _new_request() -> Any:
    request = service_pb2.ModelInferRequest(model_name=contract.STREAMING_MODEL)
    request.parameters[_WANT_FINAL].bool_param = True
    return request


def _put(request: Any, spec: TensorSpec, shape: Sequence[int], data: bytes) -> None:
    request.inputs.add(name=spec.name, datatype=spec.dtype, shape=shape)
    request.raw_input_contents.append(data)


def _put_text(request: Any, spec: TensorSpec, values: Sequence[str]) -> None:
    encoded = [value.encode() for value in values]
    data = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    _put(request, spec, [len(encoded)], data)


def _put_numbers(request: Any, spec: TensorSpec, values: npt.ArrayLike) -> None:
    try:
        array = np.asarray(values, dtype=_DTYPES[spec.dtype])
    except (OverflowError, TypeError, ValueError) as error:
        raise RequestError(f"{spec.name} is {values!r}; allowed: {spec.dtype}") from error
    _put(request, spec, array.shape, array.tobytes())


def _put_voices(request: Any, voices: Mapping[int, Voice | str]) -> None:
    """One entry per speaker from 1 to the highest named; "" and length 0 where none is given."""
    if not voices:
        return
    entries = [voices.get(speaker, "") for speaker in range(1, max(voices) + 1)]
    names = [entry if isinstance(entry, str) else "" for entry in entries]
    given = [entry if isinstance(entry, Voice) else None for entry in entries]
    if any(names):
        _put_text(request, contract.VOICE_IDS, names)
    codes = [voice.codes for voice in given if voice is not None]
    if not codes:
        return
    if len({len(channels) for channels in codes}) != 1:
        raise RequestError(f"voices have {[len(c) for c in codes]} codebooks; allowed: one number")
    lengths = [0 if voice is None else voice.codes.shape[1] for voice in given]
    _put_numbers(request, contract.VOICE_CODES, np.concatenate(codes, axis=1))
    _put_numbers(request, contract.VOICE_LENGTHS, lengths)
    transcripts = ["" if voice is None else voice.transcript for voice in given]
    _put_text(request, contract.VOICE_TRANSCRIPTS, transcripts)


def _sampling(options: SpeechOptions) -> dict[str, object]:
    """The JSON object of the tensor SAMPLING: only what the caller changes."""
    changed = {name: getattr(options, name) for name in _SAMPLING_FIELDS}
    sampling: dict[str, object] = {k: v for k, v in changed.items() if v is not None}
    if options.greedy:
        sampling["greedy"] = True
    return sampling
