"""How near both engines come to what MOSS-TTSD v0.7 did: one row per recorded case.

    PYTHONPATH=tests/support python tests/exactness_table.py

Prints the table of `docs/exactness.md`. Exits with 1 if an id differs or a bound is exceeded.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import golden_lm
import numpy as np
import torch
import typer
from random_lms import build_lm, open_backbone, teacher_force

from duologue.build_engines.codec_checkpoint import (
    CODEC_FILE,
    load_codec_checkpoint,
    write_codec_weights,
)
from duologue.build_engines.codec_onnx import export_codec
from duologue.runtime.backbone.base import Backbone
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.onnx_codec import OnnxCodec
from duologue.runtime.codec.reference_windows import (
    decode_windowed,
    decode_with_reference,
    reference_codes,
)
from duologue.runtime.codec.torch_codec import TorchCodec
from duologue.runtime.core import FloatArray, IntArray

CODEC_DATA = golden_lm.DATA.parent / "xy_24k"
LOGIT_BOUND = WAVE_BOUND = 1e-4


@dataclasses.dataclass
class Row:
    """One line of the table; None where a case has no such thing."""

    case: str
    engine: str
    ids_equal: int | None = None
    num_ids: int | None = None
    logits: float | None = None
    waveform: float | None = None

    @property
    def is_within(self) -> bool:
        """All ids are the same and no bound is exceeded."""
        return (
            self.ids_equal == self.num_ids
            and (self.logits or 0.0) <= LOGIT_BOUND
            and (self.waveform or 0.0) <= WAVE_BOUND
        )

    def __str__(self) -> str:
        ids = "" if self.num_ids is None else f"{self.ids_equal} of {self.num_ids}"
        numbers = ["" if x is None else f"{x:.1e}" for x in (self.logits, self.waveform)]
        return "| " + " | ".join([self.case, self.engine, ids, *numbers]) + " |"


def language_model_rows(engine: str, backbone: Backbone) -> Iterator[Row]:
    """Free-running ids of each case, and logits with the recorded ids given."""
    for case in golden_lm.GREEDY_CASES:
        rows = golden_lm.read_rows(case)
        sequences = [row.start(backbone.spec.lm) for row in rows]
        with golden_lm.Bench(backbone) as bench:
            for stream in [bench.submit(sequence) for sequence in sequences]:
                list(stream)
        pairs = list(zip(rows, sequences, strict=True))
        yield Row(
            case,
            engine,
            ids_equal=sum(_equal_ids(row, sequence.new_rows) for row, sequence in pairs),
            num_ids=sum(row.wanted_rows.size for row in rows),
            logits=max(_logit_difference(backbone, row) for row in rows),
        )


def _equal_ids(row: golden_lm.GoldenRow, new_rows: list[IntArray]) -> int:
    if len(new_rows) != len(row.wanted_rows):
        return 0
    return int((np.stack(new_rows) == row.wanted_rows).sum())


def _logit_difference(backbone: Backbone, row: golden_lm.GoldenRow) -> float:
    prompt = row.start(backbone.spec.lm).prompt_rows
    ids = np.concatenate([prompt, row.wanted_rows[:-1]])
    found = teacher_force(backbone, 0, ids, len(prompt))
    backbone.release(0)
    finite = np.isfinite(row.logits)
    return _difference(found[finite], row.logits[finite])


def codec_rows(engine: str, codec: Codec) -> Iterator[Row]:
    """Codes and samples of clips, and whole dialogues in the reference's windows."""
    golden, windows = (np.load(CODEC_DATA / name) for name in ("golden.npz", "windows.npz"))
    for case, clip, codes in (("clip a", "a_wav", "a_codes"), ("clip c", "c_wav_1", "c_codes_1")):
        same = codec.encode(golden[clip]) == golden[codes]
        yield Row(f"codec, codes of {case}", engine, int(same.sum()), same.size)
    for case, codes, wanted in (
        ("40", golden["a_codes"], golden["a_syn"]),
        ("33", golden["e_codes"][:, 1], golden["e_y"][1, 0]),
    ):
        samples = codec.decode(codes[None].astype(np.int64))[0]
        yield Row(f"codec, {case} frames", engine, waveform=_difference(samples, wanted))
    yield from _window_rows(engine, codec, windows)


def _window_rows(engine: str, codec: Codec, windows: Any) -> Iterator[Row]:
    context = reference_codes(codec, windows["ref_wav"])
    streamed = decode_windowed(codec, windows["stream_codes"].astype(np.int64))
    cases = {"stream": ("codec, 376 frames in two windows", streamed)}
    for total in (1, 85, 105, 106, 126, 211):
        codes = windows["codes"][:, :total].astype(np.int64)
        samples = decode_with_reference(codec, codes, context, loses_audio=True)
        cases[f"aug_{total}"] = (f"codec, {total} frames behind a voice", samples)
    for name, (case, samples) in cases.items():
        assert len(samples) == windows[f"{name}_length"]
        found = samples[windows[f"{name}_positions"]]
        yield Row(case, engine, waveform=_difference(found, windows[name]))


def _difference(found: FloatArray, wanted: FloatArray) -> float:
    return float(np.abs(found - wanted).max())


def load_codec(engine: str, folder: Path) -> Codec:
    """The recorded codec on an engine."""
    checkpoint = load_codec_checkpoint(CODEC_DATA / "xy_tokenizer.ckpt", CODEC_DATA / "config.yaml")
    write_codec_weights(checkpoint.tensors, folder / CODEC_FILE)
    if engine == "torch":
        return TorchCodec(checkpoint.config, folder / CODEC_FILE)
    return OnnxCodec(checkpoint.config, *export_codec(checkpoint.parameters, folder / CODEC_FILE))


def main() -> int:
    """Measure everything and print the table."""
    torch.set_num_threads(1)
    typer.echo(
        "| case | engine | ids equal | largest logit difference | largest waveform difference |"
    )
    typer.echo("|---|---|---|---|---|")
    is_within = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lm = build_lm(golden_lm.DATA, folder)
        measures: list[Callable[[str], Iterator[Row]]] = [
            lambda engine: language_model_rows(
                engine, open_backbone(engine, lm, folder, max_rows=golden_lm.MAX_ROWS)
            ),
            lambda engine: codec_rows(engine, load_codec(engine, folder)),
        ]
        for measure in measures:
            for engine in ("torch", "onnx"):
                for row in measure(engine):
                    typer.echo(str(row))
                    is_within = is_within and row.is_within
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
