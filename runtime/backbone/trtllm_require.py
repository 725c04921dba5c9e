# SPDX-License-Identifier: Apache-2.0
"""Whether TensorRT-LLM is installed in a version that still builds and runs engines.

Its engine workflow came to know Qwen3 in 1.0 and was removed after 1.2; the question is answered
without importing it, which takes long and starts MPI.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

from duologue.runtime.errors import EngineUnavailableError

FIRST = (1, 0)
END = (1, 3)
IMAGE = "tritonserver:25.12-trtllm-python-py3 (TensorRT-LLM 1.2.1)"
WANTED = "tensorrt_llm>=1.0,<1.3"
INSTALL_HINT = (
    f"pip install 'duologue[trtllm]' on a machine with an NVIDIA GPU and Open MPI, or NVIDIA's "
    f"image {IMAGE}"
)


def require_tensorrt_llm() -> str:
    """The installed version.

    Raises:
        EngineUnavailableError: it is missing or of another version; says what to install.
    """
    if importlib.util.find_spec("tensorrt_llm") is None:
        raise EngineUnavailableError(
            f"engine trtllm needs {WANTED}, which is not installed: {INSTALL_HINT}"
        )
    version = _version()
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or not FIRST <= (int(found[1]), int(found[2])) < END:
        raise EngineUnavailableError(
            f"engine trtllm needs {WANTED}, but {version} is installed (later versions build no "
            f"engines, earlier ones do not know Qwen3): {INSTALL_HINT}"
        )
    return version


def _version() -> str:
    try:
        return importlib.metadata.version("tensorrt_llm")
    except importlib.metadata.PackageNotFoundError:
        return "an unknown version"
