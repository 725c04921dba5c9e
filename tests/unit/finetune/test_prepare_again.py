"""What a second call of `prepare` on the same folder does."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duologue.build_engines.moss_ttsd import PROMPT
from duologue.build_engines.random_tokenizer import write_byte_tokenizer
from duologue.finetune.dataset import DATASET_FILE, SpeechDataset
from duologue.finetune.errors import DataError
from duologue.finetune.prepare import PrepareReport, TextSide, file_encoder, prepare
from duologue.finetune.prepare_plan import PLAN_FILE
from duologue.runtime.config import TokenIds
from duologue.runtime.text.tokenizer import TextTokenizer

TOKENS = TokenIds(
    speech_start=278, speech_stop=282, end_of_speech=287, pad=256, speech_pad=4, eos=()
)


@pytest.fixture(scope="module")
def text_side(tmp_path_factory: pytest.TempPathFactory) -> TextSide:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_byte_tokenizer(folder, 4)
    tokenizer = TextTokenizer.from_file(folder / "tokenizer.json")
    return TextSide(TOKENS, PROMPT, tokenizer, num_channels=2, tokenizer_sha256="a1")


def _jsonl(folder: Path, count: int) -> Path:
    """Lines whose recordings are still to be put there; example n has n + 1 frames."""
    lines = [{"file_path": f"{n}.npy", "full_transcript": f"[S1]{n}"} for n in range(count)]
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _record(folder: Path, *numbers: int) -> None:
    for number in numbers:
        np.save(folder / f"{number}.npy", np.zeros((2, number + 1), np.int64))


def _run(path: Path, text_side: TextSide, **options: Any) -> PrepareReport:
    encode = options.pop("encode", file_encoder(None))
    source = options.pop("source", "test")
    return prepare(path, path.parent / "out", text_side, encode, source=source, **options)


def _frames(folder: Path) -> list[int]:
    dataset = SpeechDataset(folder / "out")
    return [int((dataset[n].labels[:, 1] >= 0).sum()) for n in range(len(dataset))]


def test_nothing_but_unfit_lines_stays_an_error(tmp_path: Path, text_side: TextSide) -> None:
    path = _jsonl(tmp_path, 1)
    for _ in range(2):
        with pytest.raises(DataError, match=r"no line of .* is fit: line 1: .*0\.npy"):
            _run(path, text_side)
        assert not (tmp_path / "out" / DATASET_FILE).exists()
    _record(tmp_path, 0)
    assert _run(path, text_side) == PrepareReport(1, 1, ())
    assert _frames(tmp_path) == [1]


def test_a_folder_without_any_example_may_be_begun_anew(
    tmp_path: Path, text_side: TextSide
) -> None:
    with pytest.raises(DataError, match="no line of"):
        _run(_jsonl(tmp_path, 3), text_side, source="None", shard_size=2)
    _record(tmp_path, 0, 1)
    path = _jsonl(tmp_path, 2)
    assert _run(path, text_side, source="codec").num_examples == 2
    assert _frames(tmp_path) == [1, 2]


def test_lines_that_were_left_out_are_tried_again_and_told(
    tmp_path: Path, text_side: TextSide
) -> None:
    path = _jsonl(tmp_path, 5)
    _record(tmp_path, 1, 3)
    first = _run(path, text_side, shard_size=3)
    assert (first.num_examples, [s.line for s in first.skipped]) == (2, [1, 3, 5])
    assert _run(path, text_side, shard_size=3) == replace(
        first, num_examples=0, num_resumed_shards=2
    )
    _record(tmp_path, 0, 4)
    tried: list[str] = []

    def encode(audio: Path) -> Any:
        tried.append(audio.name)
        return file_encoder(None)(audio)

    third = _run(path, text_side, shard_size=3, encode=encode)
    assert (third.num_examples, third.num_resumed_shards) == (2, 2)
    assert [skipped.line for skipped in third.skipped] == [3]
    assert tried == ["0.npy", "2.npy", "4.npy"]
    assert _frames(tmp_path) == [1, 2, 4, 5]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    waves=st.permutations(range(6)).flatmap(
        lambda order: st.tuples(st.just(order), st.sets(st.integers(1, 5)))
    ),
    shard_size=st.integers(1, 7),
)
def test_in_whatever_order_recordings_come_the_dataset_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    text_side: TextSide,
    waves: tuple[list[int], set[int]],
    shard_size: int,
) -> None:
    folder = tmp_path_factory.mktemp("waves")
    path = _jsonl(folder, 6)
    order, cuts = waves
    borders = [0, *sorted(cuts), 6]
    for start, stop in itertools.pairwise(borders):
        _record(folder, *order[start:stop])
        report = _run(path, text_side, shard_size=shard_size)
        assert report.num_examples == stop - start
        assert len(report.skipped) == 6 - stop
        assert _frames(folder) == [n + 1 for n in sorted(order[:stop])]


@pytest.fixture
def older(tmp_path: Path, text_side: TextSide) -> Path:
    """A folder of the time when lines that were left out were not written down."""
    path = _jsonl(tmp_path, 2)
    _record(tmp_path, 1)
    _run(path, text_side)
    (tmp_path / "out" / "shard-00000.skipped.json").unlink()
    return path


def test_an_older_shard_with_lines_left_out_is_made_again(older: Path, text_side: TextSide) -> None:
    assert _frames(older.parent) == [2]
    _record(older.parent, 0)
    assert _run(older, text_side) == PrepareReport(1, 1, ())
    assert _frames(older.parent) == [1, 2]


def test_an_older_shard_whose_recordings_are_gone_is_kept(older: Path, text_side: TextSide) -> None:
    (older.parent / "1.npy").unlink()
    with pytest.raises(DataError, match=r"shard-00000 holds 1 example.*now 0 .*line 1: "):
        _run(older, text_side)
    assert _frames(older.parent) == [2]


def _reading(side: TextSide, **changes: Any) -> TextSide:
    return replace(side, prompt=replace(side.prompt, **changes))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer_sha256", lambda side: replace(side, tokenizer_sha256="b2")),
        ("reading", lambda side: _reading(side, reading="pinyin")),
        ("template", lambda side: _reading(side, template="{system}:{text}")),
        ("speaker_tokens", lambda side: _reading(side, speaker_tokens=("<speaker2>",))),
        ("speech_pad", lambda side: replace(side, tokens=replace(TOKENS, speech_pad=3))),
        ("rules", lambda side: replace(side, rules="v1.0")),
    ],
)
def test_a_folder_begun_with_another_text_side_is_refused(
    tmp_path: Path, text_side: TextSide, name: str, change: Any
) -> None:
    path = _jsonl(tmp_path, 1)
    _record(tmp_path, 0)
    _run(path, text_side)
    with pytest.raises(DataError, match=f"begun with another {name};"):
        _run(path, change(text_side))


def test_a_codec_is_known_by_its_weights(tmp_path: Path, text_side: TextSide) -> None:
    path = _jsonl(tmp_path, 1)
    _record(tmp_path, 0)
    _run(path, text_side, source="a", source_sha256="a1")
    with pytest.raises(DataError, match="begun with another codec_sha256;"):
        _run(path, text_side, source="a", source_sha256="b2")
    with pytest.raises(DataError, match="begun with another codec;"):
        _run(path, text_side, source="None")
    # The same codec in another place is the same codec.
    assert _run(path, text_side, source="b", source_sha256="a1").num_resumed_shards == 1


def test_a_folder_begun_before_more_was_written_down_goes_on(
    tmp_path: Path, text_side: TextSide
) -> None:
    path = _jsonl(tmp_path, 1)
    _record(tmp_path, 0)
    _run(path, text_side)
    plan = tmp_path / "out" / PLAN_FILE
    known = json.loads(plan.read_text())
    kept = ("jsonl_sha256", "codec", "rules", "num_channels", "speech_start", "end_of_speech")
    plan.write_text(json.dumps({name: known[name] for name in (*kept, "shard_size")}))
    with pytest.raises(DataError, match="begun with another codec;"):
        _run(path, text_side, source="other", source_sha256="a1")
    _run(path, text_side, source_sha256="a1")
    # From now on the folder is held to what went on with it.
    with pytest.raises(DataError, match="begun with another reading;"):
        _run(path, _reading(text_side, reading="pinyin"), source_sha256="a1")


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_plan_is_named(tmp_path: Path, text_side: TextSide, content: str) -> None:
    path = _jsonl(tmp_path, 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / PLAN_FILE).write_text(content)
    with pytest.raises(DataError, match=r"prepare\.json"):
        _run(path, text_side)


def test_what_a_folder_is_for_is_written_whole_or_not_at_all(
    tmp_path: Path, text_side: TextSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _jsonl(tmp_path, 1)

    def full(self: Path, *args: Any, **options: Any) -> None:
        with self.open("w"):
            raise OSError("no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="no space"):
            _run(path, text_side)
    _record(tmp_path, 0)
    assert _run(path, text_side).num_examples == 1


def test_all_that_settles_the_ids_is_written_down(text_side: TextSide) -> None:
    known = set(text_side.facts)
    assert {field.name for field in dataclasses.fields(TokenIds)} - known == {"eos"}
    assert {field.name for field in dataclasses.fields(PROMPT)} <= known
