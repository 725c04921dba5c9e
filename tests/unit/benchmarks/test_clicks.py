# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.benchmarks.stream.clicks import SeamCollector, seam_score, seam_scores

RATE_HZ = 8_000
SIDE = 80


def _speechlike(num_samples, seed=0):
    """Noise through a resonator: as rough as a vowel."""
    noise = np.random.default_rng(seed).normal(0, 200, num_samples)
    wave = np.zeros(num_samples)
    for i in range(2, num_samples):
        wave[i] = 1.6 * wave[i - 1] - 0.8 * wave[i - 2] + noise[i]
    return wave.astype(np.int16)


def _seams(samples, borders):
    collector = SeamCollector()
    for chunk in np.split(samples, borders):
        collector.add(chunk, RATE_HZ)
    return collector.seams


def test_cuts_in_continuous_sound_score_like_any_other_place():
    scores = seam_scores(_seams(_speechlike(40_000), range(500, 40_000, 500)))
    assert len(scores) == 79
    assert 0.5 < np.median(scores) < 2.0
    assert max(scores) < 4.0


def test_a_jump_at_a_border_is_found_and_only_there():
    samples = _speechlike(40_000)
    samples[20_000:] += 8_000
    scores = seam_scores(_seams(samples, range(500, 40_000, 500)))
    assert int(np.argmax(scores)) == 39
    assert max(scores) > 4.0 > sorted(scores)[-2]


@given(st.integers(0, 1000), st.sampled_from([2, 3, 5]))
def test_loudness_cancels_out(seed, factor):
    seam = _speechlike(2 * SIDE, seed) // 8
    assert seam_score(seam * factor) == pytest.approx(seam_score(seam))


def test_silence_scores_nothing():
    assert seam_score(np.zeros(2 * SIDE, np.int16)) == 0.0


def test_a_seam_holds_the_samples_around_its_border():
    samples = np.arange(3_000, dtype=np.int16)
    (first, second) = _seams(samples, [1_000, 2_000])
    np.testing.assert_array_equal(first, samples[1_000 - SIDE : 1_000 + SIDE])
    np.testing.assert_array_equal(second, samples[2_000 - SIDE : 2_000 + SIDE])


def test_chunks_shorter_than_a_side_have_no_seam():
    assert len(_seams(np.zeros(1_000, np.int16), [10, 20, 500])) == 1
