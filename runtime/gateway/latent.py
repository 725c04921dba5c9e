# SPDX-License-Identifier: Apache-2.0
"""Voice latents of MegaTTS3: NumPy files of strangers, looked at without being trusted.

No bundle of today has a use for them. A file is read all the same before that is said, so that
whoever sends a broken one hears of that first.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from duologue.client.errors import VoiceError
from duologue.runtime.gateway.faults import UnsupportedError

MAX_LATENT_BYTES = 20_000_000
# What MegaTTS3's encoder makes: [1, T, 32].
LATENT_CHANNELS = 32
_MAX_HEADER_BYTES = 10_000
# NumPy's own types do not know these functions.
_FORMAT: Any = np.lib.format


def check_latent(data: bytes) -> int:
    """Hold a file to what a latent is, without ever unpickling.

    Args:
        data: of a `.npy` file.

    Returns:
        Its frames T.

    Raises:
        VoiceError: it is no such file.
    """
    if len(data) > MAX_LATENT_BYTES:
        raise VoiceError(f"voice_latent is too large; allowed: {MAX_LATENT_BYTES} bytes")
    file = io.BytesIO(data)
    try:
        version = _FORMAT.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, _, dtype = _FORMAT.read_array_header_1_0(file, max_header_size=_MAX_HEADER_BYTES)
    except (ValueError, EOFError, SyntaxError, RecursionError, MemoryError) as error:
        raise VoiceError("voice_latent is no .npy file of version 1.0") from error
    if dtype != np.dtype("<f4"):
        raise VoiceError(f"voice_latent holds {str(dtype)[:40]}; allowed: float32, nothing pickled")
    if len(shape) != 3 or shape[0] != 1 or shape[1] < 1 or shape[2] != LATENT_CHANNELS:
        raise VoiceError(f"voice_latent has the shape {str(shape)[:60]}; allowed: (1, T, 32)")
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise VoiceError("voice_latent is not as long as its header says")
    return int(shape[1])


def refuse_latent(data: bytes) -> None:
    """Read a latent and say why it is not used.

    Raises:
        VoiceError: it is none.
        UnsupportedError: it is one.
    """
    frames = check_latent(data)
    raise UnsupportedError(
        f"voice_latent holds {frames} frames for MegaTTS3; this model makes a voice from "
        "voice_file alone and has no use for them: leave voice_latent out",
        "voice_latent",
    )
