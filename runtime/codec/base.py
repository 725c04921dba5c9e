# SPDX-License-Identifier: Apache-2.0
"""The door of the codec room: codes to samples and back."""

from __future__ import annotations

from typing import Protocol

from duologue.runtime.config import CodecConfig
from duologue.runtime.core import FloatArray, IntArray


class Codec(Protocol):
    """An audio codec of K codebooks. Stateless; may be called from several threads."""

    @property
    def config(self) -> CodecConfig:
        """Rates and limits."""
        ...

    def encode(self, samples: FloatArray) -> IntArray:
        """Turn audio into codes.

        Args:
            samples: mono [N] at `config.input_rate_hz`, any length.

        Returns:
            Aligned codes [K, N // input_samples_per_frame].
        """
        ...

    def decode(self, codes: IntArray) -> FloatArray:
        """Turn a batch of equally long windows into samples.

        A row's samples do not depend, bit for bit, on the other rows of the batch.

        Args:
            codes: [B, K, L], 1 <= L <= `config.max_frames`.

        Returns:
            Samples [B, L * samples_per_frame] at `config.sample_rate_hz`.
        """
        ...

    def close(self) -> None:
        """Give memory and threads back."""
        ...
