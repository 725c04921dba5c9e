from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.build_engines.moss_ttsd import PROMPT
from duologue.build_engines.random_tokenizer import write_byte_tokenizer
from duologue.finetune.dataset import SpeechDataset
from duologue.finetune.errors import DataError
from duologue.finetune.prepare import PrepareReport, TextSide, file_encoder, prepare
from duologue.runtime.config import CodecConfig, TokenIds
from duologue.runtime.core import FloatArray, IntArray
from duologue.runtime.text.tokenizer import TextTokenizer

TOKENS = TokenIds(
    speech_start=278, speech_stop=282, end_of_speech=287, pad=256, speech_pad=4, eos=()
)


class _CountingCodec:
    """Two codebooks of four codes, one frame per 10 samples at 100 Hz."""

    config = CodecConfig("counting", 100, 100, 10, 10, 2, 4, 50)

    def encode(self, samples: FloatArray) -> IntArray:
        frames = len(samples) // 10
        return np.arange(2 * frames).reshape(2, frames) % 4

    def decode(self, codes: IntArray) -> FloatArray:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def text_side(tmp_path: Path) -> TextSide:
    write_byte_tokenizer(tmp_path, 4)
    tokenizer = TextTokenizer.from_file(tmp_path / "tokenizer.json")
    return TextSide(TOKENS, PROMPT, tokenizer, num_channels=2)


def _jsonl(folder: Path, items: list[Any]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def _codes(folder: Path, name: str, frames: int) -> str:
    np.save(folder / name, np.full((2, frames), frames % 4))
    return name


def _plain_items(folder: Path, count: int) -> list[Any]:
    return [
        {"file_path": _codes(folder, f"{n}.npy", n + 1), "full_transcript": f"[S1]{n}"}
        for n in range(count)
    ]


def _run(path: Path, text_side: TextSide, **options: Any) -> PrepareReport:
    encode = options.pop("encode", file_encoder(None))
    out_dir = path.parent / "out"
    return prepare(path, out_dir, text_side, encode, source="test", **options)


def test_both_forms_of_lines_become_examples(tmp_path: Path, text_side: TextSide) -> None:
    reference = {
        "reference_audio": _codes(tmp_path, "r.npy", 3),
        "reference_text": "[S1]who",
        "audio": _codes(tmp_path, "a.npy", 2),
        "text": "[S1]me",
    }
    path = _jsonl(tmp_path, [*_plain_items(tmp_path, 1), reference])
    assert _run(path, text_side) == PrepareReport(2, 0, ())
    joined = SpeechDataset(tmp_path / "out")[1]
    # The reference's codes stand in front of the speech's, and are learnt as well.
    assert joined.input_ids[-6:-1, 1].tolist() == [3, 3, 3, 2, 2]
    assert joined.labels[-6:-1, 1].tolist() == [3, 3, 3, 2, 2]
    text = text_side.tokenizer.encode_text("who")
    assert text[0] in joined.input_ids[:, 0]


def test_unfit_lines_are_left_out_and_told(tmp_path: Path, text_side: TextSide) -> None:
    bad = [{"file_path": "x.npy"}, [1], {"file_path": "none.npy", "full_transcript": "a"}]
    path = _jsonl(tmp_path, [bad[0], *_plain_items(tmp_path, 1), *bad[1:]])
    with path.open("a") as file:
        file.write("{broken\n")
    report = _run(path, text_side)
    assert report.num_examples == 1
    assert [skipped.line for skipped in report.skipped] == [1, 3, 4, 5]
    assert "allowed: file_path, full_transcript, or reference_audio" in report.skipped[0].reason


def test_a_broken_off_call_goes_on_where_it_was(tmp_path: Path, text_side: TextSide) -> None:
    path = _jsonl(tmp_path, _plain_items(tmp_path, 7))

    def fails_at_the_sixth(audio: Path) -> IntArray:
        if audio.name == "5.npy":
            raise KeyboardInterrupt
        return file_encoder(None)(audio)

    with pytest.raises(KeyboardInterrupt):
        _run(path, text_side, encode=fails_at_the_sixth, shard_size=2)
    calls: list[tuple[int, int]] = []
    report = _run(path, text_side, shard_size=2, on_progress=lambda *now: calls.append(now))
    assert (report.num_examples, report.num_resumed_shards) == (3, 2)
    assert calls == [(2, 7), (4, 7), (6, 7), (7, 7)]
    dataset = SpeechDataset(tmp_path / "out")
    frames = [int((dataset[n].labels[:, 1] >= 0).sum()) for n in range(7)]
    assert frames == [1, 2, 3, 4, 5, 6, 7]


def test_a_folder_begun_for_other_data_is_not_mixed(tmp_path: Path, text_side: TextSide) -> None:
    items = _plain_items(tmp_path, 2)
    _run(_jsonl(tmp_path, items), text_side)
    with pytest.raises(DataError, match="another jsonl_sha256"):
        _run(_jsonl(tmp_path, items[:1]), text_side)


def test_recordings_are_encoded_by_the_codec_in_parallel(
    tmp_path: Path, text_side: TextSide
) -> None:
    import soundfile

    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 400).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 200)
    items = [{"file_path": "a.wav", "full_transcript": "[S2]a"}] * 4
    meeting = threading.Barrier(2, timeout=20)
    plain = file_encoder(_CountingCodec())

    def encode(audio: Path) -> IntArray:
        meeting.wait()
        return plain(audio)

    report = _run(_jsonl(tmp_path, items), text_side, encode=encode, num_workers=2)
    assert report.num_examples == 4
    # 400 samples at 200 Hz are 200 at the codec's rate.
    assert int((SpeechDataset(tmp_path / "out")[0].labels[:, 1] >= 0).sum()) == 20


def test_audio_without_a_codec_and_empty_files_are_refused(
    tmp_path: Path, text_side: TextSide
) -> None:
    path = _jsonl(tmp_path, [{"file_path": "a.wav", "full_transcript": "a"}])
    with pytest.raises(DataError, match=r"no line .* is fit: line 1: .*no codec is given"):
        _run(path, text_side)
    with pytest.raises(DataError, match="is empty"):
        _run(_jsonl(tmp_path, []), text_side)
    with pytest.raises(DataError, match="there is no file"):
        _run(tmp_path / "none.jsonl", text_side)


_TEXT = '{"file_path": "0.npy", "full_transcript": "[S1]aSEPb"}'


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\x7f", "\u2029"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, text_side: TextSide, separator: str) -> None:
    _codes(tmp_path, "0.npy", 1)
    path = tmp_path / "data.jsonl"
    lines = [_TEXT.replace("SEP", separator), "[1]", "", _TEXT]
    # With a byte order mark and the line ends of Windows, as some editors save it.
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    report = _run(path, text_side)
    assert (report.num_examples, [skipped.line for skipped in report.skipped]) == (2, [2])
    ids = SpeechDataset(tmp_path / "out")[0].input_ids[:, 0].tolist()
    assert all(token in ids for token in text_side.tokenizer.encode_text(separator))


def test_a_file_that_is_not_utf8_is_named_with_the_place(
    tmp_path: Path, text_side: TextSide
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"{}\n{}\n" + "Grüße".encode("latin-1"))
    with pytest.raises(DataError, match=r"data\.jsonl, line 3, byte 8 .*UTF-8"):
        _run(path, text_side)


def test_no_single_line_ends_the_whole_run(tmp_path: Path, text_side: TextSide) -> None:
    def item(text: str, name: str = "0.npy") -> dict[str, str]:
        return {"file_path": name, "full_transcript": text}

    two = {"reference_text": "[S1]", "text": "b", "audio": "0.npy", "reference_audio": "r.npy"}
    np.save(tmp_path / "r.npy", np.zeros((3, 2), np.int64))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04")
    items = [
        *_plain_items(tmp_path, 1),
        two,
        item(f"[S{'9' * 5000}]a"),
        item("[S1]a", "empty.npy"),
        item("[S1]a", "zip.npy"),
        item("[S1]\ud800"),
        item("[S1]a", "a\0.npy"),
        item("[S1]a", "odd"),
    ]
    path = _jsonl(tmp_path, items)
    with path.open("a") as file:
        file.write("[" * 100_000 + "\n")

    def encode(audio: Path) -> IntArray:
        if audio.name == "odd":
            raise RuntimeError("the codec is at a loss")
        return file_encoder(None)(audio)

    report = _run(path, text_side, encode=encode)
    assert report.num_examples == 1
    reasons = {skipped.line: skipped.reason for skipped in report.skipped}
    assert list(reasons) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert reasons[2] == "r.npy has 3 codebooks; wanted: 2"
    assert "allowed: [S1] to [S2]" in reasons[3]
    assert len(reasons[3]) < 200
    assert reasons[8] == "RuntimeError: the codec is at a loss"
