"""The streaming door without our client: what comes over the wire, response by response."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton

from duologue.client import contract
from duologue.client.contract import TensorSpec

DTYPES = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32}


def tensor(spec: TensorSpec, values: Any) -> triton.InferInput:
    if spec.dtype == "BYTES":
        raw = [value.encode() if isinstance(value, str) else value for value in values]
        array = np.empty(len(raw), dtype=np.object_)
        array[:] = raw
    else:
        array = np.asarray(values, dtype=DTYPES[spec.dtype])
    made = triton.InferInput(spec.name, list(array.shape), spec.dtype)
    made.set_data_from_numpy(array)
    return made


def values(result: triton.InferResult) -> dict[str, Any]:
    """One response as name -> values."""
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def is_final(result: triton.InferResult) -> bool:
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


class RawStream:
    """One request on a gRPC stream of its own."""

    def __init__(self, url: str, *inputs: Any, model: str = contract.STREAMING_MODEL) -> None:
        self._client = triton.InferenceServerClient(url)
        self._has_ended = False
        self._inbox: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self._client.start_stream(lambda result, error: self._inbox.put((result, error)))
        made = [i if isinstance(i, triton.InferInput) else tensor(*i) for i in inputs]
        self.sent_at_s = time.monotonic()
        self._client.async_stream_infer(model, made, enable_empty_final_response=True)

    def next(self, timeout_s: float = 30.0) -> tuple[Any, str | None]:
        """The next response, or the text of the error."""
        result, error = self._inbox.get(timeout=timeout_s)
        self._has_ended = error is not None or is_final(result)
        return result, None if error is None else str(error.message())

    def __iter__(self) -> Iterator[Any]:
        """Responses up to the final one; an error fails."""
        while True:
            result, error = self.next()
            assert error is None, error
            yield result
            if is_final(result):
                return

    def error(self, timeout_s: float = 30.0) -> str:
        """Text of the error that must come as the first response."""
        result, error = self.next(timeout_s)
        assert error is not None, f"no error but {values(result)}"
        return error

    def nothing_follows(self, patience_s: float = 0.2) -> bool:
        try:
            self._inbox.get(timeout=patience_s)
        except queue.Empty:
            return True
        return False

    def arrived_error(self) -> str | None:
        """Text of an error among what has come so far, without waiting."""
        error = None
        while not self._inbox.empty():
            error = self.next()[1] or error
        return error

    def close(self) -> None:
        """End the connection, and with it the request.

        A cancel that crosses the final response keeps Triton 2.51 from stopping cleanly, so a
        request that has ended is not cancelled.
        """
        self.arrived_error()
        self._client.stop_stream(cancel_requests=not self._has_ended)
        self._client.close()

    def __enter__(self) -> RawStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pcm_of(url: str, script: str, *pairs: Any) -> np.ndarray[Any, Any]:
    """All audio of one request."""
    with RawStream(url, (contract.SCRIPT, [script]), *pairs) as stream:
        data = [values(result) for result in stream]
    assert data.pop() == {}, "the final response is empty"
    return np.concatenate([response["PCM"] for response in data])
