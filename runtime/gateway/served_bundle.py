# SPDX-License-Identifier: Apache-2.0
"""What the gateway must know of the bundle behind it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.config import Bundle
from duologue.runtime.presets import PresetVoices, read_presets
from duologue.runtime.voice_store.codes import codec_version_of


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """A bundle as the gateway sees it.

    Attributes:
        presets: its voices.
        input_rate_hz: of audio for its codec.
        codec_version: names the codes of its codec.
        version: SHA-256 of its description, which names all its files by their hashes, and of the
            times of these files, as nobody reads them all to see whether they are still the same.
        max_speakers: that it knows.
    """

    presets: PresetVoices
    input_rate_hz: int
    codec_version: str
    version: str
    max_speakers: int


def read_served_bundle(bundle_dir: Path) -> ServedBundle:
    """Read it.

    Raises:
        ConfigError: no bundle, or its voices cannot be read.
    """
    bundle = verify_bundle(bundle_dir)
    return ServedBundle(
        presets=read_presets(bundle, bundle_dir),
        input_rate_hz=bundle.codec.input_rate_hz,
        codec_version=codec_version_of(bundle),
        version=_version(bundle, bundle_dir),
        max_speakers=bundle.prompt.max_speakers,
    )


def _version(bundle: Bundle, bundle_dir: Path) -> str:
    times = {name: (bundle_dir / name).stat().st_mtime_ns for name in sorted(bundle.files)}
    return hashlib.sha256(f"{bundle.to_json()}{times}".encode()).hexdigest()
