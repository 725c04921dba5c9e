# SPDX-License-Identifier: Apache-2.0
"""The codec on torch: the reference that the other engines are held to.

Every call of the network sees exactly `rows_per_run` rows; a group that is short is filled up
with copies of its last row. With one row per call, the default on a CPU, a row's samples cannot
depend on its neighbours. With more, shapes are still the same whatever the batch, but the
arithmetic must also treat every place in the batch alike: that does not hold on a CPU (measured:
the last bits differ), and on a GPU it has to be measured before it is relied upon.
"""

from __future__ import annotations

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
        groups = [codes[i : i + self._rows] for i in range(0, len(codes), self._rows)]
        return check_samples(np.concatenate([self._decode_group(group) for group in groups]))

    def close(self) -> None:
        """Nothing is held but memory, which goes with the object."""

    @torch.inference_mode()
    def _encode_window(self, window: ClipWindow) -> IntArray:
        samples = torch.from_numpy(window.samples)[None].to(self._device)
        num_samples = torch.tensor([window.num_samples], device=self._device)
        codes: IntArray = self._model.encode(samples, num_samples)[0].cpu().numpy()
        return codes[:, : window.num_frames]

    @torch.inference_mode()
    def _decode_group(self, codes: IntArray) -> FloatArray:
        missing = self._rows - len(codes)
        full = np.concatenate([codes, np.repeat(codes[-1:], missing, axis=0)])
        samples: FloatArray = (
            self._model.decode(torch.from_numpy(full).to(self._device)).cpu().numpy()
        )
        return samples[: len(codes)]


def _load(parameters: XyParameters, path: Path) -> XyTokenizer:
    if not path.is_file():
        raise ConfigError(f"codec weights {path} do not exist")
    model = XyTokenizer(parameters)
    try:
        model.load_state_dict(safetensors.torch.load_file(str(path)))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ConfigError(f"codec weights {path.name} do not fit: {error}") from error
    return model
