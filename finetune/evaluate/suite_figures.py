# SPDX-License-Identifier: Apache-2.0
"""What is measured of one suite: words, voices, order, length, and clicks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from duologue.finetune.evaluate.borders import find_clicks, map_turns
from duologue.finetune.evaluate.items import Item, Suite
from duologue.finetune.evaluate.measures import Generated, Rendering
from duologue.finetune.evaluate.order import is_in_order
from duologue.finetune.evaluate.shares import Share
from duologue.finetune.evaluate.speakers import SpeakerClassifier, voice_features
from duologue.finetune.evaluate.spectrum import RATE_HZ, log_mel
from duologue.finetune.evaluate.words import identify
from duologue.runtime.audio import resample_sinc_hann
from duologue.runtime.core import FloatArray, TurnTime

EARLY_STOP = 0.6
"""Shorter than so much of espeak-ng's rendering is a stop before the end."""

_SHORTEST_CLIP_S = 0.1
# Dialogues are long, and differ enough to be told at half the resolution.
_LONG_ROWS = 250


@dataclass(frozen=True, slots=True)
class SuiteFigures:
    """Figures of one suite.

    Attributes:
        name, title, language: of the suite.
        nearest: items that are nearest to their own rendering, out of all of the suite.
        voices: turns whose own voice is the nearest of the item's rivals.
        codec_voices: the same as `voices`, of the renderings after the bundle's codec alone: what
            a language model without fault would reach.
        any_voices: turns whose own voice is the nearest of all voices that are known.
        by_voice: the same as `voices`, apart for each voice, or each name that was asked for.
        order: items of two turns or more that are said in their order.
        behaved: items that neither ran away nor stopped early.
        runaway: items that the model did not end by itself.
        early: items that lasted less than `EARLY_STOP` of the rendering.
        clicks: borders of streamed chunks that can be heard, of all borders.
        durations: least, 5 %, 50 %, 95 % and most of duration / rendering's duration.
        audio_s: seconds of speech.
        confused: pairs (text, text that the speech was nearest to).
    """

    name: str
    title: str
    language: str
    nearest: Share
    voices: Share
    codec_voices: Share
    any_voices: Share
    by_voice: Mapping[str, Share]
    order: Share
    behaved: Share
    runaway: Share
    early: Share
    clicks: Share
    durations: tuple[float, ...]
    audio_s: float
    confused: tuple[tuple[str, str], ...]


def measure_suite(
    suite: Suite,
    renderings: Sequence[Rendering],
    spoken: Sequence[Generated],
    through_codec: Sequence[Generated],
    classifier: SpeakerClassifier,
) -> SuiteFigures:
    """Measure a suite.

    Args:
        suite: what was asked for.
        renderings: what every item should sound like, in the same order.
        spoken: what the bundle said, in the same order.
        through_codec: the renderings, encoded and decoded.
        classifier: knows all voices in the language of the suite.
    """
    wanted = [log_mel(_resampled(rendering), RATE_HZ) for rendering in renderings]
    waves = [_resampled(speech) for speech in spoken]
    heard = [log_mel(wave, RATE_HZ) for wave in waves]
    nearest = _nearest(heard, wanted)
    voices, codec_voices = _Voices(classifier), _Voices(classifier)
    for item, wave, mel, target, rendering in zip(
        suite.items, waves, heard, wanted, renderings, strict=True
    ):
        voices.judge(item, wave, map_turns(mel, target, rendering.turns))
    for item, speech, rendering in zip(suite.items, through_codec, renderings, strict=True):
        codec_voices.judge(item, _resampled(speech), rendering.turns)
    ratios = [s.duration_s / r.duration_s for s, r in zip(spoken, renderings, strict=True)]
    early, runaway = [r < EARLY_STOP for r in ratios], [s.is_runaway for s in spoken]
    texts = [item.dialogue.transcript for item in suite.items]
    quantiles = np.quantile(ratios, (0, 0.05, 0.5, 0.95, 1))
    return SuiteFigures(
        suite.name,
        suite.title,
        suite.language,
        nearest=Share.of(place == own for own, place in enumerate(nearest)),
        voices=Share.of(voices.right),
        codec_voices=Share.of(codec_voices.right),
        any_voices=Share.of(voices.right_of_all),
        by_voice={name: Share.of(right) for name, right in sorted(voices.by_voice.items())},
        order=Share.of(
            is_in_order(_coarse(mel), _coarse(target), _at_half_pace(r.turns))
            for mel, target, r in zip(heard, wanted, renderings, strict=True)
            if len(r.turns) > 1
        ),
        behaved=Share.of(not (a or b) for a, b in zip(early, runaway, strict=True)),
        runaway=Share.of(runaway),
        early=Share.of(early),
        clicks=_clicks(spoken),
        durations=tuple(round(float(quantile), 3) for quantile in quantiles),
        audio_s=round(sum(speech.duration_s for speech in spoken), 1),
        confused=tuple(
            (texts[own], texts[place]) for own, place in enumerate(nearest) if place != own
        ),
    )


class _Voices:
    """Judges turn by turn, and keeps the answers."""

    def __init__(self, classifier: SpeakerClassifier) -> None:
        self._classifier = classifier
        self.right: list[bool] = []
        self.right_of_all: list[bool] = []
        self.by_voice: dict[str, list[bool]] = defaultdict(list)

    def judge(self, item: Item, wave: FloatArray, turns: Sequence[TurnTime]) -> None:
        for turn, voice in zip(turns, item.wanted_voices, strict=True):
            features = voice_features(_cut(wave, turn), RATE_HZ)
            is_right = self._classifier.classify(features, item.rivals) == voice
            self.right.append(is_right)
            self.right_of_all.append(self._classifier.classify(features) == voice)
            self.by_voice[item.presets.get(turn.speaker, voice)].append(is_right)


def _nearest(heard: Sequence[FloatArray], wanted: Sequence[FloatArray]) -> list[int]:
    """Place of the rendering that each item is nearest to."""
    if np.mean([len(mel) for mel in wanted]) > _LONG_ROWS:
        heard, wanted = [_coarse(mel) for mel in heard], [_coarse(mel) for mel in wanted]
    return [int(place) for place in identify(heard, wanted).nearest]


def _coarse(mel: FloatArray) -> FloatArray:
    """Two rows [T, bands] as one."""
    even = mel[: len(mel) // 2 * 2]
    halved: FloatArray = even.reshape(-1, 2, mel.shape[1]).mean(axis=1) if len(even) else mel
    return halved


def _at_half_pace(turns: Sequence[TurnTime]) -> list[TurnTime]:
    """Borders as they lie in coarse rows."""
    return [TurnTime(turn.speaker, turn.start_s / 2, turn.end_s / 2) for turn in turns]


def _resampled(speech: Rendering | Generated) -> FloatArray:
    """At the rate of all measures [N], once, since it takes most of the time."""
    return resample_sinc_hann(speech.samples, speech.sample_rate_hz, RATE_HZ)


def _cut(wave: FloatArray, turn: TurnTime) -> FloatArray:
    start = round(turn.start_s * RATE_HZ)
    stop = max(round(turn.end_s * RATE_HZ), start + round(_SHORTEST_CLIP_S * RATE_HZ))
    return wave[start:stop]


def _clicks(spoken: Sequence[Generated]) -> Share:
    borders = sum(max(0, len(speech.chunk_starts) - 1) for speech in spoken)
    found = sum(
        len(find_clicks(speech.samples, speech.sample_rate_hz, speech.chunk_starts[1:]))
        for speech in spoken
    )
    return Share(found, borders)
