# SPDX-License-Identifier: Apache-2.0
"""A batch on several GPUs: one process each, the lines shared out among them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.runtime.errors import EngineError

if TYPE_CHECKING:
    import typer

    from duologue.runtime.batch.options import ItemResult

_NOT_PASSED_ON = ("devices", "shard", "result_lines", "as_json")


def run_on_devices(
    devices: list[str], ctx: typer.Context, output_dir: Path
) -> Iterator[ItemResult]:
    """Run this command once per device, each on its share of the lines.

    Args:
        devices: as CUDA numbers them.
        ctx: of the command line that is shared out.
        output_dir: holds a log per process.

    Yields:
        Results of all processes, as they come.

    Raises:
        EngineError: a process ended without finishing its share; says where its log is.
    """
    from duologue.runtime.batch.options import ItemResult

    output_dir.mkdir(parents=True, exist_ok=True)
    inbox: queue.SimpleQueue[dict[str, Any] | int] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        processes = []
        for place, device in enumerate(devices):
            log = stack.enter_context((output_dir / f".device{place}.log").open("w"))
            command = _command(ctx, f"{place}/{len(devices)}")
            process = subprocess.Popen(
                command,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": device.strip()},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            stack.callback(_end, process)
            processes.append(process)
            threading.Thread(target=_listen, args=(process, inbox), daemon=True).start()
        running = len(processes)
        while running:
            message = inbox.get()
            if isinstance(message, int):
                running -= 1
                if message != 0:
                    raise EngineError(
                        f"a process ended with status {message}; see {output_dir}/.device*.log"
                    )
            else:
                yield ItemResult(**message)


def _command(ctx: typer.Context, shard: str) -> list[str]:
    """This command line again, for one share."""
    command = [sys.executable, "-m", "duologue.cli", "batch"]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if parameter.name in _NOT_PASSED_ON or value is None or value is False:
            continue
        name = next(option for option in parameter.opts if option.startswith("--"))
        if value is True:
            command.append(name)
        else:
            command += [name, str(value.value if isinstance(value, Enum) else value)]
    return [*command, "--shard", shard, "--result-lines"]


def _listen(process: subprocess.Popen[str], inbox: queue.SimpleQueue[dict[str, Any] | int]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            inbox.put(json.loads(line))
    inbox.put(process.wait())


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
