# SPDX-License-Identifier: Apache-2.0
"""Who speaks? The nearest of some known voices by pitch and timbre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duologue.finetune.evaluate.pitch import pitch_track
from duologue.finetune.evaluate.spectrum import RATE_HZ, log_mel
from duologue.runtime.audio import resample_sinc_hann
from duologue.runtime.core import FloatArray

# A voice's pitch is one number and its timbre forty; both shall count.
_PITCH_WEIGHT = 4.0
_LOUD_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class SpeakerClassifier:
    """Centroids of voices.

    Attributes:
        names: of the voices.
        centroids: [voices, features].
        spread: [features], the standard deviation within a voice.
    """

    names: tuple[str, ...]
    centroids: FloatArray
    spread: FloatArray

    @staticmethod
    def fit(features: Sequence[FloatArray], names: Sequence[str]) -> SpeakerClassifier:
        """Learn the voices from clips.

        Args:
            features: see `voice_features`, one per clip.
            names: of the voice of each clip.
        """
        known = tuple(sorted(set(names)))
        table, of_voice = np.stack(features), np.array(names)
        centroids = np.stack([table[of_voice == name].mean(axis=0) for name in known])
        own = centroids[[known.index(name) for name in names]]
        spread = np.sqrt(np.square(table - own).mean(axis=0)) + 1e-3
        return SpeakerClassifier(known, centroids, spread.astype(np.float32))

    def classify(self, features: FloatArray, among: Sequence[str] | None = None) -> str:
        """The nearest voice.

        Args:
            features: see `voice_features`.
            among: voices that come into question; None: all.
        """
        scaled = np.square((self.centroids - features) / self.spread)
        scaled[:, 0] *= _PITCH_WEIGHT
        distances = dict(zip(self.names, scaled.sum(axis=1), strict=True))
        return min(among or self.names, key=lambda name: distances[name])


def voice_features(samples: FloatArray, sample_rate_hz: int) -> FloatArray:
    """Pitch and timbre of a clip.

    Args:
        samples: mono [N].
        sample_rate_hz: of `samples`.

    Returns:
        [1 + bands]: octaves of the median pitch above 100 Hz (0 where nothing is voiced), then
        the mean log-mel spectrum of the louder half, less its own mean, which is the level.
    """
    # Once for both, since it takes most of the time.
    wave = resample_sinc_hann(samples, sample_rate_hz, RATE_HZ)
    pitch = pitch_track(wave, RATE_HZ)
    voiced = pitch[pitch > 0]
    octaves = float(np.log2(np.median(voiced) / 100)) if len(voiced) else 0.0
    mel = log_mel(wave, RATE_HZ)
    level = mel.mean(axis=1)
    loud = mel[level >= np.quantile(level, _LOUD_SHARE)].mean(axis=0)
    timbre: FloatArray = loud - loud.mean()
    return np.array([octaves, *timbre], dtype=np.float32)
