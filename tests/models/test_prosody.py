from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.pitch_marks import find_pitch_marks
from models.prosody import Prosody, change_prosody
from ondevice.audio import read_audio
from ondevice.errors import InputError
from ondevice.pitch import track_pitch
from tests.voices import VOWELS, glide, vowel

RATE_HZ = 24_000
SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
RECORDINGS = ["an4-an37-fejs-b.opus", "librispeech-2035-152373-0018.opus"]
CHANGES = [
    Prosody(pitch=0.8),
    Prosody(pitch=1.25),
    Prosody(pitch_range=0.5),
    Prosody(pitch_range=1.5),
    Prosody(rate=0.75),
    Prosody(rate=1.3),
    Prosody(pitch=1.1, pitch_range=1.2, rate=0.9),
]


def melody(seconds: float = 2.0) -> np.ndarray:
    """F0 [n] that rises and falls by a third about 180 Hz."""
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return 180 * 2 ** (0.3 * np.sin(2 * np.pi * 0.9 * times))


def changed(samples: np.ndarray, rate_hz: int, prosody: Prosody) -> np.ndarray:
    return change_prosody(samples, rate_hz, prosody, np.random.default_rng(0))


def log_f0_pairs(samples: np.ndarray, copy: np.ndarray, rate_hz: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Log F0 of the copy's frames and of the recording's at the times they come from, where both are voiced."""
    before, after = track_pitch(samples, rate_hz), track_pitch(copy, rate_hz)
    came_from = np.minimum((after.times_s * rate * rate_hz / before.hop_samples).astype(int), len(before.f0_hz) - 1)
    both = after.voiced & before.voiced[came_from]
    assert both.sum() > 0.8 * before.voiced[came_from].sum()
    return np.log(before.f0_hz[came_from][both]), np.log(after.f0_hz[both])


def check_melody(samples: np.ndarray, copy: np.ndarray, rate_hz: int, prosody: Prosody) -> None:
    """Mean F0 and its range, the slope of the copy's log F0 against the recording's, are as asked for within 3 %."""
    before, after = log_f0_pairs(samples, copy, rate_hz, prosody.rate)
    assert np.exp(after.mean() - before.mean()) == pytest.approx(prosody.pitch, rel=0.03)
    assert np.polyfit(before, after, 1)[0] == pytest.approx(prosody.pitch_range, rel=0.03)


@pytest.mark.parametrize("prosody", CHANGES, ids=str)
@pytest.mark.parametrize("name", list(VOWELS))
def test_a_vowel_gets_the_melody_that_was_asked_for(prosody: Prosody, name: str) -> None:
    samples = vowel(melody(), RATE_HZ, VOWELS[name], jitter=0.005)
    copy = changed(samples, RATE_HZ, prosody)
    assert copy.dtype == np.float32
    assert len(copy) == round(len(samples) / prosody.rate)
    check_melody(samples, copy, RATE_HZ, prosody)


@pytest.mark.parametrize("prosody", CHANGES, ids=str)
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_gets_the_melody_that_was_asked_for(prosody: Prosody, name: str) -> None:
    samples = read_audio(SAMPLES / name)
    copy = changed(samples, 16_000, prosody)
    assert len(copy) == round(len(samples) / prosody.rate)
    check_melody(samples, copy, 16_000, prosody)


@pytest.mark.parametrize("name", RECORDINGS)
def test_changing_nothing_gives_the_recording_back(name: str) -> None:
    samples = read_audio(SAMPLES / name)
    error = changed(samples, 16_000, Prosody()) - samples
    assert 10 * np.log10((samples**2).sum() / (error**2).sum()) > 50


@given(st.integers(0, 4_000), st.integers(0, 2**31), st.sampled_from(CHANGES))
@settings(deadline=None, max_examples=20)
def test_any_length_of_anything_has_the_length_asked_for(count: int, seed: int, prosody: Prosody) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.choice([0.0, 1e-6, 0.1, 1.0]) * rng.normal(size=count) + rng.choice([0.0, 1.0])
    copy = changed(samples.astype(np.float32), RATE_HZ, prosody)
    assert len(copy) == round(count / prosody.rate)
    assert np.isfinite(copy).all()


def spectrum_peaks(samples: np.ndarray, formants: tuple[float, ...]) -> list[float]:
    """Centres of mass in Hz of the mean spectrum within 200 Hz of each formant, squared so that the peak counts."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::256] * np.hanning(1024)
    power = (np.abs(np.fft.rfft(frames, 4096)) ** 2).mean(0)
    hz = np.arange(len(power)) * RATE_HZ / 4096
    smooth = np.convolve(power, np.hanning(37) / np.hanning(37).sum(), "same")  # 200 Hz wide: no harmonics
    near = [np.abs(hz - formant) < 200 for formant in formants]
    return [float((hz[n] * smooth[n] ** 2).sum() / (smooth[n] ** 2).sum()) for n in near]


@pytest.mark.parametrize("pitch", [0.8, 0.9, 1.12, 1.25])
@pytest.mark.parametrize("name", ["a", "i"])
def test_formants_stay_where_they_are(pitch: float, name: str) -> None:
    samples = vowel(glide(110, 190, 2 * RATE_HZ), RATE_HZ, VOWELS[name])  # harmonics sweep over every formant
    copy = changed(samples, RATE_HZ, Prosody(pitch=pitch))
    formants = tuple(f for f in VOWELS[name] if f > 500)  # lower ones are not told from the first harmonics
    before, after = (spectrum_peaks(x, formants) for x in (samples, copy))
    np.testing.assert_allclose(after, before, rtol=0.04)  # the harmonics moved by 10 to 25 %


def test_resampling_would_fail_the_formant_test() -> None:
    samples = vowel(glide(110, 190, 2 * RATE_HZ), RATE_HZ)
    resampled = np.interp(np.arange(0, len(samples) - 1, 1.12), np.arange(len(samples)), samples)
    before, after = (spectrum_peaks(x, VOWELS["a"]) for x in (samples, resampled))
    assert max(np.abs(np.array(after) / before - 1)) > 0.05


def test_noise_is_stretched_without_ringing() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE_HZ).astype(np.float32)
    slow = changed(noise, RATE_HZ, Prosody(rate=0.7))
    assert not track_pitch(slow, RATE_HZ).voiced.any()
    spectrum = np.fft.irfft(np.abs(np.fft.rfft(slow)) ** 2)
    repeats = spectrum[24:480] / spectrum[0]  # autocorrelation at 1 to 20 ms
    assert np.abs(repeats).max() < 0.2


def test_gain_and_tilt() -> None:
    samples = vowel(melody(1.0), RATE_HZ)
    louder = changed(samples, RATE_HZ, Prosody(gain_db=6))
    assert louder.std() == pytest.approx(samples.std() * 10 ** (6 / 20), rel=1e-3)
    soft = changed(samples, RATE_HZ, Prosody(tilt_db_per_octave=-3))
    assert soft.std() == pytest.approx(samples.std(), rel=1e-3)
    power = [np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2 for x in (samples, soft)]
    hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)

    def change_db(low: float, high: float) -> float:
        near = (hz > low) & (hz < high)
        return float(10 * np.log10(power[1][near].sum() / power[0][near].sum()))

    assert change_db(3_800, 4_200) - change_db(950, 1_050) == pytest.approx(-6, abs=0.5)


def test_marks_are_a_period_apart_and_cover_the_recording() -> None:
    f0 = melody(1.0)
    samples = np.concatenate([np.zeros(5_000), vowel(f0, RATE_HZ), np.zeros(5_000)]).astype(np.float32)
    found = find_pitch_marks(samples, RATE_HZ)
    gaps = np.diff(found.marks)
    assert (found.marks[0], found.marks[-1]) == (0, len(samples))
    assert gaps.min() > 0
    assert gaps[found.voiced].sum() > 0.95 * RATE_HZ
    middle = (found.marks[:-1] + found.marks[1:])[found.voiced] // 2 - 5_000
    ratio = RATE_HZ / gaps[found.voiced] / f0[np.clip(middle, 0, len(f0) - 1)]
    assert (np.abs(ratio - 1) < 0.05).mean() > 0.98
    reused = change_prosody(samples, RATE_HZ, Prosody(pitch=1.2), np.random.default_rng(0), found)
    np.testing.assert_array_equal(reused, changed(samples, RATE_HZ, Prosody(pitch=1.2)))


def test_values_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match=r"rate is 3\.0; expected 0\.5 to 2\.0"):
        Prosody(rate=3.0)
    with pytest.raises(InputError, match="pitch_range is nan"):
        Prosody(pitch_range=float("nan"))
