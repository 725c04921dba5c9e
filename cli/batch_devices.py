# SPDX-License-Identifier: Apache-2.0
"""A batch on several GPUs: one process each, the lines shared out among them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.cli.again import command_again
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
            share = f"{place}/{len(devices)}"
            command = [*command_again(ctx, _NOT_PASSED_ON), "--shard", share, "--result-lines"]
            process = subprocess.Popen(
                command,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": device.strip()},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                errors="replace",
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


def _listen(process: subprocess.Popen[str], inbox: queue.SimpleQueue[dict[str, Any] | int]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        # What libraries print stands between the results.
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                inbox.put(message)
    inbox.put(process.wait())


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
