"""Files from strangers: audio comes out, everything else is refused, nothing is harmed."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from sounds import av_file, file_of, noise, wav

from duologue.runtime.errors import VoiceError
from duologue.runtime.gateway import uploads
from duologue.runtime.gateway.uploads import UploadLimits, decode_upload

# One process per file: what each case waits for is the start of Python.
FLAC_BOMB = file_of(np.zeros(8000 * 3600, np.int16), 8000, format="FLAC")


@pytest.mark.parametrize(
    ("data", "rate_hz"),
    [
        (wav(), 24_000),
        (file_of(np.stack([noise(), noise()], axis=1), format="FLAC"), 24_000),
        (file_of(noise(), format="OGG", subtype="VORBIS"), 24_000),
        (file_of(noise(), format="OGG", subtype="OPUS"), 24_000),
        (av_file("mp3", "mp3"), 44_100),
        (av_file("ipod", "aac"), 44_100),
        (file_of(noise(2, 96_000), 96_000), 48_000),
    ],
    ids=["wav", "flac in stereo", "vorbis", "opus", "mp3", "m4a", "96 kHz"],
)
def test_every_format_becomes_mono_samples(data: bytes, rate_hz: int) -> None:
    decoded = decode_upload(data, transcript="Hello.")

    assert decoded.trimmed_from_s is None
    audio = decoded.audio
    assert (audio.samples.ndim, audio.samples.dtype) == (1, np.float32)
    assert (audio.sample_rate_hz, audio.transcript) == (rate_hz, "Hello.")
    assert len(audio.samples) == pytest.approx(2 * rate_hz, rel=0.05)
    assert 0.02 < np.abs(audio.samples).mean() < 0.2


def test_pcm_comes_through_sample_for_sample() -> None:
    samples = np.round(noise() * 32768) / 32768
    decoded = decode_upload(file_of(samples.astype(np.float32)))
    np.testing.assert_array_equal(decoded.audio.samples, samples.astype(np.float32))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"hello, I am audio", "no audio that is known"),
        (b"PK\x03\x04" + bytes(100), "no audio that is known"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "no audio that is known"),
        (b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.", "no audio that is known"),
        (FLAC_BOMB, "lasts 3600 s or more; allowed: 120 s"),
        (wav()[:20_000], "cut short: 20000 of 96044 bytes"),
        (file_of(noise(), format="FLAC")[:30_000], "broken"),
        (av_file("ipod", "aac")[:9_000], "broken"),
        (b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVEfmt " + b"\xff" * 400, "broken"),
        (b"fLaC" + bytes(400), "broken"),
        (b"OggS" + bytes(400), "broken"),
        (b"ID3" + noise().tobytes()[:4000], "broken"),
        (b"\x00\x00\x00\x20ftypM4A " + noise().tobytes()[:4000], "broken"),
        (file_of(np.tile(noise()[:, None], 6)), "6 channels; allowed: 1 to 2"),
        (file_of(noise(2, 4000), 4000), "4000 Hz; allowed: 8000 to 192000"),
        (wav(0.3), "lasts 0.30 s; allowed: at least 1 s"),
        (file_of(np.zeros(48_000)), "silent"),
        (file_of(np.full(48_000, np.nan, np.float32), subtype="FLOAT"), "not a number"),
    ],
    ids=[
        *("empty", "text", "zip", "npy", "pickle", "bomb", "cut wav", "cut flac", "cut m4a"),
        *("fake wav", "fake flac", "fake ogg", "fake mp3", "fake m4a", "6 channels", "4 kHz"),
        *("too short", "silent", "nan"),
    ],
)
def test_what_is_no_voice_is_refused_with_the_reason(data: bytes, told: str) -> None:
    with pytest.raises(VoiceError, match=told):
        decode_upload(data)


def test_long_audio_is_trimmed_only_where_no_transcript_speaks_of_all_of_it() -> None:
    data = wav(3.0)
    limits = UploadLimits(max_s=2.0)

    decoded = decode_upload(data, limits)
    assert (len(decoded.audio.samples), decoded.trimmed_from_s) == (48_000, 3.0)
    with pytest.raises(VoiceError, match=r"lasts 3.0 s; allowed: 2 s, or more without a tran"):
        decode_upload(data, limits, transcript="All of it.")


def test_a_file_that_is_too_large_or_of_another_kind_starts_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploads, "_ask_child", None)
    with pytest.raises(VoiceError, match="96044 bytes; allowed: 1000"):
        decode_upload(wav(), UploadLimits(max_bytes=1000))
    with pytest.raises(VoiceError, match="is flac; allowed: wav"):
        decode_upload(file_of(noise(), format="FLAC"), UploadLimits(formats=("wav",)))


def test_a_decoder_that_takes_too_long_is_killed() -> None:
    began = time.monotonic()
    with pytest.raises(VoiceError, match=r"longer than 0\.05 s"):
        decode_upload(wav(), UploadLimits(timeout_s=0.05))
    assert time.monotonic() - began < 30


def test_a_decoder_that_takes_too_much_memory_fails_alone() -> None:
    with pytest.raises(VoiceError, match=r"cannot be decoded|too much memory"):
        decode_upload(wav(20.0, 48_000), UploadLimits(max_memory_bytes=1 << 20))


def test_what_a_child_says_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    head = b'{"sample_rate_hz": 24000, "duration_s": 2}\n'
    for answer in (
        *(b"", b"\x00" * 100, b"[]\n", b"{}\n", b'{"sample_rate_hz": "x", "duration_s": 1}\n'),
        *(head, head + np.full(100, np.nan, "<f4").tobytes(), head + bytes(4 * 24_000 * 40)),
    ):
        monkeypatch.setattr(uploads, "_ask_child", lambda *_, answer=answer: answer)
        with pytest.raises(VoiceError):
            decode_upload(wav())


def test_a_child_has_nothing_of_our_environment_and_writes_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = {}
    real = uploads.subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        seen.update(options)
        return real(command, **options)

    monkeypatch.setattr(uploads.subprocess, "Popen", popen)
    monkeypatch.setenv("DUOLOGUE_AUTH__KEYS", '["secret"]')
    decode_upload(wav(), UploadLimits(temp_dir=tmp_path))
    assert set(seen["env"]) == {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    assert list(tmp_path.iterdir()) == []
