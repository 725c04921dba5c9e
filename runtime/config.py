# SPDX-License-Identifier: Apache-2.0
"""Frozen configuration of what was built: `bundle.json`, read and checked once.

Every number that belongs to a checkpoint (vocabularies, special ids, rates, delays) lives in
the bundle and nowhere in code.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duologue.runtime.core import ChannelSampling
from duologue.runtime.errors import ConfigError
from duologue.runtime.plain import from_plain

BUNDLE_FILE = "bundle.json"
BUNDLE_FORMAT = 1


READINGS = ("none", "pinyin")
"""What may become of a text before it is cut into tokens."""


def _require(holds: bool, field_name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"{field_name} is {value!r}; allowed: {allowed}")


@dataclass(frozen=True, slots=True)
class LmConfig:
    """Shape of the language model: a Qwen3 body between K embeddings and K heads.

    Attributes:
        vocab_sizes: one per channel, K of them; channel 0 also holds the text.
        delays: channel k lags delays[k] steps behind channel 0; begins with 0, never falls.
        tied_heads: the heads are the embeddings, transposed.
        max_position_embeddings: rows that a sequence may have, prompt and speech together.
    """

    vocab_sizes: tuple[int, ...]
    delays: tuple[int, ...]
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    max_position_embeddings: int = 32768
    tied_heads: bool = True

    def __post_init__(self) -> None:
        channels = len(self.vocab_sizes)
        _require(channels >= 1, "lm.vocab_sizes", self.vocab_sizes, "one size per channel")
        _require(len(self.delays) == channels, "lm.delays", self.delays, f"{channels} delays")
        rising = list(self.delays) == sorted(self.delays)
        _require(self.delays[0] == 0 and rising, "lm.delays", self.delays, "0 first, never falling")
        for name in ("hidden_size", "intermediate_size", "num_layers", "num_heads", "head_dim"):
            value = getattr(self, name)
            _require(value > 0, f"lm.{name}", value, "a positive number")
        divides = self.num_kv_heads > 0 and self.num_heads % self.num_kv_heads == 0
        _require(divides, "lm.num_kv_heads", self.num_kv_heads, f"a divisor of {self.num_heads}")
        _require(self.head_dim % 2 == 0, "lm.head_dim", self.head_dim, "an even number")

    @property
    def num_channels(self) -> int:
        """K."""
        return len(self.vocab_sizes)

    @property
    def max_delay(self) -> int:
        """Rows by which the last channel lags: S = T + max_delay."""
        return self.delays[-1]

    @property
    def logit_offsets(self) -> tuple[int, ...]:
        """K + 1 column borders of the channels in `core.Logits.values`."""
        offsets = [0]
        for size in self.vocab_sizes:
            offsets.append(offsets[-1] + size)
        return tuple(offsets)

    @property
    def kv_elements_per_row(self) -> int:
        """Numbers that the KV cache holds per row of one sequence."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Special ids. Channel 0 speaks code c as id speech_start + c.

    Attributes:
        speech_start: id of code 0 in channel 0.
        speech_stop: one past the id of the last code.
        end_of_speech: channel 0 says it when the dialogue is over.
        pad: channel 0 where nothing stands; also the EOS of the body.
        speech_pad: channels 1.. where nothing stands.
        eos: ids of channel 0 that end a sequence at once.
    """

    speech_start: int
    speech_stop: int
    end_of_speech: int
    pad: int
    speech_pad: int
    eos: tuple[int, ...]

    def __post_init__(self) -> None:
        ordered = 0 <= self.speech_start < self.speech_stop
        _require(ordered, "tokens.speech_start", self.speech_start, "below tokens.speech_stop")


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """How a script becomes text for the model.

    Attributes:
        system: the sentence that the model was trained with.
        template: text with the fields {system} and {text}.
        speaker_tokens: token that stands for speaker 1, 2, ...; their number is the limit.
        reading: how the model reads text: "none", as it is written, or "pinyin", Chinese
            characters as Pinyin with tone numbers.
    """

    system: str
    template: str
    speaker_tokens: tuple[str, ...]
    reading: str = "none"

    def __post_init__(self) -> None:
        _require(self.reading in READINGS, "prompt.reading", self.reading, ", ".join(READINGS))

    @property
    def max_speakers(self) -> int:
        """How many speakers the model knows."""
        return len(self.speaker_tokens)


@dataclass(frozen=True, slots=True)
class CodecConfig:
    """Rates and limits of the codec.

    Attributes:
        kind: class of codec, e.g. "xy_tokenizer".
        input_rate_hz: of audio to be encoded.
        sample_rate_hz: of decoded audio.
        input_samples_per_frame: samples at input_rate_hz behind one frame.
        samples_per_frame: samples at sample_rate_hz that one frame becomes.
        num_codebooks, codebook_size: K levels of so many codes.
        max_frames: longest stretch that the decoder takes at once.
        model: the codec's own hyper-parameters, as its class reads them.
    """

    kind: str
    input_rate_hz: int
    sample_rate_hz: int
    input_samples_per_frame: int
    samples_per_frame: int
    num_codebooks: int
    codebook_size: int
    max_frames: int
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("input_rate_hz", "sample_rate_hz", "samples_per_frame", "max_frames"):
            _require(
                getattr(self, name) > 0, f"codec.{name}", getattr(self, name), "a positive number"
            )

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate_hz / self.samples_per_frame


@dataclass(frozen=True, slots=True)
class WindowStep:
    """One rung of the ladder, in frames: the newly emitted hop and its contexts."""

    hop: int
    left: int
    right: int

    def __post_init__(self) -> None:
        _require(self.hop > 0, "windows.steps.hop", self.hop, "at least 1 frame")
        _require(self.left >= 0, "windows.steps.left", self.left, "0 or more frames")
        _require(self.right >= 0, "windows.steps.right", self.right, "0 or more frames")


@dataclass(frozen=True, slots=True)
class WindowConfig:
    """The window ladder: rung i serves window i, the last rung serves all that follow.

    Attributes:
        steps: the rungs; left context is cut to what exists before the hop.
        crossfade_samples: neighbouring windows are blended over so many samples, taken from
            the right context, hence at most right * samples_per_frame.
    """

    steps: tuple[WindowStep, ...]
    crossfade_samples: int

    def __post_init__(self) -> None:
        _require(len(self.steps) > 0, "windows.steps", self.steps, "at least one rung")
        _require(
            self.crossfade_samples >= 0,
            "windows.crossfade_samples",
            self.crossfade_samples,
            "0 or more samples",
        )


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one request may ask for.

    Attributes:
        max_rows: rows that one slot of the KV cache holds, prompt and speech together.
        max_length: rows, the delayed prompt counted, at which the reference implementation
            stops; None where the checkpoint does not say.
        max_slots: sequences that run at the same time, unless the server says otherwise.
        max_history_frames: earlier turns that stand in front of a turn when a script is spoken
            turn by turn.
        max_script_bytes: longest script in UTF-8.
        frames_per_letter: cap on speech per Latin letter of text, so that a runaway ends; see
            `text.timing.speech_weight` for other characters.
        min_frames: the cap is never lower than this.
        typical_frames_per_letter: the pace at which the model usually speaks; turn times of a
            running stream are estimated with it.
    """

    max_rows: int
    max_length: int | None = None
    max_slots: int = 32
    max_history_frames: int = 375
    max_script_bytes: int = 200_000
    frames_per_letter: float = 3.0
    min_frames: int = 125
    typical_frames_per_letter: float = 1.0


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory of engines with the numbers that describe them.

    Attributes:
        name: for people.
        trained: False marks a model that makes noise.
        lm, tokens, prompt, sampling, codec, windows, limits: see their classes.
        engines: engine kind -> what was built for it ("dtype", "status", "files", ...).
        files: name -> {"sha256", "bytes"}, all files that the engines read.
        parity: what the parity report measured, engine -> stage -> largest difference.
    """

    name: str
    lm: LmConfig
    tokens: TokenIds
    prompt: PromptConfig
    sampling: tuple[ChannelSampling, ...]
    codec: CodecConfig
    windows: WindowConfig
    limits: LimitsConfig
    trained: bool = True
    description: str = ""
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    format: int = BUNDLE_FORMAT

    def __post_init__(self) -> None:
        channels = self.lm.num_channels
        _require(self.format == BUNDLE_FORMAT, "format", self.format, f"{BUNDLE_FORMAT}")
        _require(
            len(self.sampling) == channels, "sampling", len(self.sampling), f"{channels} channels"
        )
        _require(
            self.codec.num_codebooks == channels,
            "codec.num_codebooks",
            self.codec.num_codebooks,
            f"{channels}, one per channel of the language model",
        )
        longest = max(s.left + s.hop + s.right for s in self.windows.steps)
        _require(
            longest <= self.codec.max_frames,
            "windows.steps",
            longest,
            f"windows of at most codec.max_frames = {self.codec.max_frames} frames",
        )

    def to_json(self) -> str:
        """The text of `bundle.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> Bundle:
        """Read the text of `bundle.json`.

        Raises:
            ConfigError: no JSON object, an unknown or missing field, or a value out of range.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{BUNDLE_FILE} is no JSON: {error}") from error
        return from_plain(Bundle, data, BUNDLE_FILE)

    @staticmethod
    def load(directory: Path) -> Bundle:
        """Read and check `bundle.json` of a directory.

        Raises:
            ConfigError: the directory holds no bundle, or its description is wrong.
        """
        path = directory / BUNDLE_FILE
        if not path.is_file():
            raise ConfigError(f"{directory} is no bundle: it has no {BUNDLE_FILE}")
        return Bundle.from_json(path.read_text(encoding="utf-8"))
