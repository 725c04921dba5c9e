# SPDX-License-Identifier: Apache-2.0
"""`duologue doctor`: what is right and wrong on this machine, and what to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duologue.cli.errors import reports_errors
from duologue.cli.options import BundleOption, EngineChoice, EngineOption, JsonOption

if TYPE_CHECKING:
    from duologue.runtime.diagnosis.finding import Finding

LockOption = Annotated[
    Path | None,
    typer.Option("--lock", metavar="FILE", help="Compare packages with `name==version` lines."),
]
SelftestOption = Annotated[
    bool,
    typer.Option("--selftest", help="Try a running server: speak, two at a time, cancel."),
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="HOST:PORT", help="Its gRPC door, for --selftest."),
]
ImportTimeoutOption = Annotated[
    float,
    typer.Option("--import-timeout-s", min=1, help="For the import of tensorrt_llm, each way."),
]
QuietOption = Annotated[bool, typer.Option("--no-speech", help="Leave out the second of speech.")]
_PORTS = (("gRPC", 8001), ("HTTP", 9000), ("metrics", 9090))
_SIGNS = ("[green]ok[/]     ", "[yellow]warning[/]", "[red]fault[/]  ")


@reports_errors
def doctor(
    ctx: typer.Context,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    lock: LockOption = None,
    selftest: SelftestOption = False,
    server: ServerOption = None,
    import_timeout_s: ImportTimeoutOption = 60.0,
    no_speech: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Look at this machine; the exit status is 0 (all well), 1 (warnings) or 2 (faults)."""
    from duologue.runtime.diagnosis.finding import worst

    looks: Iterator[Callable[[], list[Finding]]]
    if selftest or server:
        looks = iter([lambda: _selftest(server)])
    elif engine is EngineChoice.TRTLLM:
        looks = iter([lambda: _trtllm(import_timeout_s)])
    else:
        looks = _looks(bundle, engine, lock, import_timeout_s, speaks=not no_speech)
    found: list[Finding] = []
    for look in looks:
        for finding in look():
            found.append(finding)
            if not as_json:
                _show(finding)
    level = worst(found)
    if as_json:
        lines = [{**dataclasses.asdict(each), "level": each.level.name.lower()} for each in found]
        typer.echo(json.dumps({"level": level.name.lower(), "findings": lines}))
    raise typer.Exit(int(level))


def _looks(
    bundle: str, engine: EngineChoice, lock: Path | None, timeout_s: float, *, speaks: bool
) -> Iterator[Callable[[], list[Finding]]]:
    """All looks, the quick ones first; each is taken when its turn comes."""
    from duologue.models import default_bundle_path
    from duologue.runtime.diagnosis import gpu, machine, mpi, packages, speech

    yield lambda: [packages.check_python()]
    yield packages.check_packages
    if lock is not None:
        yield lambda: [packages.check_lock(lock)]
    yield lambda: [machine.check_triton(), machine.check_shared_memory()]
    yield lambda: [machine.check_ports(_PORTS)]
    yield lambda: machine.check_disk([Path.home(), default_bundle_path(), Path("/tmp")])
    yield gpu.check_gpus
    yield lambda: [mpi.check_mpi(), mpi.check_tensorrt_llm(timeout_s)]
    yield lambda: [speech.check_bundle(bundle), speech.check_codec(bundle)]
    if speaks:
        yield lambda: [speech.check_speech(bundle, engine.value)]


def _trtllm(import_timeout_s: float) -> list[Finding]:
    from duologue.cli.doctor_trtllm import check_trtllm

    return check_trtllm(import_timeout_s=import_timeout_s)


def _selftest(server: str | None) -> list[Finding]:
    from duologue.client import DialogueClient
    from duologue.runtime.diagnosis.finding import fault
    from duologue.runtime.diagnosis.selftest import check_server
    from duologue.runtime.supervisor.state import read_states, state_dir

    if server is None:
        here = [state for state in read_states(state_dir()) if state.is_here]
        running = [state.facts.get("grpc_url") for state in here]
        addresses = [str(address) for address in running if address]
        if not addresses:
            return [fault("server", "none of ours runs here", "duologue serve --detach")]
        server = addresses[-1]
    with DialogueClient(server) as client:
        return check_server(client)


def _show(finding: Finding) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{_SIGNS[finding.level]} {escape(finding.topic)}: {escape(finding.found)}")
    if finding.remedy:
        console.print(f"          [dim]->[/] {escape(finding.remedy)}")
