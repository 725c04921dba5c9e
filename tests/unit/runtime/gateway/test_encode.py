from __future__ import annotations

import io

import av
import numpy as np
import pytest

from duologue.runtime.gateway.effects import Reshaper
from duologue.runtime.gateway.encode import MEDIA_TYPES, encoder_rate_hz, make_encoder

RATE_HZ = 24_000
CHUNK = 1920


def tone(seconds: float, frequency_hz: float = 440.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.round(8000 * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.int16)


def in_pieces(samples: np.ndarray, size: int = CHUNK) -> list[np.ndarray]:
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def decode(data: bytes) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    resampler = av.AudioResampler("s16", "mono", frames[0].sample_rate)
    parts = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(parts), frames[0].sample_rate


def main_frequency_hz(samples: np.ndarray, rate_hz: int = RATE_HZ) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate_hz / len(samples))


@pytest.mark.parametrize("audio_format", sorted(set(MEDIA_TYPES) - {"pcm"}))
def test_every_format_is_decoded_to_the_tone_that_went_in(audio_format: str) -> None:
    encoder = make_encoder(audio_format, RATE_HZ)
    parts = [encoder.encode(piece) for piece in in_pieces(tone(1.0))]
    samples, rate_hz = decode(b"".join([*parts, encoder.finish()]))

    assert len(samples) / rate_hz == pytest.approx(1.0, abs=0.12)
    assert main_frequency_hz(samples, rate_hz) == pytest.approx(440, abs=3)


@pytest.mark.parametrize("audio_format", sorted(MEDIA_TYPES))
def test_bytes_come_out_before_the_third_chunk(audio_format: str) -> None:
    encoder = make_encoder(audio_format, RATE_HZ)
    assert encoder.encode(tone(0.08)) + encoder.encode(tone(0.08))


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
def test_lossless_formats_give_the_same_samples_back(audio_format: str) -> None:
    samples = np.random.default_rng(1).integers(-32768, 32768, 5000).astype(np.int16)
    encoder = make_encoder(audio_format, RATE_HZ)
    data = b"".join([encoder.encode(piece) for piece in in_pieces(samples, 777)])
    decoded, _ = decode(data + encoder.finish())
    np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize("audio_format", sorted(MEDIA_TYPES))
def test_an_empty_stream_ends_without_an_error(audio_format: str) -> None:
    make_encoder(audio_format, RATE_HZ).finish()


def test_pcm_is_the_samples_little_endian() -> None:
    encoder = make_encoder("pcm", RATE_HZ)
    assert encoder.encode(np.array([1, -2], np.int16)) == b"\x01\x00\xfe\xff"
    assert encoder.finish() == b""


def test_opus_takes_only_its_own_rates() -> None:
    rates = {rate: encoder_rate_hz("opus", rate) for rate in (8000, 22050, 24000, 44100, 96000)}
    assert rates == {8000: 8000, 22050: 24000, 24000: 24000, 44100: 48000, 96000: 48000}


def reshape(samples: np.ndarray, to_hz: int = RATE_HZ, **how: float) -> np.ndarray:
    reshaper = Reshaper(RATE_HZ, to_hz, **how)
    parts = [reshaper.process(piece) for piece in in_pieces(samples)]
    return np.concatenate([*parts, reshaper.finish()])


def test_nothing_asked_for_changes_nothing() -> None:
    samples = tone(0.5)
    np.testing.assert_array_equal(reshape(samples), samples)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.5, 2.0, 4.0])
def test_speed_changes_the_length_and_not_the_tone(speed: float) -> None:
    spoken = reshape(tone(2.0), speed=speed)
    assert len(spoken) / RATE_HZ == pytest.approx(2.0 / speed, rel=0.05)
    assert main_frequency_hz(spoken) == pytest.approx(440, rel=0.03)


@pytest.mark.parametrize("pitch", [0.5, 0.9, 1.3, 2.0])
@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
def test_pitch_changes_the_tone_and_not_the_length(pitch: float, speed: float) -> None:
    spoken = reshape(tone(2.0), pitch=pitch, speed=speed)
    assert len(spoken) / RATE_HZ == pytest.approx(2.0 / speed, rel=0.06)
    assert main_frequency_hz(spoken) == pytest.approx(440 * pitch, rel=0.04)


def test_speed_gives_audio_before_the_last_sample_went_in() -> None:
    reshaper = Reshaper(RATE_HZ, RATE_HZ, speed=1.25)
    assert sum(len(reshaper.process(piece)) for piece in in_pieces(tone(1.0))) > RATE_HZ // 2


@pytest.mark.parametrize("to_hz", [8_000, 16_000, 44_100, 48_000])
def test_resampling_keeps_length_and_tone(to_hz: int) -> None:
    spoken = reshape(tone(1.0), to_hz)
    assert len(spoken) == pytest.approx(to_hz, abs=2)
    assert main_frequency_hz(spoken, to_hz) == pytest.approx(440, abs=2)
