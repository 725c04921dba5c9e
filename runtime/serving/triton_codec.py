# SPDX-License-Identifier: Apache-2.0
"""The codec as the models `codec_encoder` and `codec_decoder` of the same server."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.client import contract
from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle, CodecConfig
from duologue.runtime.core import FloatArray, IntArray
from duologue.runtime.errors import EngineError
from duologue.runtime.serving.triton import PbUtils

# Many calls between models at once have crashed servers; a few keep the decoder busy.
MAX_CALLS_IN_FLIGHT = 4


class TritonCodec:
    """Fulfils `runtime.codec.base.Codec` by calls between models.

    The calls block, so they come from worker threads and never from the engine's. The arrays
    lie in host memory: device memory between models deadlocks servers before 26.07.
    """

    def __init__(self, config: CodecConfig, pb_utils: PbUtils) -> None:
        """Take note of what the models decode; nothing is called yet.

        Args:
            config: rates and limits.
            pb_utils: Triton's module.
        """
        self._config = config
        self._pb_utils = pb_utils
        self._calls = threading.BoundedSemaphore(MAX_CALLS_IN_FLIGHT)

    @staticmethod
    def of_bundle(bundle: str, pb_utils: PbUtils) -> TritonCodec:
        """The codec of a bundle, which the codec models serve.

        Raises:
            ConfigError: no such bundle.
        """
        return TritonCodec(Bundle.load(resolve_bundle(bundle)).codec, pb_utils)

    @property
    def config(self) -> CodecConfig:
        """Rates and limits."""
        return self._config

    def encode(self, samples: FloatArray) -> IntArray:
        """Turn audio [N] into codes [K, T]; see `Codec.encode`.

        Raises:
            EngineError: the encoder answered with an error.
        """
        audio = np.ascontiguousarray(samples[np.newaxis], dtype=np.float32)
        codes = self._call(
            contract.ENCODER_MODEL, contract.CODEC_SAMPLES.name, audio, contract.CODEC_CODES.name
        )
        encoded: IntArray = codes[0].astype(np.int64)
        return encoded

    def decode(self, codes: IntArray) -> FloatArray:
        """Turn windows [B, K, L] into samples [B, N]; see `Codec.decode`.

        Raises:
            EngineError: the decoder answered with an error.
        """
        rows = contract.MAX_DECODER_BATCH
        pieces = [
            self._call(
                contract.DECODER_MODEL,
                contract.CODEC_CODES.name,
                np.ascontiguousarray(codes[start : start + rows], dtype=np.int32),
                contract.CODEC_SAMPLES.name,
            )
            for start in range(0, len(codes), rows)
        ]
        return np.concatenate(pieces)

    def close(self) -> None:
        """Nothing to give back: the models belong to the server."""

    def _call(
        self, model: str, input_name: str, values: npt.NDArray[Any], output_name: str
    ) -> npt.NDArray[Any]:
        pb_utils = self._pb_utils
        request = pb_utils.InferenceRequest(
            model_name=model,
            requested_output_names=[output_name],
            inputs=[pb_utils.Tensor(input_name, values)],
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        with self._calls:
            response = request.exec()
        if response.has_error():
            raise EngineError(f"{model} failed: {response.error().message()}")
        tensor = pb_utils.get_output_tensor_by_name(response, output_name)
        # The response's memory is shared and goes with it.
        return np.array(tensor.as_numpy())
