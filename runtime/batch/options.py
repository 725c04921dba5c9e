# SPDX-License-Identifier: Apache-2.0
"""What one batch run is asked to do, and what became of each line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from duologue.runtime.core import LengthLimit, Normalization, TextFrontend
from duologue.runtime.errors import RequestError

Decode = Literal["default", "repaired", "reference"]
DECODES = ("default", "repaired", "reference")


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How the lines of a batch file are spoken.

    Attributes:
        output_dir: where files go; made if it does not exist.
        prefix: of the file names.
        seed: for every line; None draws one per line.
        greedy: the most likely id in every channel.
        normalization: text rules applied to each turn.
        text_frontend: how numbers are written out.
        silence_s: seconds of silence behind the reference audio.
        decode: "default" is what streaming gives; "repaired" and "reference" decode the whole
            dialogue with the voice in front of each window, as MOSS-TTSD v0.7 does, without
            and with the loss of up to 0.1 s that its windows have.
        save_codes: also write the codes [T, K] as .npy.
        strict_reference: refuse lines that MOSS-TTSD v0.7 refuses.
        max_samples: only the first so many lines; None takes all.
        max_audio_s: a line's audio ends after so many seconds at the latest; None leaves it to the
            text.
        time_limit_s: seconds after which no further line is begun; those that run are finished.
            None sets no limit.
        shard: (i, n) takes every n-th line from the i-th on.
    """

    output_dir: Path
    prefix: str = "output_"
    seed: int | None = None
    greedy: bool = False
    normalization: Normalization = "none"
    text_frontend: TextFrontend = "none"
    silence_s: float = 0.0
    decode: Decode = "default"
    save_codes: bool = False
    strict_reference: bool = False
    max_samples: int | None = None
    max_audio_s: float | None = None
    time_limit_s: float | None = None
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        checks = (
            ("prefix", self.prefix, "/" not in self.prefix and "\0" not in self.prefix, "no slash"),
            ("silence_s", self.silence_s, 0 <= self.silence_s <= 60, "0 to 60 seconds"),
            ("decode", self.decode, self.decode in DECODES, ", ".join(DECODES)),
            ("max_samples", self.max_samples, (self.max_samples or 0) >= 0, "0 or more"),
            ("max_audio_s", self.max_audio_s, _above_zero(self.max_audio_s), "above 0 seconds"),
            ("time_limit_s", self.time_limit_s, _above_zero(self.time_limit_s), "above 0 seconds"),
            ("shard", self.shard, 0 <= self.shard[0] < self.shard[1], "(i, n) with i below n"),
        )
        for name, value, holds, allowed in checks:
            if not holds:
                raise RequestError(f"{name} is {value!r}; allowed: {allowed}")

    @property
    def is_compared(self) -> bool:
        """Whoever asks for this compares with the reference, and wants its every rule."""
        return self.strict_reference or self.decode == "reference"

    @property
    def length_limit(self) -> LengthLimit:
        """The reference's limit of length for those who compare."""
        return "model" if self.is_compared else "text"

    @property
    def report_name(self) -> str:
        """Name of the report: `results.json`, or `kaggle_results.json` for `kaggle_output_`."""
        return self.prefix.removesuffix("output_") + "results.json"

    def key_of(self, value: dict[str, Any], bundle_key: str) -> str:
        """Identifies a line's result: the same key means that nothing has to be done again."""
        settings = dataclasses.asdict(self)
        for name in ("output_dir", "prefix", "max_samples", "time_limit_s", "shard"):
            del settings[name]
        text = json.dumps([value, settings, bundle_key], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def _above_zero(value: float | None) -> bool:
    return value is None or value > 0


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of one line.

    Attributes:
        index: place among the lines that hold something, from 0; in the file names.
        line: 1-based line of the file.
        key: see `BatchOptions.key_of`; empty for a line that could not be read.
        file: name of the WAV file, or None.
        error: why there is none, or None.
        duration_s: seconds of audio.
        elapsed_s: seconds from the start of the line to its file.
        num_frames: frames of speech.
        finish_reason: "stop" or "length".
        seed: in use.
        text: the script.
    """

    index: int
    line: int
    key: str = ""
    file: str | None = None
    error: str | None = None
    duration_s: float = 0.0
    elapsed_s: float = 0.0
    num_frames: int = 0
    finish_reason: str | None = None
    seed: int | None = None
    text: str = ""

    @property
    def is_ok(self) -> bool:
        """The audio is written."""
        return self.error is None
