# SPDX-License-Identifier: Apache-2.0
"""The models `codec_encoder` and `codec_decoder`: a codec behind Triton's dynamic batching."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.client import contract
from duologue.client.contract import TensorSpec
from duologue.models import resolve_bundle
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.registry import CodecPlace, choose_place, load_codec
from duologue.runtime.config import Bundle
from duologue.runtime.core import FloatArray, IntArray
from duologue.runtime.errors import DuologueError, RequestError
from duologue.runtime.serving.errors import error_response, load_failure
from duologue.runtime.serving.tensors import RequestTensors
from duologue.runtime.serving.triton import ModelSettings, PbUtils, Request, Response


def load_model_codec(args: Mapping[str, str], pb_utils: PbUtils) -> Codec:
    """Load the codec of the bundle that the model's config names.

    Args:
        args: as Triton hands them to `initialize`.
        pb_utils: Triton's module.

    Raises:
        pb_utils.TritonModelException: the bundle cannot be served; the type and text of our
            error are in the message.
    """
    try:
        codec, place = load_served_codec(ModelSettings.from_args(args))
    except DuologueError as error:
        raise load_failure(error, pb_utils) from error
    pb_utils.Logger.log_info(codec_announcement(place))
    return codec


def codec_announcement(place: CodecPlace) -> str:
    """One line for the log that says where the codec runs; the supervisor reads it there."""
    return f"{contract.CODEC_ANNOUNCEMENT} codec_engine={place.engine} codec_device={place.device}"


def load_served_codec(settings: ModelSettings) -> tuple[Codec, CodecPlace]:
    """Load the codec that a model's parameters ask for.

    Raises:
        ConfigError: no such bundle, or its files do not fit its description.
        EngineUnavailableError: the engine cannot run here.
    """
    directory = resolve_bundle(settings.bundle)
    bundle = Bundle.load(directory)
    place = choose_place(bundle, settings.codec_engine, settings.codec_device)
    return load_codec(bundle, directory, place.engine, device=place.device), place


class CodecDecoderModel:
    """Codes [B, K, L] to samples [B, N], many requests at a time."""

    def __init__(self, codec: Codec, pb_utils: PbUtils) -> None:
        """Open the mailbox.

        Args:
            codec: closed by `finalize`.
            pb_utils: Triton's module.
        """
        self._codec = codec
        self._pb_utils = pb_utils

    def execute(self, requests: Sequence[Request]) -> list[Response]:
        """Decode equally long windows together; a faulty request fails alone."""
        responses: list[Response] = [None] * len(requests)
        groups: dict[int, list[tuple[int, IntArray]]] = defaultdict(list)
        for i, request in enumerate(requests):
            try:
                codes = self._read(request)
                groups[codes.shape[2]].append((i, codes))
            except Exception as error:  # the door: becomes an error response
                responses[i] = error_response(error, self._pb_utils)
        for group in groups.values():
            for (i, _), response in zip(group, self._decode(group), strict=True):
                responses[i] = response
        return responses

    def finalize(self) -> None:
        """Let the codec go."""
        self._codec.close()

    def _read(self, request: Request) -> IntArray:
        codes = _batched(request, contract.CODEC_CODES).astype(np.int64)
        config = self._codec.config
        if codes.shape[1] != config.num_codebooks or not 1 <= codes.shape[2] <= config.max_frames:
            raise RequestError(
                f"CODES has shape {list(codes.shape)}; allowed: [B, {config.num_codebooks}, 1 to "
                f"{config.max_frames}]"
            )
        if codes.min() < 0 or codes.max() >= config.codebook_size:
            raise RequestError(
                f"CODES holds codes from {codes.min()} to {codes.max()}; allowed: 0 to "
                f"{config.codebook_size - 1}"
            )
        return codes

    def _decode(self, group: list[tuple[int, IntArray]]) -> list[Response]:
        try:
            samples = self._codec.decode(np.concatenate([codes for _, codes in group]))
        except Exception as error:  # the door: becomes an error response
            return [error_response(error, self._pb_utils) for _ in group]
        borders = np.cumsum([len(codes) for _, codes in group])[:-1]
        return [self._answer(rows) for rows in np.split(samples, borders)]

    def _answer(self, samples: FloatArray) -> Response:
        values = np.ascontiguousarray(samples, dtype=np.float32)
        tensor = self._pb_utils.Tensor(contract.CODEC_SAMPLES.name, values)
        return self._pb_utils.InferenceResponse([tensor])


class CodecEncoderModel:
    """Samples [1, N] to codes [1, K, T], one request after the other."""

    def __init__(self, codec: Codec, pb_utils: PbUtils) -> None:
        """Open the mailbox.

        Args:
            codec: closed by `finalize`.
            pb_utils: Triton's module.
        """
        self._codec = codec
        self._pb_utils = pb_utils

    def execute(self, requests: Sequence[Request]) -> list[Response]:
        """Encode each request's audio."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Let the codec go."""
        self._codec.close()

    def _answer(self, request: Request) -> Response:
        try:
            samples = _batched(request, contract.CODEC_SAMPLES)
            shortest = self._codec.config.input_samples_per_frame
            if len(samples) != 1 or samples.shape[1] < shortest or not np.isfinite(samples).all():
                raise RequestError(
                    f"SAMPLES has shape {list(samples.shape)}; allowed: [1, N] with at least "
                    f"{shortest} finite samples"
                )
            codes = self._codec.encode(samples[0])[np.newaxis].astype(np.int32)
        except Exception as error:  # the door: becomes an error response
            return error_response(error, self._pb_utils)
        tensor = self._pb_utils.Tensor(contract.CODEC_CODES.name, np.ascontiguousarray(codes))
        return self._pb_utils.InferenceResponse([tensor])


def _batched(request: Request, spec: TensorSpec) -> npt.NDArray[Any]:
    """A tensor with the batch dimension that Triton puts before the contract's shape."""
    batched = TensorSpec(spec.name, spec.dtype, (-1, *spec.shape))
    array = RequestTensors(request).array(batched)
    if array is None:
        raise RequestError(f"{spec.name} is missing")
    return array
