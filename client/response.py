# SPDX-License-Identifier: Apache-2.0
"""Responses on the wire back to chunks. Pure: no connection here.

Shared by the sync and the asyncio client.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferResult

from duologue.client import contract
from duologue.client.contract import TensorSpec
from duologue.client.errors import EngineError, error_from_wire
from duologue.client.types import AudioChunk, TurnTime

_IS_FINAL = "triton_final_response"


class ResponseReader:
    """Reads the responses of one stream in the order in which they come.

    Error, tensors and final flag are looked at independently: a final flag may come with the
    last tensors or in a response of its own, and an error ends the stream with or without one.

    Attributes:
        is_complete: the last chunk has come.
        is_final: the server has said that nothing follows.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.is_final = False
        self._num_chunks = 0

    def read(self, response: Any) -> AudioChunk | None:
        """Read one `ModelStreamInferResponse`.

        Returns:
            The chunk it carries, or None if it carries none.

        Raises:
            DuologueError: the response is an error, by the type that the server raised.
            EngineError: the final flag comes before the last chunk.
        """
        if response.error_message:
            raise error_from_wire(response.error_message)
        message = response.infer_response
        self.is_final = self.is_final or message.parameters[_IS_FINAL].bool_param
        if self.is_complete:
            return None
        if len(message.outputs) == 0:
            if self.is_final:
                raise self.cut_short()
            return None
        chunk = read_chunk(message)
        self.is_complete = chunk.is_last
        self._num_chunks += 1
        return chunk

    def cut_short(self) -> EngineError:
        """The error of a stream that ends before its last chunk; not raised."""
        return EngineError(
            f"the stream ended after {self._num_chunks} chunks, without its last one"
        )


def read_chunk(message: Any) -> AudioChunk:
    """Turn a `ModelInferResponse` with tensors into a chunk.

    Raises:
        EngineError: a tensor is missing.
    """
    result = InferResult(message)
    finish_reason = result.as_numpy(contract.FINISH_REASON.name)
    return AudioChunk(
        samples=_need(result, contract.PCM).astype(np.int16, copy=False),
        sample_rate_hz=int(_need(result, contract.SAMPLE_RATE_HZ)[0]),
        index=int(_need(result, contract.CHUNK_IDX)[0]),
        first_sample=int(_need(result, contract.FIRST_SAMPLE)[0]),
        turn=int(_need(result, contract.TURN)[0]),
        speaker=int(_need(result, contract.SPEAKER)[0]),
        turn_timing=_text(_need(result, contract.TURN_TIMING)),
        stream_id=_text(_need(result, contract.STREAM_ID)),
        seed=int(_need(result, contract.SEED_USED)[0]),
        is_last=bool(_need(result, contract.IS_LAST)[0]),
        finish_reason=None if finish_reason is None else _text(finish_reason) or None,
        turn_times=_turn_times(result),
    )


def _need(result: InferResult, spec: TensorSpec) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] | None = result.as_numpy(spec.name)
    if array is None:
        raise EngineError(f"the server's response has no tensor {spec.name}")
    return array


def _text(array: npt.NDArray[Any]) -> str:
    value: bytes = array.reshape(-1)[0]
    return value.decode()


def _turn_times(result: InferResult) -> tuple[TurnTime, ...]:
    times = result.as_numpy(contract.TURN_TIMES_S.name)
    speakers = result.as_numpy(contract.TURN_SPEAKERS.name)
    if times is None or speakers is None:
        return ()
    return tuple(
        TurnTime(int(speaker), float(start), float(end))
        for speaker, (start, end) in zip(speakers, times, strict=True)
    )
