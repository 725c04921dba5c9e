"""A build that is killed half-way leaves nothing that loads, and is finished by the next call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from duologue.build_engines.random_checkpoint import write_random_lm
from duologue.build_engines.random_checkpoint_codec import RandomCodecSizes, write_random_codec
from duologue.runtime.bundle_files import verify_bundle
from duologue.runtime.errors import ConfigError
from duologue.runtime.synthesizer import Synthesizer

CODEC = RandomCodecSizes(codebook_size=64, d_model=16, ffn_dim=24, vocos_dim=16)


def test_a_killed_build_leaves_no_half_bundle_and_is_resumed(tmp_path: Path) -> None:
    write_random_lm(tmp_path / "lm", seed=3, hidden_size=32, num_layers=1, codebook_size=64)
    write_random_codec(tmp_path / "codec", seed=3, sizes=CODEC)
    out, work = tmp_path / "out", tmp_path / "out.partial"
    command = [sys.executable, "-m", "duologue.cli", "build", "--no-parity"]
    for name in ("lm", "codec", "out"):
        command += [f"--{name}", str(tmp_path / name)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    give_up_at_s = time.monotonic() + 120
    # The graphs of the codec take longest of all stages, and come after its weights.
    while not (work / "bundle" / "codec.safetensors").exists():
        assert time.monotonic() < give_up_at_s
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists(), "the build was to be killed half-way"
    with pytest.raises(ConfigError, match=r"no bundle\.json"):
        Synthesizer.load(work / "bundle")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "tokenizer: kept from before" in again.stderr
    assert verify_bundle(out, hashes=True).name == "out"
    assert not work.exists()
