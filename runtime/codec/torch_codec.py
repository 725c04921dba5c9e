# SPDX-License-Identifier: Apache-2.0
"""The codec on torch: the reference that the other engines are held to.

Every call of the network sees exactly `rows_per_run` rows; a group that is short is filled up
with copies of its last row. With one row per call, the default on a CPU, a row's samples cannot
depend on its neighbours. With more, shapes are still the same whatever the batch, but the
arithmetic must also treat every place in the batch alike: that does not hold on a CPU (measured:
the last bits differ), and on a GPU it has to be measured before it is relied upon.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from duologue.runtime.codec.clip import (
    ClipWindow,
    check_codes,
    check_samples,
    join_codes,
    split_clip,
)
from duologue.runtime.codec.xy.parameters import XyParameters
from duologue.runtime.codec.xy.tokenizer import XyTokenizer
from duologue.runtime.config import CodecConfig
from duologue.runtime.core import FloatArray, IntArray
from duologue.runtime.errors import ConfigError

_CPU_ROWS, _GPU_ROWS = 1, 8


class TorchCodec:
    """`duologue.runtime.codec.base.Codec` over the torch modules.

    Args:
        config: of the codec; `config.model` are its hyper-parameters.
        weights_path: `codec.safetensors`.
        device: "cpu", "cuda" or "cuda:N".
        dtype: "float32", "float16" or "bfloat16": the precision of the arithmetic. Mel
            spectrogram, nearest codes and inverse transform are always in float32.
        rows_per_run: rows of one call of the network; None takes 1 on a CPU and 8 on a GPU.

    On a GPU it works on a CUDA stream of its own, beside the language model's.

    Raises:
        ConfigError: the file is missing, or its tensors are not those of the configuration.
    """

    def __init__(
        self,
        config: CodecConfig,
        weights_path: Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        rows_per_run: int | None = None,
    ) -> None:
        self._config = config
        self._device = torch.device(device)
        self._rows = rows_per_run or (_CPU_ROWS if self._device.type == "cpu" else _GPU_ROWS)
        model = _load(XyParameters.from_dict(config.model), weights_path)
        self._model = model.to(self._device, getattr(torch, dtype)).eval()
        self._stream: torch.cuda.Stream | None = None
        if self._device.type == "cuda":
            # Beside the language model's, which has priority over it.
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            torch.cuda.synchronize(self._device)

    @property
    def config(self) -> CodecConfig:
        """Rates and limits."""
        return self._config

    def encode(self, samples: FloatArray) -> IntArray:
        """Turn audio into codes; see `Codec.encode`.

        Raises:
            VoiceError: the audio is not mono, or holds what is no finite number.
        """
        windows = split_clip(samples, self._config)
        return join_codes([self._encode_window(window) for window in windows], self._config)

    def decode(self, codes: IntArray) -> FloatArray:
        """Turn windows into samples; see `Codec.decode`.

        Raises:
            EngineError: the codes do not fit the codec, or the samples are not finite.
        """
        check_codes(codes, self._config)
        return check_samples(self._decode_all(codes))

    def close(self) -> None:
        """Nothing is held but memory, which goes with the object."""

    @torch.inference_mode()
    def _encode_window(self, window: ClipWindow) -> IntArray:
        with self._on_stream():
            samples = torch.from_numpy(window.samples)[None].to(self._device)
            num_samples = torch.tensor([window.num_samples], device=self._device)
            codes: IntArray = self._model.encode(samples, num_samples)[0].cpu().numpy()
        return codes[:, : window.num_frames]

    @torch.inference_mode()
    def _decode_all(self, codes: IntArray) -> FloatArray:
        """All groups are on their way to a GPU before the first is waited for."""
        num_rows = len(codes)
        missing = -num_rows % self._rows
        full = np.concatenate([codes, np.repeat(codes[-1:], missing, axis=0)])
        with self._on_stream():
            groups = torch.split(torch.from_numpy(full).to(self._device), self._rows)
            decoded = [self._model.decode(group) for group in groups]
            samples: FloatArray = torch.cat(decoded)[:num_rows].cpu().numpy()
        return samples

    def _on_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def _load(parameters: XyParameters, path: Path) -> XyTokenizer:
    if not path.is_file():
        raise ConfigError(f"codec weights {path} do not exist")
    model = XyTokenizer(parameters)
    try:
        model.load_state_dict(safetensors.torch.load_file(str(path)))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ConfigError(f"codec weights {path.name} do not fit: {error}") from error
    return model
