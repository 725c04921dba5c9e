# SPDX-License-Identifier: Apache-2.0
"""All measures of one set of dialogues, as numbers that can be written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duologue.finetune.evaluate.borders import find_clicks, map_turns
from duologue.finetune.evaluate.speakers import SpeakerClassifier, voice_features
from duologue.finetune.evaluate.spectrum import log_mel
from duologue.finetune.evaluate.words import Identification, identify
from duologue.runtime.core import FloatArray, TurnTime

_EARLY_STOP = 0.6
_SHORTEST_TURN_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Rendering:
    """One dialogue as a reference speaks it.

    Attributes:
        id: names the dialogue.
        text: with speaker tags.
        samples: mono [N].
        sample_rate_hz: of `samples`.
        turns: whose borders are known.
        voices: name of the voice of speaker 1, 2, ...
    """

    id: str
    text: str
    samples: FloatArray
    sample_rate_hz: int
    turns: tuple[TurnTime, ...]
    voices: tuple[str, ...]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """The same dialogue as the model speaks it.

    Attributes:
        samples: mono [N].
        sample_rate_hz: of `samples`.
        is_runaway: the model did not end by itself.
        chunk_starts: first sample of every chunk that was streamed.
    """

    samples: FloatArray
    sample_rate_hz: int
    is_runaway: bool = False
    chunk_starts: tuple[int, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured; shares lie between 0 and 1.

    Attributes:
        num_dialogues: how many.
        share_identified: dialogues closest to their own reference, out of all.
        share_right_speaker: turns in the voice that was asked for.
        share_runaway: dialogues that the model did not end by itself.
        share_early: dialogues shorter than 0.6 of the reference.
        duration_ratios: 5 %, 50 % and 95 % quantile of duration / reference's duration.
        num_clicks: borders of chunks that can be heard.
        num_borders: borders that were looked at.
        confused: (id, id of the reference that was closest), where these differ.
    """

    num_dialogues: int
    share_identified: float
    share_right_speaker: float
    share_runaway: float
    share_early: float
    duration_ratios: tuple[float, float, float]
    num_clicks: int
    num_borders: int
    confused: tuple[tuple[str, str], ...]


def measure(
    references: Sequence[Rendering],
    generated: Sequence[Generated],
    classifier: SpeakerClassifier,
) -> Measures:
    """Measure generated dialogues.

    Args:
        references: what every dialogue should sound like.
        generated: the same dialogues in the same order.
        classifier: knows the voices of the references.
    """
    wanted = [log_mel(r.samples, r.sample_rate_hz) for r in references]
    spoken = [log_mel(g.samples, g.sample_rate_hz) for g in generated]
    words = identify(spoken, wanted)
    ratios = [g.duration_s / r.duration_s for g, r in zip(generated, references, strict=True)]
    right = [
        is_right
        for reference, speech, mel, target in zip(
            references, generated, spoken, wanted, strict=True
        )
        for is_right in _right_speakers(reference, speech, map_turns(mel, target, reference.turns),
                                        classifier)
    ]  # fmt: skip
    clicks = [find_clicks(g.samples, g.sample_rate_hz, g.chunk_starts[1:]) for g in generated]
    low, middle, high = (float(q) for q in np.quantile(ratios, (0.05, 0.5, 0.95)))
    return Measures(
        num_dialogues=len(references),
        share_identified=words.share_right,
        share_right_speaker=float(np.mean(right)) if right else 0.0,
        share_runaway=float(np.mean([g.is_runaway for g in generated])),
        share_early=float(np.mean([ratio < _EARLY_STOP for ratio in ratios])),
        duration_ratios=(low, middle, high),
        num_clicks=sum(len(found) for found in clicks),
        num_borders=sum(max(0, len(g.chunk_starts) - 1) for g in generated),
        confused=_confused(words, references),
    )


def fit_speakers(references: Sequence[Rendering]) -> SpeakerClassifier:
    """Learn the voices of reference renderings from their turns."""
    features, names = [], []
    for rendering in references:
        for turn in rendering.turns:
            clip = _cut(rendering.samples, rendering.sample_rate_hz, turn)
            features.append(voice_features(clip, rendering.sample_rate_hz))
            names.append(rendering.voices[turn.speaker - 1])
    return SpeakerClassifier.fit(features, names)


def _right_speakers(
    reference: Rendering,
    speech: Generated,
    turns: Sequence[TurnTime],
    classifier: SpeakerClassifier,
) -> list[bool]:
    """Turn by turn, whether the asked voice is nearer than the other ones of the dialogue."""
    rate_hz = speech.sample_rate_hz
    return [
        classifier.classify(
            voice_features(_cut(speech.samples, rate_hz, turn), rate_hz), reference.voices
        )
        == reference.voices[turn.speaker - 1]
        for turn in turns
    ]


def _cut(samples: FloatArray, rate_hz: int, turn: TurnTime) -> FloatArray:
    start = round(turn.start_s * rate_hz)
    stop = max(round(turn.end_s * rate_hz), start + round(_SHORTEST_TURN_S * rate_hz))
    return samples[start:stop]


def _confused(
    words: Identification, references: Sequence[Rendering]
) -> tuple[tuple[str, str], ...]:
    pairs = enumerate(words.nearest)
    return tuple((references[own].id, references[int(other)].id) for own, other in pairs
                 if own != other)  # fmt: skip
