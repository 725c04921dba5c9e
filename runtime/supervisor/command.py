# SPDX-License-Identifier: Apache-2.0
"""The command line and environment of one tritonserver."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from duologue.runtime.errors import ConfigError
from duologue.runtime.supervisor.layout import Workspace
from duologue.runtime.supervisor.triton_install import TritonInstall, libpython_dir

MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where a server listens and how it leaves.

    Attributes:
        host: address of every port. Triton has no authentication: keep it on the loopback.
        grpc_port: port of the gRPC door.
        http_port: port of the HTTP door; None keeps it closed.
        metrics_port: port of the Prometheus metrics; None keeps it closed.
        cache_bytes: size of Triton's response cache for models that opt in; 0 means none.
        exit_timeout_s: how long a stopping server waits for running requests.
        extra_repositories: further model repositories, served as they are.
    """

    grpc_port: int
    host: str = "127.0.0.1"
    http_port: int | None = None
    metrics_port: int | None = None
    cache_bytes: int = 0
    exit_timeout_s: int = 10
    extra_repositories: tuple[Path, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        for name in ("grpc_port", "http_port", "metrics_port"):
            port = getattr(self, name)
            if port is not None and not 0 < port <= MAX_PORT:
                raise ConfigError(f"{name} is {port}; allowed: 1 to {MAX_PORT}")


def server_command(
    wheel: TritonInstall, workspace: Workspace, options: ServerOptions, shm_prefix: str
) -> list[str]:
    """The command line of tritonserver.

    Args:
        wheel: supplies the binary and the cache implementation.
        workspace: supplies repository and backends.
        options: ports and limits.
        shm_prefix: begins the names of all shared memory regions of this server.
    """
    command = [
        str(wheel.binary),
        f"--model-repository={workspace.repository}",
        *(f"--model-repository={path}" for path in options.extra_repositories),
        f"--backend-directory={workspace.backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        "--model-control-mode=none",
        "--strict-readiness=true",
        "--disable-auto-complete-config",
        f"--exit-timeout-secs={options.exit_timeout_s}",
        "--log-verbose=0",
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        # The default of two hours lets the state of a vanished client stay for as long.
        "--grpc-keepalive-time=10000",
        "--allow-gpu-metrics=false",
    ]
    command += _door("http", options.http_port, options.host)
    command += _door("metrics", options.metrics_port, options.host)
    if options.cache_bytes > 0:
        command.append(f"--cache-directory={wheel.caches_dir}")
        command.append(f"--cache-config=local,size={options.cache_bytes}")
    return command


def _door(name: str, port: int | None, host: str) -> list[str]:
    if port is None:
        return [f"--allow-{name}=false"]
    return [f"--allow-{name}=true", f"--{name}-address={host}", f"--{name}-port={port}"]


def server_environment(wheel: TritonInstall, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which tritonserver finds this interpreter and its libraries.

    Args:
        wheel: supplies the shared libraries.
        environment: what to start from, e.g. `os.environ`.

    Returns:
        A copy in which the Python of this environment is the first on PATH: the model
        processes take their packages from it. Both library folders come first, too.
    """
    bin_dir = str(Path(sys.executable).parent)
    libraries = [str(libpython_dir()), str(wheel.libs_dir)]
    return {
        **environment,
        "PATH": os.pathsep.join([bin_dir, environment.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(
            [*libraries, *filter(None, [environment.get("LD_LIBRARY_PATH")])]
        ),
    }
