# SPDX-License-Identifier: Apache-2.0
"""Do the fused steps of a device choose the ids of the reference on a CPU?

    python -m duologue.benchmarks.engine.device_check --bundle noise

The reference is the torch engine on a CPU in float32 with the host's sampler, each sequence alone.
Against it stands every way in which this machine's device can take steps (Triton kernels and plain
torch in CUDA graphs, plain torch one by one), in float32, alone and with many sequences that share
steps, with the bundle's sampling and greedy. Ends with status 1 if an id differs, unless the first
that does stands so near to the reference's that rounding decides (see `rounding`): such sequences
are counted, and compared up to there. What half precision does to the ids is told, but judged by
nobody. Of a bundle whose torch engine has matrices in 8 bits, the reference computes with what they
mean, and the device with the narrow numbers.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from duologue.benchmarks.engine.our_loop import speech_rows
from duologue.benchmarks.engine.rounding import is_near
from duologue.models import resolve_bundle
from duologue.runtime.backbone.base import Backbone
from duologue.runtime.backbone.device import DecodesOnDevice
from duologue.runtime.backbone.registry import make_request
from duologue.runtime.backbone.torch_backbone import TorchBackbone
from duologue.runtime.backbone.torch_device import TorchDeviceBackbone
from duologue.runtime.config import Bundle
from duologue.runtime.core import IntArray
from duologue.runtime.device_blocks import DeviceBlocks, choose_on_host
from duologue.runtime.lm.sequence import Sequence as Speech
from duologue.runtime.lm.sequence import new_sequence

_NUM_SEQUENCES = 24
_NUM_FRAMES = 40
_MAX_ROWS = 160


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How one way of taking steps compares with the reference.

    Attributes:
        way: its name.
        dtype: of activations, KV cache and what is wide of the weights.
        batch: sequences that shared steps.
        num_ids: ids that were compared.
        num_equal: those of them that are the same.
        num_rounded: sequences that went another way where rounding decides.
    """

    way: str
    dtype: str
    batch: int
    num_ids: int
    num_equal: int
    num_rounded: int

    @property
    def is_right(self) -> bool:
        """All ids are the same, or need not be."""
        return self.num_equal == self.num_ids or self.dtype != "float32"


def check_device(bundle_dir: Path, device: str, dtypes: Sequence[str]) -> Iterator[Outcome]:
    """Compare all ways of a device.

    Args:
        bundle_dir: of the bundle.
        device: "cuda", or "cpu", where a step is taken operation by operation.
        dtypes: "float32", and what else is to be told.

    Raises:
        ConfigError: there is no such bundle.
        EngineUnavailableError: it has no torch engine.
    """
    bundle = Bundle.load(bundle_dir)
    weights = make_request(bundle, bundle_dir, "torch").path("weights")
    sizes: dict[str, Any] = {"max_slots": _NUM_SEQUENCES, "max_rows": _MAX_ROWS}
    with closing(TorchBackbone(bundle.lm, weights, **sizes)) as backbone:
        reference = _Reference(backbone, bundle)
        for dtype in dtypes:
            tried = TorchDeviceBackbone(bundle.lm, weights, **sizes, dtype=dtype, device=device)
            with closing(tried):
                for way in tried.ways:
                    tried.use(way)
                    for batch in (1, _NUM_SEQUENCES):
                        found = _write_all(tried, bundle, batch)
                        yield reference.compare(way.name, dtype, batch, found)


class _Reference:
    """What the reference writes, and how others compare with it."""

    def __init__(self, backbone: TorchBackbone, bundle: Bundle) -> None:
        self._backbone, self._bundle = backbone, bundle
        self._wanted = _write_all(backbone, bundle, 1)

    def compare(self, way: str, dtype: str, batch: int, found: list[IntArray]) -> Outcome:
        counts = [self._count(place, rows, dtype) for place, rows in enumerate(found)]
        return Outcome(way, dtype, batch, *(sum(column) for column in zip(*counts, strict=True)))

    def _count(self, place: int, found: IntArray, dtype: str) -> tuple[int, int, int]:
        """The numbers of an `Outcome` for one sequence."""
        wanted, shared = self._wanted[place], min(len(found), len(self._wanted[place]))
        is_equal = found[:shared] == wanted[:shared]
        if dtype == "float32" and not is_equal.all():
            first = int(np.argmin(is_equal.all(axis=1)))
            sequence = _sequences(self._bundle)[place]
            if is_near(self._backbone, sequence, wanted[:first], found[first]):
                return wanted[:first].size, wanted[:first].size, 1
        return max(found.size, wanted.size), int(is_equal.sum()), 0


def _write_all(backbone: Backbone, bundle: Bundle, batch: int) -> list[IntArray]:
    """What all sequences become if so many of them share steps."""
    sequences = _sequences(bundle)
    groups = [sequences[start : start + batch] for start in range(0, len(sequences), batch)]
    return [rows for group in groups for rows in _write(backbone, group)]


def _sequences(bundle: Bundle) -> list[Speech]:
    """Prompts of different lengths; every third is greedy, every fourth penalises repetition."""
    sequences = []
    for seed in range(_NUM_SEQUENCES):
        changes: dict[str, Any] = {"do_sample": False} if seed % 3 == 0 else {}
        if seed % 4 == 0:
            changes["repetition_penalty"] = 1.1
        sampling = [dataclasses.replace(one, **changes) for one in bundle.sampling]
        sequences.append(
            new_sequence(
                speech_rows(bundle, 9 + 3 * seed, seed),
                lm=bundle.lm,
                tokens=bundle.tokens,
                sampling=tuple(sampling),
                seed=seed,
                max_frames=_NUM_FRAMES,
                min_frames=1,
                max_rows=_MAX_ROWS,
                codebook_size=bundle.codec.codebook_size,
            )
        )
    return sequences


def _write(backbone: Backbone, sequences: list[Speech]) -> list[IntArray]:
    """Rows [S, K] of each sequence, all of them side by side."""
    for slot, sequence in enumerate(sequences):
        sequence.slot = slot
        logits = backbone.prefill(slot, sequence.prompt_rows)
        assert logits is not None
        sequence.append(choose_on_host([sequence], logits).chosen[0])
    if isinstance(backbone, DecodesOnDevice):
        _write_blocks(DeviceBlocks(backbone), sequences)
    else:
        _write_steps(backbone, sequences)
    for sequence in sequences:
        backbone.release(sequence.slot)
    return [np.stack(sequence.new_rows) for sequence in sequences]


def _write_blocks(blocks: DeviceBlocks, sequences: list[Speech]) -> None:
    seated, others = blocks.split(sequences)
    assert not others, "the bundle's sampling does not fit the device"
    while any(not sequence.is_finished for sequence in sequences) or blocks.is_flying:
        alive = [sequence for sequence in seated if not sequence.is_finished]
        for step in blocks.advance(alive, is_brief=False):
            for sequence, ids, _ in step.rows():
                if not sequence.is_finished:
                    sequence.append(ids)


def _write_steps(backbone: Backbone, sequences: list[Speech]) -> None:
    while alive := [sequence for sequence in sequences if not sequence.is_finished]:
        rows = np.stack([sequence.new_rows[-1] for sequence in alive])
        logits = backbone.decode([sequence.slot for sequence in alive], rows)
        for sequence, ids, _ in choose_on_host(alive, logits).rows():
            sequence.append(ids)


def main(
    bundle: Annotated[str, typer.Option(help="a bundle's name or folder")] = "noise",
    device: Annotated[str, typer.Option(help="cuda or cpu")] = "cuda",
    dtypes: Annotated[str, typer.Option(help="joined by commas")] = "float32,bfloat16",
) -> None:
    """Compare the ids of a device's steps with those of the reference on a CPU."""
    # Full products: the default, said aloud, since the comparison stands on it.
    torch.set_float32_matmul_precision("highest")
    print("| way | dtype | batch | ids equal | sequences that rounding led away |")
    print("|---|---|---|---|---|")
    outcomes = []
    for outcome in check_device(resolve_bundle(bundle), device, dtypes.split(",")):
        outcomes.append(outcome)
        equal = f"{outcome.num_equal} of {outcome.num_ids}"
        cells = (outcome.way, outcome.dtype, outcome.batch, equal, outcome.num_rounded)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    sys.exit(0 if all(outcome.is_right for outcome in outcomes) else 1)


if __name__ == "__main__":
    typer.run(main)
