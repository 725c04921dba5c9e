# SPDX-License-Identifier: Apache-2.0
"""Opening and running an onnxruntime session on a CPU, with arrays bound in place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from duologue.runtime.backbone.large_pages import on_large_pages
from duologue.runtime.errors import ConfigError, EngineError

MAX_THREADS = 16
# onnxruntime's own errors have no common base.
_OPEN_ERRORS = (
    RuntimeError,
    MemoryError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)
_RUN_ERRORS = (
    RuntimeError,
    MemoryError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.RuntimeException,
)

Arrays = Mapping[str, npt.NDArray[Any]]


class OnnxSession:
    """A graph whose inputs and outputs are numpy arrays; outputs are written where they lie.

    Args:
        graph_path: the graph; files that it points into lie beside it.
        num_threads: of one run; None takes `default_num_threads`.

    Raises:
        ConfigError: the graph is missing or cannot be loaded.
    """

    def __init__(self, graph_path: Path, num_threads: int | None = None) -> None:
        if not graph_path.is_file():
            raise ConfigError(f"{graph_path} is missing")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or default_num_threads()
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Idle threads sleep: the codec and the server need the cores between two steps.
        # Spinning within a step only (`session.force_spinning_stop`) pays on idle cores alone: with
        # work on one of two, a step took 2.6 ms of processor time instead of 1.7, and longer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            with on_large_pages():
                self._session = onnxruntime.InferenceSession(
                    str(graph_path), options, providers=["CPUExecutionProvider"]
                )
        except _OPEN_ERRORS as error:
            raise ConfigError(f"{graph_path} cannot be loaded: {error}") from error

    def bind(self, inputs: Arrays, outputs: Arrays) -> BoundRun:
        """Tie arrays to the graph, for one run or for many; one array may be both.

        Binding costs as much as several nodes of a small graph, so what runs often is bound once
        and its arrays are filled anew.
        """
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return BoundRun(self._session, binding, (inputs, outputs))


@dataclass(frozen=True, slots=True, eq=False)
class BoundRun:
    """A session with arrays tied to it.

    Attributes:
        session, binding: onnxruntime's.
        arrays: whatever must live as long as the binding, which knows addresses only.
    """

    session: onnxruntime.InferenceSession
    binding: Any
    arrays: tuple[Arrays, Arrays]

    def run(self) -> None:
        """Compute the outputs into the arrays that are bound.

        Raises:
            EngineError: onnxruntime failed.
        """
        try:
            self.session.run_with_iobinding(self.binding)
        except _RUN_ERRORS as error:
            raise EngineError(f"onnxruntime failed: {error}") from error


def default_num_threads() -> int:
    """Cores that this process may use, at most 16: a step gains little from more."""
    has_affinity = hasattr(os, "sched_getaffinity")
    available = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(MAX_THREADS, available)
