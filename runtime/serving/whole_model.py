# SPDX-License-Identifier: Apache-2.0
"""The model `dialogue_decoder`: a whole dialogue in one response, gathered from `dialogue_tts`.

It holds no engine. It is not decoupled, so that plain inference calls reach it, directly and
through the ensemble; its responses still go out from threads, so requests do not queue up
behind each other.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.client import contract
from duologue.runtime.errors import CapacityError, EngineError, parse_error
from duologue.runtime.serving.closing import closing, join_all
from duologue.runtime.serving.sink import ResponseSink
from duologue.runtime.serving.triton import PbUtils, Request, Tensor

# Each request holds a thread and a call between models.
MAX_REQUESTS = 64


class WholeDialogueModel:
    """Forwards each request to the streaming model and joins the chunks."""

    def __init__(self, pb_utils: PbUtils) -> None:
        """Open the mailbox.

        Args:
            pb_utils: Triton's module.
        """
        self._pb_utils = pb_utils
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def execute(self, requests: Sequence[Request]) -> None:
        """Take requests in; each is answered from a thread of its own."""
        for request in requests:
            sink = ResponseSink(request.get_response_sender(), self._pb_utils)
            with self._lock:
                num_open = len(self._threads)
                thread = threading.Thread(
                    target=self._serve, args=(request, sink), name="whole", daemon=True
                )
                if num_open < MAX_REQUESTS:
                    self._threads.add(thread)
            if num_open < MAX_REQUESTS:
                thread.start()
            else:
                sink.fail(CapacityError(f"{num_open} requests are open already; try later"))

    def finalize(self) -> None:
        """Wait for the last responses."""
        with self._lock:
            threads = list(self._threads)
        state = f"{len(threads)} request threads are open"
        with closing(contract.WHOLE_MODEL, state, self._pb_utils):
            join_all(threads)

    def _serve(self, request: Request, sink: ResponseSink) -> None:
        try:
            sink.finish_with(self._gather(request))
        except Exception as error:  # the door: whatever it is, the caller hears of it
            sink.fail(error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _gather(self, request: Request) -> list[Tensor]:
        """Run one request through the streaming model; gives the tensors of the whole."""
        forwarded = self._pb_utils.InferenceRequest(
            model_name=contract.STREAMING_MODEL,
            inputs=request.inputs(),
            requested_output_names=[spec.name for spec in contract.WHOLE_RESPONSE_TENSORS],
        )
        pieces: list[npt.NDArray[Any]] = []
        last: dict[str, npt.NDArray[Any]] = {}
        # To the end in any case: an iterator left early keeps the server from stopping.
        failure: str | None = None
        for response in forwarded.exec(decoupled=True):
            if response.has_error():
                failure = response.error().message()
                continue
            arrays = {t.name(): np.array(t.as_numpy()) for t in response.output_tensors()}
            if contract.PCM.name in arrays:
                pieces.append(arrays[contract.PCM.name])
                last = arrays
        if failure is not None:
            raise parse_error(failure)
        if contract.FINISH_REASON.name not in last:
            raise EngineError(f"{contract.STREAMING_MODEL} ended without its last chunk")
        last[contract.PCM.name] = np.concatenate(pieces)
        names = [spec.name for spec in contract.WHOLE_RESPONSE_TENSORS]
        return [self._pb_utils.Tensor(name, last[name]) for name in names]
