# SPDX-License-Identifier: Apache-2.0
"""Reads checked values out of a request's tensors and writes chunks into responses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.client import contract
from duologue.client.contract import TensorSpec
from duologue.runtime.audio import to_int16
from duologue.runtime.core import PcmChunk
from duologue.runtime.errors import RequestError
from duologue.runtime.serving.triton import PbUtils, Request, Tensor, text_tensor

_DTYPES: dict[str, np.dtype[Any]] = {
    "BYTES": np.dtype(np.object_),
    "BOOL": np.dtype(np.bool_),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP32": np.dtype(np.float32),
}


class RequestTensors:
    """The tensors of one request, checked against the contract when they are read."""

    def __init__(self, request: Request) -> None:
        # Copies: the memory is shared with the server process and goes with the request.
        self._arrays = {tensor.name(): np.array(tensor.as_numpy()) for tensor in request.inputs()}

    def __contains__(self, spec: TensorSpec) -> bool:
        """Whether the request carries the tensor."""
        return spec.name in self._arrays

    def array(self, spec: TensorSpec) -> npt.NDArray[Any] | None:
        """The tensor's values, or None when it was left out.

        Raises:
            RequestError: type or shape differ from the contract.
        """
        array = self._arrays.get(spec.name)
        if array is None:
            return None
        if array.dtype != _DTYPES[spec.dtype]:
            raise RequestError(f"{spec.name} has type {array.dtype}; allowed: {spec.dtype}")
        fits = array.ndim == len(spec.shape) and all(
            allowed in (-1, size) for size, allowed in zip(array.shape, spec.shape, strict=True)
        )
        if not fits:
            raise RequestError(
                f"{spec.name} has shape {list(array.shape)}; allowed: {list(spec.shape)}"
            )
        return array

    def texts(self, spec: TensorSpec) -> list[str] | None:
        """The strings of a BYTES tensor, or None when it was left out.

        Raises:
            RequestError: type or shape differ, or the bytes are no UTF-8.
        """
        array = self.array(spec)
        if array is None:
            return None
        try:
            return [bytes(value).decode("utf-8") for value in array]
        except UnicodeDecodeError as error:
            raise RequestError(
                f"{spec.name} holds the byte {error.object[error.start]:#04x} at place "
                f"{error.start}; allowed: UTF-8"
            ) from error

    def text(self, spec: TensorSpec) -> str | None:
        """The only string of a BYTES tensor, or None when it was left out.

        Raises:
            RequestError: as for `texts`.
        """
        texts = self.texts(spec)
        return None if texts is None else texts[0]

    def whole(self, spec: TensorSpec, low: int) -> int | None:
        """The only number of an integer tensor, or None when it was left out.

        Raises:
            RequestError: type or shape differ, or the number is below `low`.
        """
        array = self.array(spec)
        if array is None:
            return None
        if array[0] < low:
            raise RequestError(f"{spec.name} is {array[0]}; allowed: {low} or more")
        return int(array[0])

    def seconds(self, spec: TensorSpec) -> float | None:
        """The only number of a float tensor, or None when it was left out.

        Raises:
            RequestError: type or shape differ, or it is no finite number above 0.
        """
        array = self.array(spec)
        if array is None:
            return None
        value = float(array[0])
        if not (math.isfinite(value) and value > 0):
            raise RequestError(f"{spec.name} is {value:g}; allowed: seconds above 0")
        return value


def chunk_tensors(pb_utils: PbUtils, chunk: PcmChunk, stream_id: str, seed: int) -> list[Tensor]:
    """The tensors of one response.

    Args:
        pb_utils: Triton's module.
        chunk: the audio.
        stream_id: the name by which the stream takes acknowledgements.
        seed: the seed in use.
    """

    def numbers(spec: TensorSpec, value: npt.ArrayLike) -> Tensor:
        array = np.asarray(value, dtype=_DTYPES[spec.dtype])
        tensor: Tensor = pb_utils.Tensor(spec.name, array)
        return tensor

    tensors = [
        numbers(contract.PCM, to_int16(chunk.samples)),
        numbers(contract.SAMPLE_RATE_HZ, [chunk.sample_rate_hz]),
        numbers(contract.CHUNK_IDX, [chunk.index]),
        numbers(contract.FIRST_SAMPLE, [chunk.first_sample]),
        numbers(contract.TURN, [chunk.turn]),
        numbers(contract.SPEAKER, [chunk.speaker]),
        text_tensor(pb_utils, contract.TURN_TIMING.name, chunk.turn_timing.value),
        text_tensor(pb_utils, contract.STREAM_ID.name, stream_id),
        numbers(contract.SEED_USED, [seed]),
        numbers(contract.IS_LAST, [chunk.is_last]),
    ]
    if chunk.is_last:
        reason = "" if chunk.finish_reason is None else chunk.finish_reason.value
        times = [(time.start_s, time.end_s) for time in chunk.turn_times]
        speakers = [time.speaker for time in chunk.turn_times]
        tensors += [
            text_tensor(pb_utils, contract.FINISH_REASON.name, reason),
            numbers(contract.TURN_TIMES_S, np.array(times, dtype=np.float32).reshape(-1, 2)),
            numbers(contract.TURN_SPEAKERS, speakers),
        ]
    return tensors
