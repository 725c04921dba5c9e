"""The delay pattern and the sampler, replayed on recorded logits of MOSS-TTSD v0.7."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.runtime.config import LmConfig, TokenIds
from duologue.runtime.core import ChannelSampling, Logits
from duologue.runtime.lm.processors import process_scores
from duologue.runtime.lm.sampling import choose
from duologue.runtime.lm.sequence import Sequence, new_sequence

DATA = Path(__file__).parent / "data" / "lm_scaled" / "golden"
SUMMARY = json.loads((DATA / "summary.json").read_text())
LM = LmConfig(
    vocab_sizes=(350, *[65] * 7),
    delays=tuple(range(8)),
    hidden_size=48,
    intermediate_size=96,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=8,
)
TOKENS = TokenIds(
    speech_start=278, speech_stop=342, end_of_speech=347, pad=256, speech_pad=64, eos=(256,)
)
GREEDY_CASES = ["b1_text", "b1_prompt13", "b1_prompt3", "b3_mixed", "b3_prompt"]


def _sampling(case: str) -> tuple[ChannelSampling, ...]:
    layers = SUMMARY[case]["layers"] or [{}] * 8
    return tuple(ChannelSampling(do_sample=False, **_known(layer)) for layer in layers)


def _known(layer: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in layer.items() if v is not None}


def _sequence(golden: Any, row: int, case: str) -> Sequence:
    frames = len(golden["sequences"][row]) - int(golden["base_length"]) - 7
    return new_sequence(
        golden[f"unshifted_{row}"],
        lm=LM,
        tokens=TOKENS,
        sampling=_sampling(case),
        seed=0,
        max_frames=frames,
        min_frames=1,
        max_rows=4096,
        codebook_size=64,
    )


def _step_logits(golden: Any, step: int, rows: list[int]) -> Logits:
    ch0 = golden["logits_ch0"][step, rows]
    rest = golden["logits_ch1_7"][step, rows].reshape(len(rows), -1)
    return Logits(np.concatenate([ch0, rest], axis=1), LM.logit_offsets)


def _replay(golden: Any, case: str, rows: list[int]) -> list[Sequence]:
    """Choose every id of the given rows from the recorded logits, in one batch."""
    sequences = {row: _sequence(golden, row, case) for row in rows}
    for step in range(len(golden["logits_ch0"])):
        alive = [row for row in rows if not sequences[row].is_finished]
        if not alive:
            break
        batch = [sequences[row] for row in alive]
        chosen = choose(_step_logits(golden, step, alive), batch)
        for sequence, ids in zip(batch, chosen, strict=True):
            sequence.append(ids)
    return [sequences[row] for row in rows]


@pytest.mark.parametrize("case", list(SUMMARY))
def test_the_delayed_prompt_equals_the_recorded_grid(case: str) -> None:
    golden = np.load(DATA / f"{case}.npz")
    for row in range(len(golden["input_ids"])):
        sequence = _sequence(golden, row, case)
        delayed = np.concatenate([sequence.prompt_rows, sequence.state.forced])
        live = golden["attention_mask"][row] > 0
        np.testing.assert_array_equal(delayed, golden["input_ids"][row][live])


@pytest.mark.parametrize("case", GREEDY_CASES)
def test_greedy_ids_and_frames_equal_the_recorded_ones(case: str) -> None:
    golden = np.load(DATA / f"{case}.npz")
    base = int(golden["base_length"])
    rows = list(range(len(golden["sequences"])))
    for row, sequence in zip(rows, _replay(golden, case, rows), strict=True):
        new_rows = np.stack(sequence.new_rows)
        np.testing.assert_array_equal(new_rows, golden["sequences"][row][base:][: len(new_rows)])
        np.testing.assert_array_equal(sequence.take_frames().T, golden[f"speech_{row}"])


@pytest.mark.parametrize("case", GREEDY_CASES)
def test_a_row_alone_gives_the_same_ids_as_in_its_batch(case: str) -> None:
    golden = np.load(DATA / f"{case}.npz")
    rows = list(range(len(golden["sequences"])))
    together = _replay(golden, case, rows)
    for row in rows:
        (alone,) = _replay(golden, case, [row])
        np.testing.assert_array_equal(alone.new_rows, together[row].new_rows)


@pytest.mark.parametrize("case", ["b3_reppen_greedy", "b2_sampled_seed42"])
def test_processed_scores_equal_the_recorded_ones(case: str) -> None:
    """Left-padded rows of the recording have the pad id of channel 0 in their history; ours have
    no padding, so that one id is left out there."""
    golden = np.load(DATA / f"{case}.npz")
    sampling = _sampling(case)
    base = int(golden["base_length"])
    for row in range(len(golden["sequences"])):
        is_padded = bool((golden["attention_mask"][row] == 0).any())
        sequence = _sequence(golden, row, case)
        for step in range(len(golden["logits_ch0"])):
            logits = _step_logits(golden, step, [row])
            for channel in range(8):
                seen = sequence.seen[logits.offsets[channel] : logits.offsets[channel + 1]][None]
                ours = process_scores(logits.channel(channel).copy(), [sampling[channel]], seen)[0]
                theirs = golden["scores_ch0" if channel == 0 else "scores_ch1_7"][step, row]
                theirs = theirs if channel == 0 else theirs[channel - 1]
                compared = np.ones(len(ours), dtype=bool)
                if channel == 0 and is_padded:
                    compared[TOKENS.pad] = False
                np.testing.assert_allclose(ours[compared], theirs[compared], rtol=0, atol=1e-5)
            written = golden["sequences"][row][base + step]
            sequence.seen[written + np.asarray(LM.logit_offsets[:-1])] = True


def test_repetition_penalty_with_argmax_gives_the_recorded_ids() -> None:
    golden = np.load(DATA / "b3_reppen_greedy.npz")
    base = int(golden["base_length"])
    for row, sequence in enumerate(_replay(golden, "b3_reppen_greedy", [0, 1, 2])):
        new_rows = np.stack(sequence.new_rows)
        np.testing.assert_array_equal(new_rows, golden["sequences"][row][base:][: len(new_rows)])
        np.testing.assert_array_equal(sequence.take_frames().T, golden[f"speech_{row}"])
