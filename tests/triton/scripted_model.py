"""Runs inside tritonserver: the serving room in front of the scripted synthesizer."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any, cast

import triton_python_backend_utils as pb_utils

from duologue.runtime.serving.dialogue_model import DialogueModel


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        sys.path.insert(0, parameters["support"]["string_value"])
        from scripted_synthesizer import ScriptedSynthesizer

        synthesizer = cast(Any, ScriptedSynthesizer())
        if "hangs_at_its_end" in parameters:
            synthesizer.close = threading.Event().wait
        self._model = DialogueModel(synthesizer, pb_utils, args["model_name"])

    def execute(self, requests: list[Any]) -> None:
        self._model.execute(requests)

    def finalize(self) -> None:
        self._model.finalize()
