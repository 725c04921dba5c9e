from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import ChannelSampling, Logits, SamplingOverrides
from duologue.runtime.errors import RequestError
from duologue.runtime.lm.candidates import Candidates, draw
from duologue.runtime.lm.draws import SeededDraws
from duologue.runtime.lm.processors import find_candidates, process_scores, sampling_table
from duologue.runtime.lm.sampling import choose, resolve_sampling
from duologue.runtime.lm.sequence import Sequence, new_sequence

VOCAB = 40
settings_of_a_channel = st.builds(
    ChannelSampling,
    do_sample=st.booleans(),
    temperature=st.none() | st.sampled_from([0.1, 0.7, 1.3]),
    top_k=st.none() | st.integers(1, VOCAB + 5),
    top_p=st.none() | st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    repetition_penalty=st.none() | st.sampled_from([0.5, 1.1, 2.0]),
)


def _reference(scores: np.ndarray, history: list[int], sampling: ChannelSampling) -> np.ndarray:
    """The processors of transformers, in the order of the reference model."""
    chain = LogitsProcessorList()
    if sampling.repetition_penalty is not None:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature is not None:
        chain.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k is not None:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None:
        chain.append(TopPLogitsWarper(sampling.top_p))
    return chain(torch.tensor([history]), torch.tensor(scores)[None]).numpy()[0]


def _candidates(scores: np.ndarray, channels: list[ChannelSampling]) -> Candidates:
    offsets = tuple(range(0, scores.size + 1, scores.shape[1]))
    return find_candidates(Logits(scores.reshape(1, -1), offsets), sampling_table(channels))


def _plain_id(
    scores: np.ndarray, sampling: ChannelSampling, uniform: float, seen: np.ndarray | None = None
) -> int:
    """The rules for one row, one after the other, over the whole vocabulary."""
    if seen is not None and sampling.repetition_penalty is not None:
        penalty = np.float32(sampling.repetition_penalty)
        penalised = np.where(scores < 0, scores * penalty, scores / penalty)
        scores = np.where(seen, penalised, scores)
    scores = scores / np.float32(sampling.temperature or 1.0)
    if not sampling.do_sample:
        return int(scores.argmax())
    order = np.argsort(-scores, kind="stable")[: np.isfinite(scores).sum()]
    ranked = scores[order]
    ranked = ranked[ranked >= ranked[min(sampling.top_k or len(ranked), len(ranked)) - 1]]
    weights = np.exp(ranked.astype(np.float64) - ranked[0])
    mass = np.cumsum(weights)
    last = len(ranked) - 1
    if sampling.top_p is not None and sampling.top_p < 1.0:
        last = int((mass < sampling.top_p * mass[-1]).sum())
    return int(order[min(last, int((mass <= uniform * mass[last]).sum()))])


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores.astype(np.float64) - scores.max())
    return weights / weights.sum()


@settings(deadline=None)
@given(st.lists(settings_of_a_channel, min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_processors_equal_those_of_transformers(channels: list[ChannelSampling], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (len(channels), VOCAB)).astype(np.float32)
    scores[:, 3] = -np.inf
    histories = [rng.integers(0, VOCAB, 12).tolist() for _ in channels]
    seen = np.zeros(scores.shape, dtype=bool)
    for row, history in enumerate(histories):
        seen[row, history] = True
    ours = process_scores(scores, channels, seen)
    for row, sampling in enumerate(channels):
        theirs = _reference(scores[row], histories[row], sampling)
        both = np.isfinite(ours[row]) & np.isfinite(theirs)
        np.testing.assert_allclose(ours[row][both], theirs[both], rtol=1e-6)
        # Transformers also drops ids whose probability underflows; that may not matter.
        np.testing.assert_allclose(_softmax(ours[row]), _softmax(theirs), atol=1e-6)


@settings(deadline=None)
@given(st.lists(settings_of_a_channel, min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_a_row_does_not_depend_on_its_neighbours(
    channels: list[ChannelSampling], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (len(channels), VOCAB)).round(1).astype(np.float32)
    uniforms = rng.random(len(channels))
    together = draw(_candidates(scores, channels), uniforms)
    for row, sampling in enumerate(channels):
        alone = _candidates(scores[row : row + 1], [sampling])
        assert draw(alone, uniforms[row : row + 1])[0] == together[row]


@settings(deadline=None)
@given(
    st.sampled_from([(1.0, 2.0**-23), (-1.0, 2.0**-23), (0.0, 2.0**-149), (3e-38, 2.0**-149)]),
    st.sampled_from([0.6, 1.3, 7.0, 100.0]),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
)
def test_scores_that_a_temperature_makes_equal_are_ties(
    numbers: tuple[float, float], temperature: float, top_k: int, seed: int
) -> None:
    """The k best are looked for before the division, which may round neighbours to one number."""
    base, step = np.array(numbers, dtype=np.float32)
    rng = np.random.default_rng(seed)
    scores = base + step * rng.integers(-60, 60, (3, 400)).astype(np.float32)
    sampling = ChannelSampling(temperature=temperature, top_k=top_k)
    uniforms = rng.random(3)
    drawn = draw(_candidates(scores, [sampling] * 3), uniforms)
    wanted = [_plain_id(row, sampling, u) for row, u in zip(scores, uniforms, strict=True)]
    assert drawn.tolist() == wanted


def _sequences(sizes: list[int], channels: list[ChannelSampling], count: int) -> list[Sequence]:
    lm = LmConfig(tuple(sizes), tuple(range(len(sizes))), 2, 2, 1, 1, 1, 2)
    tokens = TokenIds(speech_start=0, speech_stop=6, end_of_speech=6, pad=7, speech_pad=3, eos=(7,))
    return [
        new_sequence(
            np.full((9, len(sizes)), seed),
            lm=lm,
            tokens=tokens,
            sampling=tuple(channels),
            seed=seed,
            max_frames=50,
            min_frames=1,
            max_rows=100,
            codebook_size=5,
        )
        for seed in range(count)
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(8, 300), st.integers(1, 3), settings_of_a_channel),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2]),
)
def test_the_ids_of_a_step_are_those_of_the_plain_rules(
    channels: list[tuple[int, int, ChannelSampling]], seed: int, digits: int
) -> None:
    sizes = [size for size, times, _ in channels for _ in range(times)]
    sampling = [one for _, times, one in channels for _ in range(times)]
    sequences = _sequences(sizes, sampling, 3)
    offsets = (0, *np.cumsum(sizes).tolist())
    values = np.random.default_rng(seed).normal(0, 3, (3, offsets[-1])).round(digits)
    logits = Logits(values.astype(np.float32), offsets)
    chosen = choose(logits, sequences)
    for row, sequence in enumerate(sequences):
        for channel, one in enumerate(sampling):
            scores = logits.channel(channel)[row].copy()
            scores[[place for of, place in sequence.state.forbidden() if of == channel]] = -np.inf
            seen = None
            if sequence.seen is not None:
                seen = sequence.seen[offsets[channel] : offsets[channel + 1]]
            uniform = sequence.draws.row(0)[channel]
            assert _plain_id(scores, one, uniform, seen) == chosen[row, channel]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_large_vocabularies_are_folded_to_the_same_ids(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = [1, 50, 299, 300, None]
    sampling = [ChannelSampling(temperature=0.6, top_k=top_k, top_p=0.9) for top_k in limits]
    sizes = [5000, 1025, 1025, 300, 300]
    offsets = (0, *np.cumsum(sizes).tolist())
    sequences = _sequences(sizes, sampling, 2)
    values = rng.normal(0, 3, (2, offsets[-1])).astype(np.float32)
    # The best of a row may be banned.
    values[:, [offset + 3 for offset in offsets[:-1]]] = 100.0
    for sequence in sequences:
        sequence.state.step = 5
    chosen = choose(Logits(values, offsets), sequences)
    for row, sequence in enumerate(sequences):
        for channel, one in enumerate(sampling):
            scores = values[row, offsets[channel] : offsets[channel + 1]].copy()
            scores[[place for of, place in sequence.state.forbidden() if of == channel]] = -np.inf
            uniform = sequence.draws.row(5)[channel]
            assert _plain_id(scores, one, uniform) == chosen[row, channel]


def test_draws_follow_the_probabilities() -> None:
    scores = np.log(np.array([[0.5, 0.2, 0.3]], dtype=np.float32))
    uniforms = (np.arange(1000) + 0.5) / 1000
    scores = np.repeat(scores, 1000, axis=0)
    drawn = draw(_candidates(scores, [ChannelSampling()] * 1000), uniforms)
    np.testing.assert_array_equal(np.bincount(drawn), [500, 200, 300])


def test_the_last_uniform_below_one_stays_inside_the_candidates() -> None:
    scores = np.array([[0.0, -np.inf, 0.0]], dtype=np.float32)
    candidates = _candidates(scores, [ChannelSampling()])
    assert draw(candidates, np.array([np.nextafter(1.0, 0.0)]))[0] == 2


def test_draws_are_addressed_by_step_not_by_order() -> None:
    forward, backward = SeededDraws(7, 8), SeededDraws(7, 8)
    steps = list(range(0, 300, 7))
    rows = {step: forward.row(step).copy() for step in steps}
    for step in reversed(steps):
        np.testing.assert_array_equal(backward.row(step), rows[step])
    assert not np.array_equal(SeededDraws(8, 8).row(0), rows[0])


def test_overrides_change_only_what_they_name() -> None:
    defaults = (ChannelSampling(True, 1.0, 50, 0.9, None), ChannelSampling(False, 0.5))
    resolved = resolve_sampling(defaults, SamplingOverrides(temperature=0.7))
    assert resolved == (ChannelSampling(True, 0.7, 50, 0.9, None), ChannelSampling(False, 0.7))
    greedy = resolve_sampling(defaults, SamplingOverrides(greedy=True))
    assert [channel.do_sample for channel in greedy] == [False, False]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (SamplingOverrides(temperature=0.0), "temperature"),
        (SamplingOverrides(temperature=float("nan")), "temperature"),
        (SamplingOverrides(top_p=1.5), "top_p"),
        (SamplingOverrides(top_k=0), "top_k"),
        (SamplingOverrides(repetition_penalty=-1.0), "repetition_penalty"),
        (SamplingOverrides(channels=(ChannelSampling(),)), "channels"),
    ],
)
def test_a_value_out_of_range_is_named(overrides: SamplingOverrides, named: str) -> None:
    with pytest.raises(RequestError, match=named):
        resolve_sampling((ChannelSampling(), ChannelSampling()), overrides)
