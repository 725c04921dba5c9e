# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from evaluation_standins import TEXTS

from duologue.finetune.evaluate import full_run, held_out_texts
from duologue.finetune.evaluate.evaluation import Evaluation
from duologue.finetune.evaluate.suites import Sizes
from duologue.finetune.speech_data import espeak


@pytest.fixture
def asked(monkeypatch):
    """What the verb hands on; the work itself has tests of its own."""
    seen = []

    def evaluate(plan, texts, cache, open_door, on_progress):
        on_progress("speaking", 1, 2)
        seen.append((plan, cache, open_door))
        if open_door is not None:
            with open_door() as door:
                seen.append((door.name, door.say("[S1]Hello.", 3)))
        return Evaluation("default", {}, ())

    monkeypatch.setattr(espeak, "require_espeak", lambda: None)
    monkeypatch.setattr(held_out_texts, "load_texts", lambda: TEXTS)
    monkeypatch.setattr(full_run, "evaluate_fully", evaluate)
    return seen


def test_every_option_reaches_the_plan(house, asked, tmp_path):
    state = tmp_path / "trainer_state.json"
    options = ["--bundle", "noise", "--card", tmp_path, "--quick", "--greedy", "--seed", 5]
    options += ["--engine", "torch", "--streams", 3, "--processes", 4, "--no-real-time"]
    options += ["--trainer-state", state, "--trainer-state", state, "--out", tmp_path / "out"]
    result = house.run("train", "eval", *options)
    assert result.exit_code == 0, result.output
    assert "| promise | goal |" in result.stdout
    ((plan, cache, open_door),) = asked
    speaking = plan.speaking
    assert (speaking.bundle, speaking.engine, speaking.num_streams) == ("noise", "torch", 3)
    assert (speaking.greedy, speaking.seed) == (True, 5)
    assert (plan.sizes, plan.card_dir) == (Sizes.quick(), tmp_path)
    assert plan.trainer_states == (state, state)
    assert cache.num_workers == 4
    assert cache.folder == tmp_path / "out" / "espeak"
    assert open_door is None


def test_real_time_is_taken_through_a_server_of_our_own(house, asked, tmp_path):
    result = house.run("train", "eval", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert asked[1] == ("through Triton", 1.5)
    assert house.server.was_running
    assert not house.server.is_running
    assert house.client.asked[0][1]["seed"] == 3


def test_without_triton_the_table_says_so(house, asked, tmp_path):
    house.reason = "no Triton here"
    assert house.run("train", "eval", "--out", tmp_path).exit_code == 0
    assert asked[1] == ("in one process, without Triton", 1.5)
