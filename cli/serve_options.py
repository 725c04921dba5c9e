# SPDX-License-Identifier: Apache-2.0
"""The options of `duologue serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from duologue.cli.options import CodecEngineChoice

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="Address of the HTTP door, 127.0.0.1 without it; a public one needs keys. Triton has "
        "no authentication and stays on 127.0.0.1.",
    ),
]
GrpcHostOption = Annotated[
    str | None,
    typer.Option(
        "--grpc-host",
        help="Open gRPC to other machines at this address, at --grpc-port and with the same keys. "
        "Only with a Triton that is new enough; the embedded one is not.",
    ),
]
GrpcPortOption = Annotated[
    int, typer.Option("--grpc-port", min=0, max=65535, help="gRPC door; 0 picks a free port.")
]
HttpPortOption = Annotated[
    int | None,
    typer.Option(
        "--http-port",
        min=0,
        max=65535,
        help="HTTP door with OpenAI's speech API, dialogues and a page at /: 9000 without this "
        "option; 0 picks a free port. Needs the extra 'gateway'.",
    ),
]
NoHttpOption = Annotated[bool, typer.Option("--no-http", help="Serve gRPC alone.")]
ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings of the HTTP door as YAML (api, auth, logging, voices); may be repeated, a "
        "later file wins. Environment (DUOLOGUE_API__PORT) and options win over files.",
    ),
]
KeysFileOption = Annotated[
    Path | None,
    typer.Option(
        "--keys-file", metavar="FILE", help="API keys: lines of a name and the key's SHA-256."
    ),
]
PublicOption = Annotated[
    bool,
    typer.Option(
        "--public-without-keys", help="Serve a public address although anybody may speak there."
    ),
]
TritonHttpPortOption = Annotated[
    int | None,
    typer.Option(
        "--triton-http-port",
        min=0,
        max=65535,
        help="Triton's own HTTP door, closed without this option; 0 picks a free port.",
    ),
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        help="Prometheus, 9090 without this option: the HTTP door's numbers and Triton's; "
        "0 picks a free port.",
    ),
]
MaxSlotsOption = Annotated[
    int | None,
    typer.Option(
        "--max-slots", min=1, help="Dialogues at the same time; the bundle's number without it."
    ),
]
CodecEngineOption = Annotated[
    CodecEngineChoice | None,
    typer.Option(
        "--codec-engine",
        help="Engine of the codec: without this option, torch on a GPU, and onnx on a CPU.",
    ),
]
CodecDeviceOption = Annotated[
    str | None,
    typer.Option(
        "--codec-device",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where the codec runs: without this option, on the GPU where torch sees one.",
    ),
]
LogOption = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Keep Triton's log here, that of the run before beside it; else none is kept.",
    ),
]
GraceOption = Annotated[
    float,
    typer.Option(
        "--grace",
        min=0,
        max=3600,
        metavar="SECONDS",
        help="How long running dialogues may take to end when the server is asked to stop; a "
        "second Ctrl-C or SIGTERM does not wait.",
    ),
]
MaxRestartsOption = Annotated[
    int,
    typer.Option(
        "--max-restarts",
        min=0,
        help="Failures within ten minutes that are mended by a new start; one more ends it.",
    ),
]
