# SPDX-License-Identifier: Apache-2.0
"""The model `script_frontend`: a script in any notation to the model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from duologue.client import contract
from duologue.models import resolve_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.errors import DuologueError, RequestError
from duologue.runtime.serving.errors import error_response, load_failure
from duologue.runtime.serving.tensors import RequestTensors
from duologue.runtime.serving.triton import (
    ModelSettings,
    PbUtils,
    Request,
    Response,
    text_tensor,
)
from duologue.runtime.text.script import parse_script


class ScriptFrontendModel:
    """Checks scripts and writes them as `[S1]...[S2]...`."""

    def __init__(self, args: Mapping[str, str], pb_utils: PbUtils) -> None:
        """Read the limits of the bundle that the model's config names.

        Args:
            args: as Triton hands them to `initialize`.
            pb_utils: Triton's module.

        Raises:
            pb_utils.TritonModelException: the bundle cannot be read.
        """
        self._pb_utils = pb_utils
        try:
            settings = ModelSettings.from_args(args)
            bundle = Bundle.load(resolve_bundle(settings.bundle))
        except DuologueError as error:
            raise load_failure(error, pb_utils) from error
        self._max_speakers = bundle.prompt.max_speakers
        self._max_bytes = bundle.limits.max_script_bytes

    def execute(self, requests: Sequence[Request]) -> list[Response]:
        """Read each request's script."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        try:
            text = RequestTensors(request).text(contract.SCRIPT)
            if text is None:
                raise RequestError("SCRIPT is missing; allowed: one string")
            script = parse_script(text, max_speakers=self._max_speakers, max_bytes=self._max_bytes)
        except Exception as error:  # the door: becomes an error response
            return error_response(error, self._pb_utils)
        tensor = text_tensor(self._pb_utils, contract.SCRIPT.name, script.canonical)
        return self._pb_utils.InferenceResponse([tensor])
