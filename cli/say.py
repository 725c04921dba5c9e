# SPDX-License-Identifier: Apache-2.0
"""`duologue say`: a script to a WAV file, heard while it is being made."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duologue.cli.doors import Doors
from duologue.cli.errors import reports_errors
from duologue.cli.options import (
    BundleOption,
    EngineChoice,
    EngineOption,
    FrontendChoice,
    JsonOption,
    ModeChoice,
    NormalizationChoice,
)
from duologue.cli.voice_choice import VoiceOption, read_voices

if TYPE_CHECKING:
    from rich.console import Console

    from duologue.cli.player import Player
    from duologue.cli.sources import SourceChoice
    from duologue.cli.tracks import Tracks
    from duologue.client.types import SpeechOptions

# The package behind the text frontend "zh_en".
FRONTEND_PACKAGE = "wetext"

ScriptArgument = Annotated[
    str | None,
    typer.Argument(metavar="SCRIPT", help="Text file with the dialogue; - reads standard input."),
]
TextOption = Annotated[
    str | None, typer.Option("--text", help="The dialogue itself, in place of a file.")
]
OutOption = Annotated[
    str, typer.Option("--out", "-o", metavar="FILE", help="WAV file; - is standard output.")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="The same seed gives the same audio.")
]
GreedyOption = Annotated[
    bool, typer.Option("--greedy", help="Always take the most likely; no chance involved.")
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="ADDRESS",
        help="HOST:PORT of a running server's gRPC, or http://HOST:PORT of its gateway; without "
        "it, a server is started for this script.",
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="DUOLOGUE_API_KEY", help="For a gateway that wants one.", metavar="KEY"
    ),
]
TracksOption = Annotated[
    Path | None,
    typer.Option(
        "--tracks",
        metavar="DIR",
        file_okay=False,
        help="Write S1.wav, S2.wav, ... there, too, each silent where another one speaks, and "
        "timeline.json with the turns.",
    ),
]
PlayOption = Annotated[
    bool, typer.Option("--play", help="Play it, too, if the machine has a known player.")
]
NormalizeOption = Annotated[
    NormalizationChoice, typer.Option("--normalize", help="Text rules applied to each turn.")
]
FrontendOption = Annotated[
    FrontendChoice | None,
    typer.Option(
        "--text-frontend",
        help="Write numbers, dates and units out as words. Without it: zh_en if its package is "
        "installed here and no --server is named, else none.",
    ),
]
ModeOption = Annotated[
    ModeChoice,
    typer.Option(
        "--mode", help="One pass, or turn by turn; auto takes one pass while the script fits."
    ),
]
MaxFramesOption = Annotated[
    int | None, typer.Option("--max-frames", min=1, help="Cap on frames of audio.")
]


@reports_errors
def say(
    ctx: typer.Context,
    script: ScriptArgument = None,
    text: TextOption = None,
    out: OutOption = "talk.wav",
    voice: VoiceOption = None,
    seed: SeedOption = None,
    greedy: GreedyOption = False,
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    bundle: BundleOption = "default",
    engine: EngineOption = EngineChoice.AUTO,
    play: PlayOption = False,
    normalize: NormalizeOption = NormalizationChoice.NONE,
    text_frontend: FrontendOption = None,
    mode: ModeOption = ModeChoice.AUTO,
    max_frames: MaxFramesOption = None,
    tracks: TracksOption = None,
    as_json: JsonOption = False,
) -> None:
    """Speak a script into a WAV file."""
    from rich.console import Console

    from duologue.cli.sources import SourceChoice
    from duologue.cli.tracks import Tracks
    from duologue.client.types import SpeechOptions

    words = _read_script(script, text)
    _check_out(out)
    voices = read_voices(voice or ())
    options = SpeechOptions(
        voices=voices,
        seed=seed,
        greedy=greedy,
        normalization=normalize.value,
        text_frontend=(text_frontend or _default_frontend(server)).value,
        mode=mode.value,
        max_frames=max_frames,
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    choice = SourceChoice(server, bundle, engine.value, api_key, voices)
    player = _find_player(ctx.obj, out, console) if play else None
    apart = None if tracks is None else Tracks(tracks, words)
    _speak(words, options, choice, ctx.obj, out, player, apart, console, as_json)


def _speak(
    words: str,
    options: SpeechOptions,
    choice: SourceChoice,
    doors: Doors,
    out: str,
    player: Player | None,
    tracks: Tracks | None,
    console: Console,
    as_json: bool,
) -> None:
    from duologue.cli.recording import Recording, record
    from duologue.cli.sources import open_source

    def tell(line: str) -> None:
        console.print(line, markup=False)

    recording = Recording(out, player, tracks)
    with contextlib.closing(recording), open_source(choice, doors, tell) as source:
        if source.is_trained is False:
            tell("this model is untrained: it sounds like noise")
        chunks = source.speak(words, options)
        try:
            with contextlib.closing(chunks), _progress(console) as show:
                report = record(
                    chunks,
                    recording,
                    source=source.kind,
                    is_trained=source.is_trained,
                    show=show,
                )
        except BaseException:
            if recording.duration_s > 0:
                tell(f"{out} holds the {recording.duration_s:.2f} s that came until then")
            raise
        if tracks is not None:
            tell(f"{tracks.folder} holds {', '.join(tracks.write())}")
        # With the audio on standard output, nothing else may go there.
        typer.echo(report.json() if as_json else report.line(), err=out == "-")
        recording.finish_playing()


def _read_script(path: str | None, text: str | None) -> str:
    if (path is None) == (text is None):
        raise typer.BadParameter("name a SCRIPT or give --text, one of the two")
    if text is not None:
        return text
    assert path is not None
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is no UTF-8 text: {error}") from error


def _check_out(out: str) -> None:
    """Find out before any work whether the file can lie there."""
    if out != "-" and (Path(out).is_dir() or not Path(out).parent.is_dir()):
        raise typer.BadParameter(f"{out} is a folder, or lies in a folder that does not exist")


def _default_frontend(server: str | None) -> FrontendChoice:
    if server is None and importlib.util.find_spec(FRONTEND_PACKAGE) is not None:
        return FrontendChoice.ZH_EN
    return FrontendChoice.NONE


def _find_player(doors: Doors, out: str, console: Console) -> Player | None:
    player = doors.find_player()
    if player is None:
        from duologue.cli.player import PLAYERS

        names = ", ".join(known.name for known in PLAYERS)
        console.print(f"no player found on PATH, looked for {names}", markup=False)
    elif player.takes == "file" and out == "-":
        console.print(f"{player.name} plays files only: not played", markup=False)
        return None
    return player


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Callable[[float, int], None]]:
    """Show seconds of audio and the turn, on a terminal only."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("reading the script", total=None)

        def show(duration_s: float, turn: int) -> None:
            progress.update(task, description=f"turn {turn}, {duration_s:.1f} s of audio")

        yield show
