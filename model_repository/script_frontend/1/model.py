# SPDX-License-Identifier: Apache-2.0
"""A script in any notation to the model's own."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils

from duologue.runtime.serving.frontend_model import ScriptFrontendModel


class TritonPythonModel:
    """A mailbox; the work is done in `duologue.runtime.serving`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load what the model needs; an exception makes Triton refuse it."""
        self._model = ScriptFrontendModel(args, pb_utils)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests."""
        return self._model.execute(requests)
