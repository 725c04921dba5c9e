# SPDX-License-Identifier: Apache-2.0
"""Subtitles of a dialogue, one cue per turn."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Literal

from duologue.runtime.gateway.turns import Segment

SubtitleFormat = Literal["srt", "vtt"]

MEDIA_TYPES: dict[SubtitleFormat, str] = {"srt": "application/x-subrip", "vtt": "text/vtt"}


def write_subtitles(form: SubtitleFormat, segments: Sequence[Segment]) -> str:
    """All cues as one text; a turn whose text is not known shows its speaker alone.

    >>> from duologue.runtime.gateway.turns import SourceTurn
    >>> turn = Segment("echo", 1, 0.0, 1.5, "estimated", SourceTurn("Hi.", 0, 3))
    >>> print(write_subtitles("srt", [turn]), end="")
    1
    00:00:00,000 --> 00:00:01,500
    S1: Hi.
    <BLANKLINE>
    """
    cues = [_cue(form, number, segment) for number, segment in enumerate(segments, 1)]
    return ("WEBVTT\n\n" if form == "vtt" else "") + "".join(cues)


def _cue(form: SubtitleFormat, number: int, segment: Segment) -> str:
    mark = "," if form == "srt" else "."
    times = f"{_clock(segment.start_s, mark)} --> {_clock(segment.end_s, mark)}"
    # A line end would end the cue, and an arrow or a tag in it be taken for the format's own.
    text = "" if segment.source is None else " ".join(segment.source.text.split())
    if form == "vtt":
        return f"{number}\n{times}\n<v S{segment.speaker}>{html.escape(text, quote=False)}\n\n"
    shown = text.replace("-->", "->")
    return f"{number}\n{times}\nS{segment.speaker}: {shown}\n\n"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    whole, rest = divmod(milliseconds, 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{rest:03}"
