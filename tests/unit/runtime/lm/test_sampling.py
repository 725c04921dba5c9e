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
from duologue.runtime.lm.draws import SeededDraws
from duologue.runtime.lm.processors import (
    Candidates,
    ScoreBlock,
    draw,
    find_candidates,
    process_scores,
    sampling_table,
)
from duologue.runtime.lm.sampling import choose, resolve_sampling
from duologue.runtime.lm.sequence import Sequence, new_sequence

VOCAB = 40
settings_of_a_channel = st.builds(
    ChannelSampling,
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
    block = ScoreBlock(np.arange(len(scores)), scores)
    return find_candidates([block], sampling_table(channels))


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
@given(st.lists(settings_of_a_channel, min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_a_row_does_not_depend_on_the_block_that_it_stands_in(
    channels: list[ChannelSampling], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (len(channels), VOCAB)).round(1).astype(np.float32)
    # A row of a smaller vocabulary is the same row behind which nothing can be chosen.
    small = rng.permutation(len(channels))[: len(channels) // 2]
    scores[small, VOCAB // 2 :] = -np.inf
    large = np.setdiff1d(np.arange(len(channels)), small)
    blocks = [ScoreBlock(large, scores[large]), ScoreBlock(small, scores[small, : VOCAB // 2])]
    uniforms = rng.random(len(channels))
    apart = find_candidates(
        [block for block in blocks if len(block.rows)], sampling_table(channels)
    )
    together = _candidates(scores, channels)
    np.testing.assert_array_equal(draw(apart, uniforms), draw(together, uniforms))


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
    st.lists(st.tuples(st.integers(8, 300), settings_of_a_channel), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_channels_of_any_sizes_are_chosen_as_if_each_stood_alone(
    channels: list[tuple[int, ChannelSampling]], seed: int
) -> None:
    sizes, sampling = [size for size, _ in channels], [one for _, one in channels]
    sequences = _sequences(sizes, sampling, 3)
    offsets = (0, *np.cumsum(sizes).tolist())
    values = np.random.default_rng(seed).normal(0, 3, (3, offsets[-1])).round(1)
    logits = Logits(values.astype(np.float32), offsets)
    chosen = choose(logits, sequences)
    for row, sequence in enumerate(sequences):
        for channel, one in enumerate(sampling):
            scores = logits.channel(channel)[row : row + 1].copy()
            banned = [place for banned, place in sequence.state.forbidden() if banned == channel]
            scores[:, banned] = -np.inf
            seen = None
            if sequence.seen is not None:
                seen = sequence.seen[None, offsets[channel] : offsets[channel + 1]]
            block = ScoreBlock(np.arange(1), scores, seen)
            alone = find_candidates([block], sampling_table([one]))
            uniform = sequence.draws.row(0)[channel : channel + 1]
            assert draw(alone, uniform)[0] == chosen[row, channel]


def test_draws_follow_the_probabilities() -> None:
    scores = np.log(np.array([[0.5, 0.2, 0.3]], dtype=np.float32))
    uniforms = (np.arange(1000) + 0.5) / 1000
    scores = np.repeat(scores, 1000, axis=0)
    drawn = draw(_candidates(scores, [ChannelSampling()] * 1000), uniforms)
    np.testing.assert_array_equal(np.bincount(drawn), [500, 200, 300])


def test_the_last_uniform_below_one_stays_inside_the_candidates() -> None:
    candidates = Candidates(
        np.array([[0, 2, 1]]), np.array([[0.0, 0.0, -np.inf]], dtype=np.float32)
    )
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
