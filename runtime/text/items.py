# SPDX-License-Identifier: Apache-2.0
"""The lines of a batch file: what is to be said, and in whose voices. No audio is opened here.

| keys | meaning |
|---|---|
| `text` | the script |
| `prompt_audio`, `prompt_text` | one recording of all speakers, its transcript with tags |
| `prompt_audio_speaker1`, `prompt_text_speaker1`, ... | one recording per speaker |
| `base_path` | folder that audio paths are relative to |

`prompt_audio` goes before recordings per speaker. Source: OpenMOSS/MOSS-TTSD,
`legacy/v0.7/generation_utils.py` (`process_jsonl_item`), and `generation_utils.py` of v1.0 for
more than two speakers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.runtime.errors import RequestError

_SPEAKER_AUDIO = re.compile(r"prompt_audio_speaker([1-9][0-9]?)")
_COMMENTS = ("#", "//")


@dataclass(frozen=True, slots=True)
class JsonlLine:
    """One line of a batch file: an object, or why there is none.

    Attributes:
        number: 1-based, blank lines and comments counted.
        value: the object, or None.
        error: what is wrong with the line, or None.
    """

    number: int
    value: dict[str, Any] | None
    error: RequestError | None = None


@dataclass(frozen=True, slots=True)
class PromptAudio:
    """A recording that shows how somebody sounds.

    Attributes:
        speaker: 1-based; None when one recording holds all speakers.
        path: of the audio file, joined with the item's base path.
        transcript: what is said in it; with tags when it holds several speakers.
    """

    speaker: int | None
    path: str
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What one line of a batch file asks for.

    Attributes:
        text: the script in any notation.
        prompts: one recording of all speakers, or at most one per speaker in their order.
    """

    text: str
    prompts: tuple[PromptAudio, ...] = ()

    @property
    def prompt_text(self) -> str:
        """All transcripts in MOSS-TTSD's notation, as the reference joins them."""
        if len(self.prompts) == 1 and self.prompts[0].speaker is None:
            return self.prompts[0].transcript
        return "".join(
            f"[S{prompt.speaker}]{prompt.transcript}"
            for prompt in self.prompts
            if prompt.transcript
        ).strip()


def read_jsonl(source: str | Path | Iterable[str]) -> Iterator[JsonlLine]:
    """Read a batch file line by line; a bad line does not stop the others.

    Args:
        source: path of a UTF-8 file, with or without a byte order mark, or its lines. Blank
            lines and lines that begin with `#` or `//` are skipped.

    Raises:
        RequestError: the file cannot be opened or read.

    >>> [line.number for line in read_jsonl(['{"text": "a"}', "", "# no", '{"text": "b"}'])]
    [1, 4]
    """
    lines = _file_lines(Path(source)) if isinstance(source, (str, Path)) else iter(source)
    for number, line in enumerate(lines, start=1):
        if isinstance(line, RequestError):
            yield JsonlLine(number, None, RequestError(f"line {number}: {line}"))
            continue
        line = line.removeprefix("\ufeff").strip()
        if line and not line.startswith(_COMMENTS):
            yield _parse_line(number, line)


def parse_item(value: Mapping[str, Any], *, strict_reference: bool = False) -> BatchItem:
    """Read the object of one line.

    Args:
        value: the keys are those of the table above; others are ignored.
        strict_reference: refuse what MOSS-TTSD v0.7 refuses: text without recordings,
            recordings of one speaker only, an empty `prompt_audio`, and relative paths
            without a base path.

    Raises:
        RequestError: the text is missing, a value has the wrong type, or one of the above.
    """
    text = _string(value, "text")
    if not text.strip():
        raise RequestError("the item has no text; allowed: a script under the key 'text'")
    if _merged_is_given(value, strict_reference):
        path = _audio_path(value, "prompt_audio", strict_reference)
        return BatchItem(text, (PromptAudio(None, path, _string(value, "prompt_text")),))
    prompts = tuple(
        PromptAudio(
            speaker,
            _audio_path(value, f"prompt_audio_speaker{speaker}", strict_reference),
            _string(value, f"prompt_text_speaker{speaker}"),
        )
        for speaker in _speakers_with_audio(value)
    )
    if strict_reference:
        prompts = prompts[:2]
        if [prompt.speaker for prompt in prompts] != [1, 2]:
            raise RequestError(
                "Input must include prompt (Format 1 or 2). Text-only is not supported."
            )
    return BatchItem(text, prompts)


def _file_lines(path: Path) -> Iterator[str | RequestError]:
    """Lines of a file; one that is no UTF-8 comes as an error."""
    try:
        with path.open("rb") as file:
            for raw in file:
                try:
                    yield raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    yield RequestError(f"no UTF-8: {error.reason} at byte {error.start}")
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error


def _parse_line(number: int, line: str) -> JsonlLine:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return JsonlLine(number, None, RequestError(f"line {number}: no JSON: {error}"))
    if not isinstance(value, dict):
        kind = type(value).__name__
        return JsonlLine(number, None, RequestError(f"line {number}: {kind}; allowed: an object"))
    return JsonlLine(number, value)


def _merged_is_given(value: Mapping[str, Any], strict_reference: bool) -> bool:
    if value.get("prompt_audio"):
        return True
    if strict_reference and "prompt_audio" in value:
        raise RequestError("Format 2 requires non-empty 'prompt_audio'.")
    return False


def _speakers_with_audio(value: Mapping[str, Any]) -> list[int]:
    matches = ((_SPEAKER_AUDIO.fullmatch(key), audio) for key, audio in value.items())
    return sorted(int(match.group(1)) for match, audio in matches if match and audio)


def _audio_path(value: Mapping[str, Any], key: str, strict_reference: bool) -> str:
    path, base_path = _string(value, key), _string(value, "base_path")
    if "\0" in path + base_path:
        raise RequestError(f"{key} holds a NUL character; allowed: a path")
    if base_path:
        return os.path.join(base_path, path)
    if strict_reference and not os.path.isabs(path):
        raise RequestError(f"When base_path is omitted, audio paths must be absolute. Got: {path}")
    return path


def _string(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise RequestError(f"{key} is {found!r:.40}; allowed: a string")
    return found
