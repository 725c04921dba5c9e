"""The rules on the device give the ids that the host's rules give."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.runtime.backbone.device import DeviceSequence
from duologue.runtime.backbone.torch_columns import head_columns
from duologue.runtime.backbone.torch_rules import NUM_CANDIDATES, advance, ban, can_choose, choose
from duologue.runtime.backbone.torch_states import SlotStates
from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import ChannelSampling, Logits
from duologue.runtime.device_blocks import _describe
from duologue.runtime.errors import ConfigError, EngineError
from duologue.runtime.lm.sampling import choose as choose_on_host
from duologue.runtime.lm.sequence import Sequence, new_sequence

SPEECH_START, NUM_CODES = 300, 20
LM = LmConfig(
    vocab_sizes=(330, NUM_CODES + 1, NUM_CODES + 1, NUM_CODES + 1),
    delays=(0, 1, 1, 3),
    hidden_size=8,
    intermediate_size=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
)
TOKENS = TokenIds(
    speech_start=SPEECH_START,
    speech_stop=SPEECH_START + NUM_CODES,
    end_of_speech=325,
    pad=0,
    speech_pad=NUM_CODES,
    eos=(0,),
)
CPU = torch.device("cpu")
COLUMNS = head_columns(LM)
# Settings as far from the neutral as a request may ask.
CHANNELS = [
    ChannelSampling(do_sample=False),
    ChannelSampling(temperature=0.8, top_k=50, top_p=0.95),
    ChannelSampling(top_k=1),
    ChannelSampling(temperature=3.0, top_k=7, top_p=0.3, repetition_penalty=1.3),
    ChannelSampling(top_k=150, repetition_penalty=0.7),
    ChannelSampling(do_sample=False, repetition_penalty=2.0, temperature=0.5),
    ChannelSampling(temperature=0.05, top_k=100),
]
SMALL_ONLY = [ChannelSampling(), ChannelSampling(top_p=0.5), ChannelSampling(temperature=9.0)]


def make_sequence(rng: np.random.Generator, end_chance: float = 0.1) -> Sequence:
    num_rows = int(rng.integers(1, 9))
    prompt = np.stack([rng.integers(0, size, num_rows) for size in LM.vocab_sizes], axis=1)
    first = CHANNELS[rng.integers(len(CHANNELS))]
    rest = [(CHANNELS + SMALL_ONLY)[n] for n in rng.integers(0, len(CHANNELS + SMALL_ONLY), 3)]
    return new_sequence(
        prompt,
        lm=LM,
        tokens=TOKENS,
        sampling=(first, *rest),
        seed=int(rng.integers(1000)),
        max_frames=int(rng.integers(1, 12)),
        min_frames=1,
        max_rows=40,
        codebook_size=NUM_CODES,
    )


def scores_of(rng: np.random.Generator, kind: str) -> Logits:
    values = rng.normal(0, 2, (1, LM.logit_offsets[-1])).astype(np.float32)
    values[0, SPEECH_START : SPEECH_START + NUM_CODES] += 6
    if rng.random() < 0.15:
        values[0, 325] += 12
    if kind == "coarse":
        # As bfloat16 heads give them: ties, zeros of both signs.
        values = np.round(values * 2) / 2
    return Logits(values, LM.logit_offsets)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["fine", "coarse"]))
def test_a_whole_life_on_the_device_is_that_on_the_host(seed: int, kind: str) -> None:
    """Two sequences side by side, from their first row to behind their end."""
    rng = np.random.default_rng(seed)
    torch.set_num_threads(1)
    states = SlotStates(LM, COLUMNS, max_slots=5, device=CPU)
    sequences = {slot: make_sequence(rng) for slot in (3, 1)}
    for slot, sequence in sequences.items():
        sequence.append(choose_on_host(scores_of(rng, kind), [sequence])[0])
        states.seat(slot, len(sequence.prompt_rows), _describe(sequence))
    places, delays = torch.tensor([3, 5, 1]), torch.tensor(LM.delays)
    for _ in range(18):
        logits = {slot: scores_of(rng, kind) for slot in sequences}
        view = states.look(places, has_history=True)
        was_active = view.is_active.tolist()
        alive = {slot: not sequence.is_finished for slot, sequence in sequences.items()}
        assert was_active == [alive[3], False, alive[1]]
        idle = np.zeros_like(logits[3].values)
        scores = torch.tensor(np.concatenate([logits[3].values, idle, logits[1].values]))
        uniforms = np.zeros((3, LM.num_channels))
        for row, slot in ((0, 3), (2, 1)):
            uniforms[row] = sequences[slot].draws.row(sequences[slot].state.step)
        columns = choose(ban(scores, view, delays), view, torch.tensor(uniforms), COLUMNS)
        after = advance(columns, view, delays, LM)
        states.write(places, view, after)
        for row, slot in ((0, 3), (2, 1)):
            if alive[slot]:
                wanted = choose_on_host(logits[slot], [sequences[slot]])[0]
                np.testing.assert_array_equal(columns[row], wanted)
                sequences[slot].append(wanted)
                np.testing.assert_array_equal(after.row[row], sequences[slot].new_rows[-1])
                assert int(after.step[row]) == sequences[slot].state.step
                left = sequences[slot].state.rows_to_drain
                assert int(after.left[row]) == (-1 if left is None else left)
    assert all(sequence.is_finished for sequence in sequences.values())


def test_a_choice_that_needs_more_candidates_is_left_to_the_host() -> None:
    def fits(**changes: Any) -> bool:
        sequence = make_sequence(np.random.default_rng(0))
        channels = (ChannelSampling(**changes), *[ChannelSampling()] * 3)
        return can_choose(COLUMNS, dataclasses.replace(sequence, sampling=channels).sampling_table)

    assert LM.vocab_sizes[0] > NUM_CANDIDATES
    assert fits(top_k=50)
    assert fits(do_sample=False)
    assert not fits()
    assert not fits(top_k=NUM_CANDIDATES)


@pytest.mark.parametrize("kept", [[(290, 330)], [(0, 2), (300, 320), (325, 326)]])
def test_some_columns_choose_as_all_where_the_others_cannot_win(kept: list[Any]) -> None:
    rng = np.random.default_rng(4)
    few = head_columns(LM, kept)
    delays, uniforms = torch.tensor(LM.delays), torch.tensor(rng.random((1, 4)))
    sequence = make_sequence(rng)
    sequence = dataclasses.replace(
        sequence, sampling=(ChannelSampling(top_k=10),) * 4, seen=None, max_frames=30
    )
    sequence.append(np.array([SPEECH_START, 1, 2, 3]))
    chosen = []
    for columns in (COLUMNS, few):
        states = SlotStates(LM, columns, max_slots=1, device=CPU)
        states.seat(0, 5, _describe(sequence))
        view = states.look(torch.tensor([0]), has_history=False)
        values = scores_of(np.random.default_rng(1), "fine").values
        values[:, :SPEECH_START] -= 30
        scores = ban(torch.tensor(values[:, columns.rows]), view, delays)
        places = choose(scores, view, uniforms, columns)
        first = torch.tensor(columns.offsets[:-1])
        chosen.append(columns.ids[(places + first).numpy()].tolist())
    assert chosen[0] == chosen[1]


def test_an_end_of_speech_that_is_not_scored_is_refused() -> None:
    sequence = make_sequence(np.random.default_rng(0))
    sequence.append(np.array([SPEECH_START, 1, 2, 3]))
    states = SlotStates(LM, head_columns(LM, [(300, 320)]), max_slots=1, device=CPU)
    with pytest.raises(EngineError, match="end of speech is id 325"):
        states.seat(0, 5, _describe(sequence))


@pytest.mark.parametrize("ranges", [[], [(3, 3)], [(5, 9), (8, 10)], [(9, 12), (1, 2)], [(0, 331)]])
def test_ranges_that_cannot_be_meant_are_refused(ranges: list[Any]) -> None:
    with pytest.raises(ConfigError, match="channel0_ids"):
        head_columns(LM, ranges)


def test_what_a_device_is_told_is_what_the_host_knows() -> None:
    sequence = make_sequence(np.random.default_rng(2))
    sequence.append(np.array([SPEECH_START, 1, 2, 3]))
    told: DeviceSequence = _describe(sequence)
    assert told.max_steps == sequence.max_frames + LM.max_delay
    assert (told.num_steps, told.rows_to_drain) == (1, None)
    assert told.forced.shape == (LM.max_delay, LM.num_channels)
