# SPDX-License-Identifier: Apache-2.0
"""A gRPC server on loopback that plays tritonserver's part, by a plot that the test hands in."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from duologue.client import contract

FINAL = "triton_final_response"
RATE_HZ = 24_000
_DTYPES = {"INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP32": "<f4", "BOOL": "?"}


def put(message, spec, values):
    """Append one output tensor to a ModelInferResponse."""
    if spec.dtype == "BYTES":
        encoded = [str(value).encode() for value in values]
        data = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
        shape = [len(encoded)]
    else:
        array = np.asarray(values, dtype=_DTYPES[spec.dtype])
        data, shape = array.tobytes(), list(array.shape)
    message.outputs.add(name=spec.name, datatype=spec.dtype, shape=shape)
    message.raw_output_contents.append(data)


def chunk(index, *, is_last=False, final=False, size=4, without=None, stream_id="s-1"):
    """A response with one chunk whose samples all are the chunk's index."""
    values = {
        contract.PCM: np.full(size, index),
        contract.SAMPLE_RATE_HZ: [RATE_HZ],
        contract.CHUNK_IDX: [index],
        contract.FIRST_SAMPLE: [index * size],
        contract.TURN: [index // 2],
        contract.SPEAKER: [1 + index // 2 % 2],
        contract.TURN_TIMING: ["estimated"],
        contract.STREAM_ID: [stream_id],
        contract.SEED_USED: [7],
        contract.IS_LAST: [is_last],
    }
    if is_last:
        values[contract.FINISH_REASON] = ["stop"]
        values[contract.TURN_TIMES_S] = np.array([[0.0, 0.5], [0.5, 1.25]])
        values[contract.TURN_SPEAKERS] = [1, 2]
    response = service_pb2.ModelStreamInferResponse()
    for spec, value in values.items():
        if spec is not without:
            put(response.infer_response, spec, value)
    response.infer_response.parameters[FINAL].bool_param = final
    return response


def final():
    """An empty response with the final flag."""
    response = service_pb2.ModelStreamInferResponse()
    response.infer_response.parameters[FINAL].bool_param = True
    return response


def error(text):
    """An error response, as Triton puts it into a stream: without a code."""
    return service_pb2.ModelStreamInferResponse(error_message=text)


def read_inputs(request):
    """Input tensors of a request: name -> numpy array, or a list of str."""
    tensors = {}
    for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True):
        if tensor.datatype == "BYTES":
            texts = []
            while data:
                (length,) = struct.unpack_from("<I", data)
                texts.append(data[4 : 4 + length].decode())
                data = data[4 + length :]
            assert list(tensor.shape) == [len(texts)]
            tensors[tensor.name] = texts
        else:
            array = np.frombuffer(data, _DTYPES[tensor.datatype])
            tensors[tensor.name] = array.reshape(list(tensor.shape))
    return tensors


Plot = Callable[[dict, "FakeTriton"], Iterator[object]]


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves streams by a plot: a generator of responses for the inputs of a request.

    Attributes:
        requests: every ModelInferRequest of a script.
        metadata: of every stream.
        acks: (stream id, samples) in the order in which they came.
        cancelled: set when a client leaves a stream before the plot is over.
        release: a plot may wait for it.
    """

    def __init__(self, plot: Plot, *, rate_hz: int | None = RATE_HZ) -> None:
        self.plot = plot
        self.rate_hz = rate_hz
        self.ready = True
        self.requests = []
        self.metadata = []
        self.acks = []
        self.cancelled = threading.Event()
        self.release = threading.Event()
        self.num_running = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=40))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self.release.set()
        self._server.stop(grace=None).wait()

    def ModelReady(self, request, context):  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelConfig(self, request, context):  # noqa: N802
        if self.rate_hz is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted")
        response = service_pb2.ModelConfigResponse()
        response.config.parameters["sample_rate_hz"].string_value = str(self.rate_hz)
        return response

    def ModelStreamInfer(self, request_iterator, context):  # noqa: N802
        self.metadata.append(dict(context.invocation_metadata()))
        is_over = threading.Event()
        context.add_callback(lambda: None if is_over.is_set() else self.cancelled.set())
        for request in request_iterator:
            inputs = read_inputs(request)
            if contract.ACK_STREAM_ID.name in inputs:
                stream_id = inputs[contract.ACK_STREAM_ID.name][0]
                self.acks.append((stream_id, int(inputs[contract.ACK_SAMPLES.name][0])))
                is_over.set()
                yield final()
                continue
            self.requests.append(request)
            for response in self.plot(inputs, self):
                if isinstance(response, grpc.StatusCode):
                    is_over.set()
                    context.abort(response, "the plot wants it")
                yield response
            is_over.set()
