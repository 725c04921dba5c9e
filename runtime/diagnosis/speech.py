# SPDX-License-Identifier: Apache-2.0
"""The bundle, and a second of speech in this process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.models import resolve_bundle
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.diagnosis.finding import Finding, fault, ok, warning
from duologue.runtime.errors import DuologueError, EngineUnavailableError

if TYPE_CHECKING:
    from duologue.runtime.stream import SpeechStream

SCRIPT = "[S1]One moment, please.[S2]Yes."
SECONDS = 1.0
SLOW_FIRST_AUDIO_S = 1.0


def check_bundle(bundle: str | Path) -> Finding:
    """All files of a bundle are there and are what was built.

    Args:
        bundle: its name or folder.
    """
    try:
        directory = resolve_bundle(bundle)
        description = verify_bundle(directory, hashes=True)
    except DuologueError as error:
        return fault("bundle", str(error), "build it again with `duologue build`, or copy it anew")
    size = sum(int(entry["bytes"]) for entry in description.files.values())
    found = f"{description.name}: {len(description.files)} files, {size >> 20} MiB, hashes equal"
    if not description.trained:
        return warning("bundle", f"{found}; untrained", "it makes noise: take another for speech")
    return ok("bundle", found)


def check_codec(bundle: str | Path) -> Finding:
    """Where the codec would run beside a language model.

    Args:
        bundle: its name or folder.
    """
    from duologue.runtime.codec.registry import choose_place, has_driver

    try:
        place = choose_place(Bundle.load(resolve_bundle(bundle)))
    except (DuologueError, ImportError) as error:
        return warning("codec", str(error), "pip install 'duologue[cpu]', or duologue[gpu]")
    found = f"{place.engine} on {place.device}"
    if place.device == "cpu" and has_driver():
        return warning(
            "codec",
            f"{found}, although there is a GPU",
            "it takes a torch that sees the GPU, and a bundle with a codec for torch",
        )
    return ok("codec", found)


def check_speech(bundle: str | Path, engine: str = "auto") -> Finding:
    """Speak for a second in this process, and time the first audio.

    Args:
        bundle: its name or folder.
        engine: of the language model.
    """
    try:
        from duologue.runtime.core import SpeechRequest
        from duologue.runtime.synthesizer import Synthesizer

        with Synthesizer.load(bundle, engine=engine) as synthesizer:
            frame_rate_hz = synthesizer.bundle.codec.frame_rate_hz
            # What is first asked of an engine takes longer: the second time counts.
            for _ in range(2):
                request = SpeechRequest(SCRIPT, seed=1, max_frames=round(SECONDS * frame_rate_hz))
                first_s, whole_s, audio_s = _listen(synthesizer.submit(request))
            name = synthesizer.backbone_spec.engine
    except (EngineUnavailableError, ImportError) as error:
        return warning("speech", str(error), "pip install 'duologue[cpu]', or duologue[gpu]")
    except DuologueError as error:
        return fault("speech", str(error), "see the lines above")
    found = (
        f"{audio_s:.1f} s spoken by {name}: first audio after {first_s * 1000:.0f} ms, "
        f"real-time factor {whole_s / max(audio_s, 1e-9):.2f}"
    )
    if first_s > SLOW_FIRST_AUDIO_S or whole_s > audio_s:
        return warning("speech", found, "slower than it is heard: a GPU, or a smaller model")
    return ok("speech", found)


def _listen(stream: SpeechStream) -> tuple[float, float, float]:
    """Seconds to the first audio, to the last, and of audio."""
    started_at_s, first_s, samples = time.monotonic(), 0.0, 0
    for chunk in stream:
        if samples == 0 and len(chunk.samples):
            first_s = time.monotonic() - started_at_s
        samples += len(chunk.samples)
    return first_s, time.monotonic() - started_at_s, samples / stream.sample_rate_hz
