# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import numpy as np
import pytest

from duologue.benchmarks.workload import (
    LENGTHS_S,
    WITH_VOICES,
    WORKLOAD_DIR,
    CodeShape,
    load_workload,
    workload_names,
)
from duologue.client.errors import RequestError
from duologue.runtime.text.script import parse_script

SHAPE = CodeShape(num_codebooks=3, codebook_size=7, frame_rate_hz=12.5)
# Words or characters per second at which people usually speak.
PACE = {"en": (1.8, 3.3), "zh": (3.0, 5.5)}


def test_there_is_a_dialogue_per_language_and_length_with_and_without_voices():
    names = workload_names()
    assert len(names) == len(set(names)) == 16
    assert {load_workload(name).seconds for name in names} == {*LENGTHS_S}
    files = {path.stem for path in WORKLOAD_DIR.glob("*.json")}
    assert files == {name.removesuffix(WITH_VOICES) for name in names} | {"voices"}


@pytest.mark.parametrize("name", workload_names())
def test_a_workload_is_a_script_of_about_its_length(name):
    workload = load_workload(name)
    script = parse_script(workload.script, max_speakers=2, max_bytes=200_000)
    assert [turn.speaker for turn in script.turns[:3]] == [1, 2, 1]
    text = " ".join(turn.text for turn in script.turns)
    pattern = r"[\w']+" if workload.language == "en" else r"[\u4e00-\u9fff]"
    slowest, fastest = PACE[workload.language]
    assert slowest < len(re.findall(pattern, text)) / workload.seconds < fastest
    assert bool(workload.voices) == name.endswith(WITH_VOICES)


def test_voices_fit_the_model_and_are_the_same_again():
    workload = load_workload("zh_30s_voices")
    first, again = (workload.options(SHAPE, 5)["voices"] for _ in range(2))
    assert [*first] == [1, 2]
    for speaker, voice in first.items():
        assert voice.codes.shape == (3, 100)
        assert 0 <= voice.codes.min() <= voice.codes.max() < 7
        assert voice.transcript
        np.testing.assert_array_equal(voice.codes, again[speaker].codes)
    assert not np.array_equal(first[1].codes, first[2].codes)


def test_frames_are_capped_at_the_workload_s_length_or_below():
    workload = load_workload("en_30s")
    assert workload.options(SHAPE, 1) == {"voices": {}, "seed": 1, "max_frames": 375}
    assert workload.options(SHAPE, 1, 2.0)["max_frames"] == 25
    assert workload.options(SHAPE, 1, 1e9)["max_frames"] == 375


def test_unknown_workloads_are_refused_by_name():
    with pytest.raises(RequestError, match=r"en_31s.*allowed.*en_30s"):
        load_workload("en_31s")
