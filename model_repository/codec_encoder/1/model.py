# SPDX-License-Identifier: Apache-2.0
"""Samples to codes."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from duologue.runtime.serving.closing import bound_teardown
from duologue.runtime.serving.codec_models import CodecEncoderModel, load_model_codec


class TritonPythonModel:
    """A mailbox; the work is done in `duologue.runtime.serving`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load what the model needs; an exception makes Triton refuse it."""
        self._model = CodecEncoderModel(load_model_codec(args, pb_utils), pb_utils)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests."""
        return self._model.execute(requests)

    def finalize(self) -> None:
        """Let the codec go."""
        self._model.finalize()
        bound_teardown()
