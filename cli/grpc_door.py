# SPDX-License-Identifier: Apache-2.0
"""Whether gRPC may be opened to other machines."""

from __future__ import annotations

import os
from collections.abc import Mapping


def why_no_grpc_door(environment: Mapping[str, str] | None = None) -> str | None:
    """The reason why the gRPC of this machine's Triton must stay on loopback, or None.

    Args:
        environment: whose variables tell of an NVIDIA image; None takes the process's own.
    """
    from duologue.runtime.diagnosis.machine import EMBEDDED_VERSION, SECURITY_FLOOR
    from duologue.runtime.supervisor.triton_install import IMAGE_VERSION, find_triton

    values = os.environ if environment is None else environment
    triton = find_triton(values)
    is_image = triton is not None and triton.is_image
    version = values[IMAGE_VERSION] if is_image else EMBEDDED_VERSION
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers >= SECURITY_FLOOR:
        return None
    floor = f"{SECURITY_FLOOR[0]}.{SECURITY_FLOOR[1]:02}"
    return (
        f"gRPC stays on loopback: the Triton here is {version}, below the security floor {floor}. "
        "Other machines come in over HTTP (--host); or serve from an NVIDIA image of "
        f"{floor} or newer"
    )
