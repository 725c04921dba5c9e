# SPDX-License-Identifier: Apache-2.0
"""The codec as the models `codec_encoder` and `codec_decoder` of the same server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.client import contract
from duologue.models import resolve_bundle
from duologue.runtime.codec.base import Codec
from duologue.runtime.config import Bundle, CodecConfig
from duologue.runtime.core import FloatArray, IntArray
from duologue.runtime.errors import parse_error
from duologue.runtime.serving.codec_models import load_served_codec
from duologue.runtime.serving.triton import ModelSettings, PbUtils

# Many calls between models at once have crashed servers; a few keep the decoder busy.
MAX_CALLS_IN_FLIGHT = 4


class _RefusedError(Exception):
    """Triton itself did not run a model."""


class TritonCodec:
    """Fulfils `runtime.codec.base.Codec` by calls between models.

    The calls block, so they come from worker threads and never from the engine's. The arrays
    lie in host memory: device memory between models deadlocks servers before 26.07.

    Triton refuses every call between models once it was told to stop, although it lets running
    requests finish, and it refuses calls to a model whose process has died. What it refuses is
    done in this process, by the same codec, loaded when it is first needed.
    """

    def __init__(
        self, config: CodecConfig, pb_utils: PbUtils, load_local: Callable[[], Codec]
    ) -> None:
        """Take note of what the models decode; nothing is called yet.

        Args:
            config: rates and limits.
            pb_utils: Triton's module.
            load_local: loads the same codec into this process.
        """
        self._config = config
        self._pb_utils = pb_utils
        self._load_local = load_local
        self._local: Codec | None = None
        self._lock = threading.Lock()
        self._calls = threading.BoundedSemaphore(MAX_CALLS_IN_FLIGHT)

    @staticmethod
    def of_settings(settings: ModelSettings, pb_utils: PbUtils) -> TritonCodec:
        """The codec of the bundle that a model's parameters name.

        Raises:
            ConfigError: no such bundle.
        """
        config = Bundle.load(resolve_bundle(settings.bundle)).codec
        return TritonCodec(config, pb_utils, lambda: load_served_codec(settings)[0])

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
        try:
            codes = self._call(
                contract.ENCODER_MODEL,
                contract.CODEC_SAMPLES.name,
                audio,
                contract.CODEC_CODES.name,
            )
        except _RefusedError:
            return self._own().encode(samples)
        encoded: IntArray = codes[0].astype(np.int64)
        return encoded

    def decode(self, codes: IntArray) -> FloatArray:
        """Turn windows [B, K, L] into samples [B, N]; see `Codec.decode`.

        Raises:
            EngineError: the decoder answered with an error.
        """
        rows = contract.MAX_DECODER_BATCH
        starts = range(0, len(codes), rows)
        return np.concatenate([self._decode(codes[start : start + rows]) for start in starts])

    def _decode(self, codes: IntArray) -> FloatArray:
        try:
            return self._call(
                contract.DECODER_MODEL,
                contract.CODEC_CODES.name,
                np.ascontiguousarray(codes, dtype=np.int32),
                contract.CODEC_SAMPLES.name,
            )
        except _RefusedError:
            return self._own().decode(codes)

    def close(self) -> None:
        """Give back what this process loaded; the models belong to the server."""
        if self._local is not None:
            self._local.close()

    def _own(self) -> Codec:
        with self._lock:
            if self._local is None:
                self._local = self._load_local()
            return self._local

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
            text = response.error().message()
            error = parse_error(text)
            if str(error) == text:  # no type of ours in front: Triton's own words
                self._pb_utils.Logger.log_warn(f"{model} was refused and is done here: {text}")
                raise _RefusedError
            raise error
        tensor = pb_utils.get_output_tensor_by_name(response, output_name)
        # The response's memory is shared and goes with it.
        return np.array(tensor.as_numpy())
