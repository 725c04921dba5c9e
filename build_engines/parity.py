# SPDX-License-Identifier: Apache-2.0
"""The parity report: every engine of a bundle against the torch reference in float32.

Both get the same random input, a short one, so that it is quick for a large model too. The
reference reads `lm.safetensors` as it was stored: what storing loses is not in it, but what an
engine loses whose own weights are narrower, in 8 or 4 bits, is.

| stage | what is compared |
|---|---|
| hidden | the last row of a prompt behind the final norm, where the engine shows it |
| logits | of a prompt's last row and of a few more rows that are given, not chosen |
| codes | of two seconds of noise |
| waveform | of a window of random codes |
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from duologue.runtime.backbone.base import Backbone, ShowsHidden
from duologue.runtime.backbone.registry import BUILT, load_backbone
from duologue.runtime.codec.base import Codec
from duologue.runtime.codec.registry import ONNX_KEY, TORCH_KEY, load_codec
from duologue.runtime.config import Bundle
from duologue.runtime.core import IntArray
from duologue.runtime.errors import EngineUnavailableError

Measured = dict[str, npt.NDArray[Any]]

_SEED = 125
_PROMPT_ROWS = 12
_DECODE_ROWS = 4
_CLIP_S = 2
_WINDOW_FRAMES = 20
_BACKBONES = ("torch", "onnx", "trtllm")
_CODECS = {TORCH_KEY: "torch", ONNX_KEY: "onnx"}
_REFERENCE_LM = {"status": BUILT, "dtype": "float32", "weights": "lm.safetensors"}


@dataclass(frozen=True, slots=True)
class StageParity:
    """One stage of one engine.

    Attributes:
        max_abs_diff: largest difference of a number from the reference's.
        ids_equal: how many ids are the same: the likeliest of each row and channel, or codes.
        num_ids: how many were compared; 0 where the stage has none.
    """

    max_abs_diff: float
    ids_equal: int = 0
    num_ids: int = 0


def measure_parity(bundle: Bundle, directory: Path) -> dict[str, dict[str, Any]]:
    """Run every built engine and the reference, one after the other.

    Args:
        bundle: its description.
        directory: where its files lie.

    Returns:
        Key in `Bundle.engines` -> stage -> fields of `StageParity`, as JSON values.

    Raises:
        ConfigError: an engine cannot be loaded.
        EngineUnavailableError: torch, the reference, is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise EngineUnavailableError(
            "the parity report needs torch, its reference: pip install 'duologue[build]'"
        )
    bundle = _shrink(bundle)
    report: dict[str, dict[str, Any]] = {}
    reference = dataclasses.replace(bundle, engines={"torch": dict(_REFERENCE_LM)})
    wanted = _run_lm(load_backbone(reference, directory, engine="torch"))
    for key in _BACKBONES:
        entry = bundle.engines.get(key, {})
        # An engine that is split runs on its ranks alone.
        if entry.get("status") == BUILT and entry.get("tensor_parallel", 1) == 1:
            found = _run_lm(load_backbone(bundle, directory, engine=key))
            report[key] = _compare(found, wanted)
    wanted = _run_codec(load_codec(bundle, directory, "torch"))
    for key, engine in _CODECS.items():
        if key in bundle.engines:
            found = _run_codec(load_codec(bundle, directory, engine))
            report[key] = _compare(found, wanted)
    return report


def _shrink(bundle: Bundle) -> Bundle:
    """The same bundle with a KV cache that holds no more than the comparison needs."""
    limits = dataclasses.replace(bundle.limits, max_slots=1, max_rows=_PROMPT_ROWS + _DECODE_ROWS)
    return dataclasses.replace(bundle, limits=limits)


def _run_lm(backbone: Backbone) -> Measured:
    """Logits [1 + _DECODE_ROWS, sum(V_c)], their likeliest ids, and a hidden state."""
    lm = backbone.spec.lm
    rng = np.random.default_rng(_SEED)
    ids: IntArray = np.stack(
        [rng.integers(0, size, _PROMPT_ROWS + _DECODE_ROWS) for size in lm.vocab_sizes], axis=1
    )
    logits = backbone.prefill(0, ids[:_PROMPT_ROWS])
    assert logits is not None, "the last piece of a prompt gives logits"
    rows = [logits.values]
    rows += [backbone.decode([0], row[None]).values for row in ids[_PROMPT_ROWS:]]
    values = np.concatenate(rows)
    measured: Measured = {"logits": values}
    if isinstance(backbone, ShowsHidden):
        backbone.release(0)
        measured["hidden"] = backbone.prefill_hidden(0, ids)
    best = [
        values[:, begin:end].argmax(axis=1) for begin, end in itertools.pairwise(lm.logit_offsets)
    ]
    backbone.close()
    return {**measured, "logits.ids": np.stack(best)}


def _run_codec(codec: Codec) -> Measured:
    """Codes of a clip, and the samples of a window of random codes."""
    config = codec.config
    rng = np.random.default_rng(_SEED)
    clip = 0.1 * rng.standard_normal(_CLIP_S * config.input_rate_hz).astype(np.float32)
    frames = min(_WINDOW_FRAMES, config.max_frames)
    shape = (1, config.num_codebooks, frames)
    codes: IntArray = rng.integers(0, config.codebook_size, shape)
    measured: Measured = {"codes.ids": codec.encode(clip), "waveform": codec.decode(codes)}
    codec.close()
    return measured


def _compare(found: Measured, wanted: Measured) -> dict[str, Any]:
    """Stage -> fields of `StageParity`; "<stage>.ids" are ids, the others numbers."""
    stages: dict[str, StageParity] = {}
    for name in sorted({name.removesuffix(".ids") for name in found}):
        difference, equal, total = 0.0, 0, 0
        if name in found:
            difference = float(np.max(np.abs(found[name] - wanted[name])))
        if f"{name}.ids" in found:
            same = found[f"{name}.ids"] == wanted[f"{name}.ids"]
            equal, total = int(np.sum(same)), int(same.size)
        # Two digits say it all, and further ones would differ from one machine to the next.
        stages[name] = StageParity(float(f"{difference:.1e}"), equal, total)
    return {name: dataclasses.asdict(stage) for name, stage in stages.items()}
