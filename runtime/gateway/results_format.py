# SPDX-License-Identifier: Apache-2.0
"""A whole answer of the model as bytes: a line of JSON about its chunks, then their samples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from duologue.client.types import AudioChunk, TurnTime


def pack_chunks(chunks: Sequence[AudioChunk]) -> bytes:
    """Chunks as bytes.

    Args:
        chunks: of one stream, from the first to the last.
    """
    described = [_describe(chunk) for chunk in chunks]
    head = json.dumps(described, separators=(",", ":")).encode() + b"\n"
    return head + b"".join(chunk.samples.astype("<i2").tobytes() for chunk in chunks)


def unpack_chunks(data: bytes) -> list[AudioChunk] | None:
    """Chunks as they were packed, or None for bytes that are something else."""
    head, _, samples = data.partition(b"\n")
    try:
        described: list[dict[str, Any]] = json.loads(head)
        pieces = np.frombuffer(samples, "<i2").astype(np.int16)
        borders = np.cumsum([fields.pop("num_samples") for fields in described])
        chunks = [
            _chunk(fields, piece)
            for fields, piece in zip(described, np.split(pieces, borders[:-1]), strict=True)
        ]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    is_whole = bool(chunks) and chunks[-1].is_last and borders[-1] == len(pieces)
    return chunks if is_whole else None


def _describe(chunk: AudioChunk) -> dict[str, Any]:
    fields = {f.name: getattr(chunk, f.name) for f in dataclasses.fields(chunk)}
    fields["turn_times"] = [dataclasses.astuple(time) for time in chunk.turn_times]
    return {**fields, "samples": None, "num_samples": len(chunk.samples)}


def _chunk(fields: dict[str, Any], samples: Any) -> AudioChunk:
    times = tuple(TurnTime(*time) for time in fields["turn_times"])
    return AudioChunk(**{**fields, "samples": samples, "turn_times": times})
