# SPDX-License-Identifier: Apache-2.0
"""GPUs: what the driver shows, and whether the installed torch can use them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence

from duologue.runtime.diagnosis.finding import Finding, fault, ok, warning

QUERY = ("name", "driver_version", "memory.total", "compute_cap")
FIRST_WITH_BFLOAT16 = (8, 0)
PROBE_TIMEOUT_S = 60.0
_TORCH_PROBE = (
    "import torch; print(torch.__version__, torch.version.cuda or 'none', "
    "torch.cuda.is_available(), torch.cuda.device_count() if torch.cuda.is_available() else 0)"
)

Ask = Callable[[Sequence[str]], str | None]


def ask(command: Sequence[str]) -> str | None:
    """What a command prints, or None when it is not there, fails, or takes too long."""
    if shutil.which(command[0]) is None:
        return None
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def check_gpus(ask: Ask = ask) -> list[Finding]:
    """One line per GPU, and one for torch where there is a GPU.

    Args:
        ask: runs a command.
    """
    query = f"--query-gpu={','.join(QUERY)}"
    answer = ask(["nvidia-smi", query, "--format=csv,noheader,nounits"])
    if not answer:
        return [ok("GPU", "none: the embedded server runs on the CPU")]
    findings = [_judge(line) for line in answer.splitlines()]
    return [*findings, _check_torch(ask)]


def _judge(line: str) -> Finding:
    values = [value.strip() for value in line.split(",")]
    if len(values) != len(QUERY):
        return warning("GPU", line, "nvidia-smi answers in a way that is not known")
    name, driver, memory, capability = values
    numbers = tuple(int(part) for part in capability.split(".") if part.isdecimal())
    found = f"{name}, {memory} MiB, driver {driver}, compute capability {capability}"
    if numbers < FIRST_WITH_BFLOAT16:
        return warning(
            "GPU",
            f"{found}: no bfloat16",
            "float16 is taken instead; build with --dtype fp16. TensorRT-LLM does not run on it",
        )
    return ok("GPU", f"{found}, bfloat16")


def _check_torch(ask: Ask) -> Finding:
    if importlib.util.find_spec("torch") is None:
        return fault("torch", "not installed", "pip install 'duologue[gpu]'")
    answer = ask([sys.executable, "-c", _TORCH_PROBE])
    if answer is None:
        return fault(
            "torch",
            f"its import fails or takes more than {PROBE_TIMEOUT_S:.0f} s",
            "reinstall it for this driver's CUDA",
        )
    version, cuda, available, count = answer.split()[-4:]
    found = f"{version}, CUDA {cuda}, sees {count} GPUs"
    if available != "True":
        remedy = "install a torch built for this driver's CUDA; this one runs on the CPU"
        return fault("torch", found, remedy)
    return ok("torch", found)
