# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from duologue.client import Speech, WavWriter
from duologue.client.wav import wav_header

WRITE_AND_WAIT = """
import sys, numpy as np
from duologue.client import WavWriter
writer = WavWriter(sys.argv[1], 24_000)
for _ in range(3):
    writer.write(np.full(1000, 7, np.int16))
print("written", flush=True)
sys.stdin.read()
"""


def test_file_reads_back_bit_for_bit(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768], np.int16)
    with WavWriter(tmp_path / "a.wav", 16_000) as writer:
        writer.write(samples[:2])
        writer.write(samples[2:])
        assert writer.duration_s == 5 / 16_000
    read, rate_hz = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert rate_hz == 16_000
    assert read.tolist() == samples.tolist()
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"


def test_file_is_whole_before_and_after_every_write(tmp_path):
    path = tmp_path / "a.wav"
    with WavWriter(path, 24_000) as writer:
        for count in range(4):
            assert soundfile.info(path).frames == count * 10
            assert path.read_bytes()[:44] == wav_header(24_000, count * 10)
            writer.write(np.zeros(10, np.int16))


def test_killed_writer_leaves_a_file_with_all_that_was_written(tmp_path):
    path = tmp_path / "a.wav"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_WAIT, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout.readline() == b"written\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    read, _ = soundfile.read(path, dtype="int16")
    assert read.tolist() == [7] * 3000


def test_write_cut_off_before_its_header_keeps_the_file_whole(tmp_path):
    path = tmp_path / "a.wav"
    with WavWriter(path, 24_000) as writer:
        writer.write(np.zeros(10, np.int16))
    with open(path, "ab") as stream:
        stream.write(b"\1\2\3")
    assert soundfile.info(path).frames == 10


def test_float_samples_are_scaled_and_clipped(tmp_path):
    with WavWriter(tmp_path / "a.wav", 24_000) as writer:
        writer.write(np.array([0.0, 0.5, -1.0, 1.0, -3.0, 3.0], np.float32))
    read, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert read.tolist() == [0, 16384, -32768, 32767, -32768, 32767]


@given(arrays(np.int16, st.integers(0, 50)))
def test_float_view_of_samples_writes_the_same_int16(samples):
    speech = Speech(samples, 24_000, "stop", (), 0)
    stream = io.BytesIO()
    WavWriter(stream, 24_000).write(speech.samples_f32)
    assert np.array_equal(np.frombuffer(stream.getvalue()[44:], "<i2"), samples)


def test_stream_of_unknown_length_is_readable_and_stays_open():
    stream = io.BytesIO()
    with WavWriter(stream, 24_000) as writer:
        writer.write(np.arange(100, dtype=np.int16))
    stream.seek(0)
    read, rate_hz = soundfile.read(stream, dtype="int16")
    assert rate_hz == 24_000
    assert read.tolist() == list(range(100))


def test_dash_writes_to_standard_output(capfdbinary):
    with WavWriter("-", 24_000) as writer:
        writer.write(np.ones(3, np.int16))
    assert capfdbinary.readouterr().out == wav_header(24_000, None) + b"\1\0" * 3


def test_speech_saves_itself(tmp_path):
    Speech(np.arange(5, dtype=np.int16), 8_000, "stop", (), 0).save(tmp_path / "a.wav")
    assert soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [0, 1, 2, 3, 4]


def test_length_beyond_the_format_reads_as_unknown():
    assert wav_header(24_000, 2**32) == wav_header(24_000, None)


def test_path_that_cannot_be_written_raises_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        WavWriter(tmp_path / "no" / "a.wav", 24_000)
