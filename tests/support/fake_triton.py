"""A stand-in for Triton's Python backend that is stricter than the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.client.contract import TensorSpec

FINAL = 1
LOG_LEVELS = ("log_error", "log_warn", "log_info")
DTYPES = {"BYTES": np.object_, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64}
DTYPES |= {"FP32": np.float32, "BOOL": np.bool_}


class Tensor:
    def __init__(self, name: str, values: npt.NDArray[Any]) -> None:
        assert values.flags["C_CONTIGUOUS"], f"{name} is not contiguous"
        self._name, self._values = name, values

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> npt.NDArray[Any]:
        return self._values


@dataclass
class TritonError:
    text: str
    error_code: str = "UNKNOWN"

    INVALID_ARG = "INVALID_ARG"
    UNAVAILABLE = "UNAVAILABLE"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"

    def message(self) -> str:
        return self.text

    def code(self) -> str:
        return self.error_code


class TritonModelException(Exception):  # noqa: N818 - Triton's name
    pass


@dataclass
class InferenceResponse:
    tensors: list[Tensor] = field(default_factory=list)
    failure: TritonError | None = None

    def output_tensors(self) -> list[Tensor]:
        return self.tensors

    def has_error(self) -> bool:
        return self.failure is not None

    def error(self) -> TritonError:
        assert self.failure is not None
        return self.failure


class Sender:
    """Records what was sent; refuses whatever a real server would crash on."""

    def __init__(self) -> None:
        self.responses: list[InferenceResponse | None] = []
        self.flags: list[int] = []
        self.ended = threading.Event()
        self.started = threading.Event()
        self.cancelled = False
        self.broken = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        assert not self.ended.is_set(), "a response after the final one"
        if self.broken and not flags:
            raise TritonModelException("the connection broke")
        self.responses.append(response)
        self.flags.append(flags)
        self.started.set()
        if flags & FINAL:
            self.ended.set()

    def is_cancelled(self) -> bool:
        assert not self.ended.is_set(), "asked for a request that was let go"
        return self.cancelled

    def wait(self) -> Sender:
        assert self.ended.wait(60), "no final response"
        assert sum(flag & FINAL for flag in self.flags) == 1
        return self

    @property
    def data(self) -> list[InferenceResponse]:
        return [r for r in self.responses if r is not None and not r.has_error()]

    @property
    def error(self) -> str | None:
        """Text of the error, which must have come with the final flag."""
        errors = [r for r in self.responses if r is not None and r.has_error()]
        if not errors:
            return None
        assert errors == [self.responses[-1]], "an error is the last response and the only one"
        return errors[0].error().message()


class Request:
    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = list(tensors)
        self.sender = Sender()

    def inputs(self) -> list[Tensor]:
        return self._tensors

    def get_response_sender(self) -> Sender:
        return self.sender


def tensor(spec: TensorSpec, values: Any) -> Tensor:
    """A tensor as the contract has it; text may be given as str."""
    if spec.dtype == "BYTES":
        raw = [value.encode() if isinstance(value, str) else value for value in values]
        array = np.empty(len(raw), dtype=np.object_)
        array[:] = raw
        return Tensor(spec.name, array)
    return Tensor(spec.name, np.asarray(values, dtype=DTYPES[spec.dtype]))


def request(*pairs: tuple[TensorSpec, Any]) -> Request:
    return Request(tensor(spec, values) for spec, values in pairs)


@dataclass
class Metric:
    labels: dict[str, str]
    buckets: list[float] | None = None
    value: float = 0
    observed: list[float] = field(default_factory=list)

    def increment(self, by: float) -> None:
        self.value += by

    def set(self, value: float) -> None:
        self.value = value

    def observe(self, value: float) -> None:
        self.observed.append(value)


def metric_family_class(metrics: dict[str, list[Metric]]) -> type:
    class MetricFamily:
        COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

        def __init__(self, name: str, description: str, kind: str) -> None:
            assert name not in metrics, "a family that exists already"
            self.members = metrics.setdefault(name, [])

        def Metric(self, labels: dict[str, str], buckets: Any = None) -> Metric:  # noqa: N802
            self.members.append(Metric(labels, buckets))
            return self.members[-1]

    return MetricFamily


Handler = Callable[[dict[str, npt.NDArray[Any]]], list[InferenceResponse]]


class FakeTriton:
    """Stands in for the module `triton_python_backend_utils`; `models` answer calls."""

    TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
    TRITONSERVER_MEMORY_CPU = 0
    Tensor = Tensor
    TritonError = TritonError
    TritonModelException = TritonModelException
    InferenceResponse = InferenceResponse

    def __init__(self) -> None:
        self.models: dict[str, Handler] = {}
        self.metrics: dict[str, list[Metric]] = {}
        self.log: list[str] = []
        self.MetricFamily = metric_family_class(self.metrics)
        self.Logger = type("Logger", (), dict.fromkeys(LOG_LEVELS, staticmethod(self.log.append)))
        self.calls: list[tuple[str, dict[str, npt.NDArray[Any]]]] = []

    @staticmethod
    def PreferredMemory(*place: int) -> tuple[int, ...]:  # noqa: N802
        return place

    @staticmethod
    def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
        return next((t for t in response.tensors if t.name() == name), None)

    def InferenceRequest(  # noqa: N802
        self,
        model_name: str,
        inputs: list[Tensor],
        requested_output_names: list[str],
        preferred_memory: Any = None,
    ) -> Call:
        return Call(self, model_name, {t.name(): t.as_numpy() for t in inputs})

    def value(self, family: str, **labels: str) -> float:
        return sum(m.value for m in self.metrics[family] if m.labels == labels)


@dataclass
class Call:
    """A call between models."""

    triton: FakeTriton
    model: str
    inputs: dict[str, npt.NDArray[Any]]

    def exec(self, decoupled: bool = False) -> Any:
        self.triton.calls.append((self.model, self.inputs))
        responses = self.triton.models[self.model](self.inputs)
        if decoupled:
            return iter(responses)
        (response,) = responses
        return response


def model_args(decoupled: bool = False, kind: str = "CPU", **parameters: str) -> dict[str, str]:
    """What Triton hands to `initialize`."""
    config = {
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
        "model_transaction_policy": {"decoupled": decoupled},
    }
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": kind,
        "model_instance_device_id": "1",
    }


def arrays(responses: Iterable[InferenceResponse]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Responses as name -> values."""
    for response in responses:
        yield {t.name(): t.as_numpy() for t in response.output_tensors()}
