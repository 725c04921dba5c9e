# SPDX-License-Identifier: Apache-2.0
"""Sends the responses of one request and sees to it that exactly one of them is final."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from duologue.runtime.serving.errors import error_response
from duologue.runtime.serving.triton import PbUtils, ResponseSender, Tensor


class ResponseSink:
    """The way back to one caller. Whatever comes after the end is dropped.

    Triton raises on a response after the final flag, and a server never stops when a request
    has none.
    """

    def __init__(self, sender: ResponseSender, pb_utils: PbUtils) -> None:
        self._sender = sender
        self._pb_utils = pb_utils
        self._lock = threading.Lock()
        self._is_closed = False

    def is_cancelled(self) -> bool:
        """Whether the caller cancelled or went away (a round trip to the server process).

        False after the end: Triton has let go of the request by then and must not be asked.
        """
        with self._lock:
            return not self._is_closed and self._sender.is_cancelled()

    def send(self, tensors: Sequence[Tensor]) -> None:
        """Send a response that others follow."""
        response = self._pb_utils.InferenceResponse(list(tensors))
        with self._lock:
            if not self._is_closed:
                self._sender.send(response)

    def finish(self) -> None:
        """End well: one empty response with the final flag."""
        with self._lock:
            if self._close():
                self._sender.send(flags=self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def finish_with(self, tensors: Sequence[Tensor]) -> None:
        """End well with one response that carries the final flag, for models that send one."""
        response = self._pb_utils.InferenceResponse(list(tensors))
        self._send_final(response)

    def fail(self, error: Exception) -> None:
        """End with an error; the final flag goes with it, never after it."""
        self._send_final(error_response(error, self._pb_utils))

    def _send_final(self, response: object) -> None:
        with self._lock:
            if self._close():
                final = self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
                self._sender.send(response, flags=final)

    def _close(self) -> bool:
        """Whether the end is still to be sent; from here on it counts as sent."""
        was_open = not self._is_closed
        self._is_closed = True
        return was_open
