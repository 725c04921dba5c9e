# SPDX-License-Identifier: Apache-2.0
"""`duologue voices`: add, list and remove voices, and carry them from store to store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli.errors import reports_errors
from duologue.cli.voices_view import describe_presets, print_table, print_voice

if TYPE_CHECKING:
    from duologue.runtime.voice_store.folder import FoundVoice
    from duologue.runtime.voice_store.store import VoiceStore
    from duologue.runtime.voices import ReferenceAudio

voices = typer.Typer(no_args_is_help=True, help="Add, list and remove voices.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the voice.")]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="Folder of the voice store; without it, duologue/voices in this user's data folder.",
    ),
]
ConsentOption = Annotated[
    bool, typer.Option("--consent", help="State that whoever speaks there agrees to this use.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Take the place of a voice of the same name.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@voices.command()
@reports_errors
def add(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="wav, mp3, flac, ogg or m4a.")],
    name: Annotated[str | None, typer.Option("--name", help="Without it, the file's.")] = None,
    transcript: Annotated[str, typer.Option("--transcript", help="What is said there.")] = "",
    language: Annotated[str, typer.Option("--language", help="Such as zh or en-GB.")] = "",
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
    consent: ConsentOption = False,
    replace: ReplaceOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a voice from an audio file."""
    with _open_store(store) as opened:
        from duologue.runtime.voice_store.types import VoiceDetails

        details = VoiceDetails(
            transcript.strip(), language, description, "stated" if consent else "unstated"
        )
        audio = _decode(file, details.transcript)
        voice = opened.add(name or file.stem, audio, details, replace=replace)
    print_voice(voice, as_json)


@voices.command("list")
@reports_errors
def list_voices(
    ctx: typer.Context,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", metavar="DIR", help="Show the voices of this bundle instead."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the voices that were added, or those of a bundle."""
    if bundle is not None:
        rows = describe_presets(ctx.obj.resolve_bundle(bundle))
    else:
        with _open_store(store) as opened:
            rows = [voice.as_json() for voice in opened.list()]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    print_table(rows)


@voices.command()
@reports_errors
def show(
    ctx: typer.Context, name: NameArgument, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Show all that is known of a voice."""
    with _open_store(store) as opened:
        voice = opened.get(name)
    print_voice(voice, as_json)


@voices.command()
@reports_errors
def rm(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of voices.")],
    store: StoreOption = None,
) -> None:
    """Forget voices: their audio, their codes and all that is known of them."""
    with _open_store(store) as opened:
        for name in names:
            opened.remove(name)


@voices.command()
@reports_errors
def export(
    ctx: typer.Context,
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="Zip file that is written.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Which; all without names.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write voices into an archive."""
    with _open_store(store) as opened:
        from duologue.runtime.voice_store.archive import export_voices

        written = [voice.name for voice in export_voices(opened, archive, names or ())]
    if as_json:
        typer.echo(json.dumps({"file": str(archive), "voices": written}, ensure_ascii=False))
    else:
        typer.echo(f"{archive}: {len(written)} voices")


@voices.command("import")
@reports_errors
def import_voices(
    ctx: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="An archive of `voices export`, a folder of audio files with transcripts "
            "(ann.wav, ann.txt), or the storage folder of a MegaTTS3 platform.",
        ),
    ],
    consent: ConsentOption = False,
    replace: ReplaceOption = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the voices of an archive or a folder; those that cannot be added are named."""
    with _open_store(store) as opened:
        rows = list(_import(opened, _found(source, consent), replace))
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        for row in rows:
            typer.echo(f"{row['name']}: " + (row["error"] or row["note"] or "added"))
    if any(row["error"] for row in rows):
        raise typer.Exit(2)


def _import(
    store: VoiceStore, found: Iterable[FoundVoice], replace: bool
) -> Iterator[dict[str, Any]]:
    from duologue.runtime.errors import VoiceError

    for voice in found:
        error = ""
        try:
            store.add(
                voice.name,
                voice.read(),
                voice.details,
                replace=replace,
                consent_at=voice.consent_at,
            )
        except VoiceError as refusal:
            error = str(refusal)
        yield {"name": voice.name, "error": error, "note": voice.note}


def _found(source: Path, consent: bool) -> Iterable[FoundVoice]:
    from duologue.runtime.voice_store.archive import read_archive
    from duologue.runtime.voice_store.folder import find_voices

    if source.is_dir():
        return find_voices(source, _decode, "stated" if consent else "unstated")
    return read_archive(source)


def _decode(path: Path, transcript: str) -> ReferenceAudio:
    """Read a file as carefully as an upload: it may come from anywhere."""
    from duologue.runtime.errors import VoiceError
    from duologue.runtime.gateway.uploads import decode_upload

    if not path.is_file():
        raise VoiceError(f"there is no audio file {path}")
    decoded = decode_upload(path.read_bytes(), transcript=transcript)
    if decoded.trimmed_from_s is not None:
        whole_s = decoded.trimmed_from_s
        typer.echo(f"{path.name} lasts {whole_s:.1f} s: its beginning is taken", err=True)
    return decoded.audio


@contextmanager
def _open_store(folder: Path | None) -> Iterator[VoiceStore]:
    from duologue.runtime.errors import EngineUnavailableError
    from duologue.runtime.places import voices_dir

    try:
        from duologue.runtime.voice_store.store import VoiceStore
    except ModuleNotFoundError as error:
        raise EngineUnavailableError(
            f"voices need the package {error.name}: pip install 'duologue[gateway]'"
        ) from error
    with VoiceStore(folder or voices_dir()) as store:
        yield store
