# SPDX-License-Identifier: Apache-2.0
"""The streaming door."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from duologue.runtime.serving.closing import bound_teardown
from duologue.runtime.serving.dialogue_model import load_dialogue_model


class TritonPythonModel:
    """A mailbox; the work is done in `duologue.runtime.serving`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load what the model needs; an exception makes Triton refuse it."""
        self._model = load_dialogue_model(args, pb_utils)

    def execute(self, requests: list[Any]) -> None:
        """Take requests in; the answers follow from other threads."""
        self._model.execute(requests)

    def finalize(self) -> None:
        """Answer what is still open and let go of everything."""
        self._model.finalize()
        bound_teardown()
