import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ondevice.errors import InputError
from ondevice.pitch import Pitch, track_pitch
from tests.voices import VOWELS, glide, vowel

RATE_HZ = 24_000


def at_centres(f0_hz: np.ndarray, track: Pitch) -> np.ndarray:
    """The true F0 [n] at the centres of a track's frames [F]."""
    centres = np.arange(len(track.f0_hz)) * track.hop_samples + track.hop_samples // 2
    return f0_hz[np.minimum(centres, len(f0_hz) - 1)]


def errors(f0_hz: np.ndarray, track: Pitch, edge: int = 3) -> tuple[float, float, float]:
    """Of a fully voiced signal: share of frames heard unvoiced, share of gross errors (20 %), mean fine error."""
    inside = slice(edge, -edge)
    voiced = track.voiced[inside]
    ratio = np.abs(track.f0_hz[inside] / at_centres(f0_hz, track)[inside] - 1)[voiced]
    return float(1 - voiced.mean()), float((ratio > 0.2).mean()), float(ratio[ratio <= 0.2].mean())


@pytest.mark.parametrize("f0_hz", [61, 80, 123.4, 220, 333, 450, 499])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_a_tone_is_measured_to_a_thousandth(f0_hz: float, rate_hz: int) -> None:
    tone = np.sin(2 * np.pi * f0_hz * np.arange(rate_hz // 2) / rate_hz).astype(np.float32)
    track = track_pitch(tone, rate_hz)
    assert track.f0_hz.dtype == np.float32
    assert len(track.f0_hz) in (50, 51)  # hops of 220 samples at 22.05 kHz
    unvoiced, gross, fine = errors(np.full(len(tone), f0_hz), track)
    assert (unvoiced, gross) == (0, 0)
    assert fine < 1e-3


@pytest.mark.parametrize("f0_hz", [110.0, 220.0, 440.0])
def test_bounds_may_be_narrow(f0_hz: float) -> None:
    tone = np.sin(2 * np.pi * f0_hz * np.arange(RATE_HZ) / RATE_HZ)
    track = track_pitch(tone, RATE_HZ, low_hz=f0_hz / 1.2, high_hz=f0_hz * 1.2)
    assert errors(np.full(len(tone), f0_hz), track)[:2] == (0, 0)


@pytest.mark.parametrize(("start_hz", "end_hz"), [(80, 160), (300, 150), (120, 420)])
def test_a_glide_is_followed_without_its_fundamental(start_hz: float, end_hz: float) -> None:
    f0 = glide(start_hz, end_hz, RATE_HZ)
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    samples = sum(np.sin(k * phase + k * k) / k for k in range(3, 9))
    unvoiced, gross, fine = errors(f0, track_pitch(samples, RATE_HZ))
    assert (unvoiced, gross) == (0, 0)
    assert fine < 0.003


def test_vibrato_is_followed_where_it_happens() -> None:
    seconds = np.arange(2 * RATE_HZ) / RATE_HZ
    f0 = 220 * 2 ** (np.sin(2 * np.pi * 5.5 * seconds) / 12)  # a semitone up and down
    track = track_pitch(vowel(f0, RATE_HZ), RATE_HZ, hop_samples=256)
    assert errors(f0, track)[:2] == (0, 0)
    truth = 12 * np.log2(at_centres(f0, track) / 220)[5:-5]
    heard = 12 * np.log2(track.f0_hz / 220)[5:-5]
    assert np.corrcoef(truth, heard)[0, 1] > 0.995  # a frame of delay would give 0.93
    assert 0.85 < heard.std() / truth.std() < 1.02


@pytest.mark.parametrize("name", list(VOWELS))
@pytest.mark.parametrize("f0_hz", [75, 110, 190, 300])
def test_vowels_with_jitter_and_breath(name: str, f0_hz: float) -> None:
    f0 = glide(f0_hz, f0_hz * 1.3, RATE_HZ)
    samples = vowel(f0, RATE_HZ, VOWELS[name], jitter=0.01)
    breath = np.random.default_rng(1).normal(0, samples.std() * 10 ** (-15 / 20), len(samples))
    unvoiced, gross, fine = errors(f0, track_pitch(samples + breath, RATE_HZ))
    assert unvoiced < 0.02
    assert gross < 0.01
    assert fine < 0.012


def test_where_the_voice_begins_and_ends() -> None:
    f0 = glide(200, 150, RATE_HZ // 2)
    noise = np.random.default_rng(2).normal(0, 0.02, 2 * RATE_HZ)
    noise[RATE_HZ // 2 : RATE_HZ] += vowel(f0, RATE_HZ)  # a hiss, a vowel, a hiss of a second
    voiced = track_pitch(noise, RATE_HZ).voiced
    truth = (np.arange(200) >= 50) & (np.arange(200) < 100)
    assert (voiced != truth).mean() < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_noise_is_unvoiced(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.1, 4 * RATE_HZ)
    assert track_pitch(noise, RATE_HZ).voiced.mean() < 0.01
    assert track_pitch(np.cumsum(noise), RATE_HZ).voiced.mean() < 0.02  # rumble


def test_silence_and_a_constant_are_unvoiced() -> None:
    for samples in (np.zeros(RATE_HZ), np.ones(RATE_HZ), np.full(RATE_HZ, -1e-3)):
        track = track_pitch(samples, RATE_HZ)
        assert not track.voiced.any()
        assert not track.f0_hz.any()


@pytest.mark.parametrize("gain", [2.0**-14, 0.5, 64.0])
def test_level_does_not_matter(gain: float) -> None:
    samples = vowel(glide(100, 200, RATE_HZ), RATE_HZ, jitter=0.01)
    plain, scaled = track_pitch(samples, RATE_HZ), track_pitch(samples * np.float32(gain), RATE_HZ)
    np.testing.assert_array_equal(plain.f0_hz, scaled.f0_hz)
    np.testing.assert_array_equal(plain.periodicity, scaled.periodicity)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(0, 900), elements=st.floats(-(2.0**127), 2.0**127, width=32)),
    st.sampled_from([8_000, 11_025, 24_000, 47_999]),
    st.integers(1, 400),
)
def test_anything_finite_gives_a_track(samples: np.ndarray, rate_hz: int, hop_samples: int) -> None:
    track = track_pitch(samples, rate_hz, hop_samples)
    assert len(track.f0_hz) == len(track.voiced) == len(track.times_s) == -(-len(samples) // hop_samples)
    assert np.array_equal(track.f0_hz > 0, track.voiced)
    assert np.isfinite(track.f0_hz).all()
    assert ((track.periodicity >= 0) & (track.periodicity <= 1)).all()
    assert ((track.f0_hz == 0) | ((track.f0_hz > 59.9) & (track.f0_hz < 500.1))).all()


def test_wrong_input_is_named() -> None:
    good = np.zeros(100, np.float32)
    with pytest.raises(InputError, match="rate_hz is 96000"):
        track_pitch(good, 96_000)
    with pytest.raises(InputError, match=r"shape \[2, 50\]"):
        track_pitch(good.reshape(2, 50), RATE_HZ)
    with pytest.raises(InputError, match="NaN"):
        track_pitch(np.array([0, np.nan]), RATE_HZ)
    with pytest.raises(InputError, match="hop_samples is 0"):
        track_pitch(good, RATE_HZ, 0)
    with pytest.raises(InputError, match="low_hz 300"):
        track_pitch(good, RATE_HZ, low_hz=300, high_hz=200)
