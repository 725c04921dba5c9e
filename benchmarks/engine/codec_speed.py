# SPDX-License-Identifier: Apache-2.0
"""How fast the torch codec decodes, and what each precision costs in exactness.

    python -m duologue.benchmarks.engine.codec_speed --bundle default

Windows of the bundle's longest rung, of random codes. Audio counts without the context that is
decoded with it: "audio s/s" is what listeners hear, "decoded s/s" what the network makes. The
deviation is that of the samples from those in full float32 on the same device.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from duologue.benchmarks.statistics import percentile
from duologue.models import resolve_bundle
from duologue.runtime.codec.torch_codec import TorchCodec
from duologue.runtime.config import Bundle
from duologue.runtime.core import FloatArray, IntArray

_TF32 = "tf32"
_WEIGHTS = "codec.safetensors"


@dataclass(frozen=True, slots=True)
class CodecSpeed:
    """One precision at one batch.

    Attributes:
        precision: "float32", "tf32", "bfloat16" or "float16".
        batch: windows decoded at once.
        frames, hop: of a window, and those of them that are new.
        decode_ms: the median of the repeats.
        audio_s_per_s, decoded_s_per_s: without and with the context.
        largest_deviation: from float32, in samples of [-1, 1].
        deviation_db: power of the deviation against the signal's.
    """

    precision: str
    batch: int
    frames: int
    hop: int
    decode_ms: float
    audio_s_per_s: float
    decoded_s_per_s: float
    largest_deviation: float
    deviation_db: float


def measure_codec(
    bundle_dir: Path,
    device: str,
    precisions: Sequence[str],
    batches: Sequence[int],
    repeats: int,
) -> Iterator[CodecSpeed]:
    """Decode windows in each precision; the arguments are those of the command line.

    Raises:
        ConfigError: there is no such bundle, or it has no codec for torch.
    """
    bundle = Bundle.load(bundle_dir)
    step, codec = bundle.windows.steps[-1], bundle.codec
    frames = step.left + step.hop + step.right
    shape = max(batches), codec.num_codebooks, frames
    codes = np.random.default_rng(0).integers(0, codec.codebook_size, shape)
    wanted = _open(bundle, bundle_dir, device, "float32", 1).decode(codes[:1])
    for precision in precisions:
        for batch in batches:
            reader = _open(bundle, bundle_dir, device, precision, batch)
            found, decode_s = _time(reader, codes[:batch], repeats)
            deviation = found[:1] - wanted
            power = float(np.square(deviation).mean() / np.square(wanted).mean())
            yield CodecSpeed(
                precision,
                batch,
                frames,
                step.hop,
                1e3 * decode_s,
                batch * step.hop / codec.frame_rate_hz / decode_s,
                batch * frames / codec.frame_rate_hz / decode_s,
                float(np.abs(deviation).max()),
                10 * float(np.log10(max(power, 1e-30))),
            )


def _open(bundle: Bundle, bundle_dir: Path, device: str, precision: str, batch: int) -> TorchCodec:
    """The codec, with torch's switches for float32 set; they count for the whole process."""
    is_tf32 = precision == _TF32
    torch.backends.cuda.matmul.allow_tf32 = is_tf32
    torch.backends.cudnn.allow_tf32 = is_tf32
    dtype = "float32" if is_tf32 else precision
    weights = bundle_dir / _WEIGHTS
    return TorchCodec(bundle.codec, weights, device=device, dtype=dtype, rows_per_run=batch)


def _time(codec: TorchCodec, codes: IntArray, repeats: int) -> tuple[FloatArray, float]:
    """Samples, and the median time; `decode` waits for the device. The first run is not counted."""
    samples = codec.decode(codes)
    durations_s = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        codec.decode(codes)
        durations_s.append(time.perf_counter() - started_s)
    return samples, percentile(durations_s, 0.5)


def main(
    bundle: Annotated[str, typer.Option(help="a bundle's name or folder")] = "default",
    device: Annotated[str, typer.Option(help="cuda or cpu")] = "cuda",
    precisions: Annotated[str, typer.Option()] = "float32,tf32,bfloat16,float16",
    batches: Annotated[str, typer.Option(help="joined by commas")] = "1,8,32",
    repeats: Annotated[int, typer.Option(min=1)] = 20,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE")] = None,
) -> None:
    """Measure the torch codec."""
    print("| precision | batch | window ms | audio s/s | decoded s/s | largest deviation | dB |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    sizes = [int(batch) for batch in batches.split(",")]
    for row in measure_codec(resolve_bundle(bundle), device, precisions.split(","), sizes, repeats):
        rows.append(asdict(row))
        speeds = f"{row.decode_ms:.2f} | {row.audio_s_per_s:.1f} | {row.decoded_s_per_s:.1f}"
        deviation = f"{row.largest_deviation:.1e} | {row.deviation_db:.0f}"
        print(f"| {row.precision} | {row.batch} | {speeds} | {deviation} |", flush=True)
    if json_path is not None:
        json_path.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
