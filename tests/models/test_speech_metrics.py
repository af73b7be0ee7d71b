import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dtw import distances, warp
from models.speech_metrics import (
    MCD_DB,
    F0Errors,
    align,
    compare_speech,
    f0_errors,
    log_spectral_distance,
    mcd13,
    mcd13_dtw,
    mel_cepstra,
    metric_mel,
)
from ondevice.errors import InputError
from ondevice.features import LogMel
from ondevice.pitch import Pitch, track_pitch
from ondevice.styles import prosody_summary
from tests.voices import VOWELS, glide, vowel

RATE_HZ = 24_000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def contour(f0_hz: list[float]) -> Pitch:
    f0 = np.array(f0_hz, np.float32)
    return Pitch(f0, f0 > 0, np.ones_like(f0), RATE_HZ, 240)


def every_path(cost: np.ndarray, i: int = 0, j: int = 0) -> float:
    """The least total cost from (i, j) on, by trying every path."""
    rows, columns = cost.shape
    if (i, j) == (rows - 1, columns - 1):
        return float(cost[i, j])
    ways = [(i + 1, j), (i, j + 1), (i + 1, j + 1)]
    return float(cost[i, j]) + min(every_path(cost, a, b) for a, b in ways if a < rows and b < columns)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
@settings(deadline=None)
def test_the_warp_is_the_cheapest_of_all_paths(rows: int, columns: int, seed: int) -> None:
    cost = np.random.default_rng(seed).random((rows, columns))
    found = warp(cost)
    assert found.cost == pytest.approx(every_path(cost))
    assert found.cost == pytest.approx(cost[found.first, found.second].sum())
    steps = np.stack([np.diff(found.first), np.diff(found.second)], 1)
    assert {tuple(s) for s in steps.tolist()} <= {(0, 1), (1, 0), (1, 1)}
    assert (found.first[0], found.second[0]) == (0, 0)
    assert (found.first[-1], found.second[-1]) == (rows - 1, columns - 1)
    assert warp(cost.T).cost == pytest.approx(found.cost)


@pytest.mark.parametrize(("rows", "columns", "band"), [(40, 40, 3), (60, 20, 2), (20, 60, 1), (1, 7, 1), (7, 1, 1)])
def test_a_band_holds_the_path_near_the_straight_line(rows: int, columns: int, band: int) -> None:
    found = warp(np.random.default_rng(0).random((rows, columns)), band)
    slope = (columns - 1) / max(rows - 1, 1)
    assert np.abs(found.second - found.first * slope).max() <= band * max(1, slope)
    assert np.isfinite(found.cost)


def test_a_band_wide_enough_changes_nothing() -> None:
    cost = np.random.default_rng(1).random((30, 50))
    assert warp(cost, 50).cost == warp(cost).cost


def test_ten_seconds_against_ten_seconds() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(1000, 13))
    found = warp(distances(first, np.repeat(first, 2, 0)[500:1500]))
    assert found.cost > 0
    assert warp(distances(first, first)).cost == 0


def test_a_warp_undoes_repeated_frames() -> None:
    first = np.random.default_rng(0).normal(size=(50, 3))
    repeats = np.random.default_rng(1).integers(1, 4, 50)
    found = warp(distances(first, np.repeat(first, repeats, 0)))
    assert found.cost == 0
    np.testing.assert_array_equal(found.first, np.repeat(np.arange(50), repeats))


def test_mcd_is_the_rms_difference_of_smoothed_mel_spectra_in_db() -> None:
    x, y = noise(RATE_HZ), vowel(glide(100, 120, RATE_HZ), RATE_HZ)
    bands, k = 80, np.arange(14)
    cosines = np.cos(np.pi * np.outer(np.arange(bands) + 0.5, k) / bands) * np.where(k, np.sqrt(2 / bands), 0)
    log_mel, margin = LogMel(metric_mel(RATE_HZ)), (600 - 240) // 2
    decibels = [10 / np.log(10) * log_mel(np.pad(s, margin)) for s in (x, y)]  # [F, M] each
    smoothed = (decibels[0] - decibels[1]) @ cosines @ cosines.T
    expected = np.sqrt((smoothed**2).mean(1)).mean()
    assert mcd13(x, y, RATE_HZ) == pytest.approx(expected, rel=1e-4)
    assert pytest.approx(6.1418, abs=1e-3) == MCD_DB


def test_nothing_is_0_from_itself_and_distances_are_symmetric() -> None:
    x, y = vowel(glide(100, 120, 12_000), RATE_HZ), vowel(glide(200, 150, 14_000), RATE_HZ, VOWELS["i"])
    same = compare_speech(x, x, RATE_HZ)
    assert (same.mcd13_db, same.mcd13_dtw_db) == (0, 0)
    assert same.f0 == F0Errors(0, 0, 0, 50)
    assert log_spectral_distance(x, x, RATE_HZ) == 0
    assert mcd13(x, y, RATE_HZ) == mcd13(y, x, RATE_HZ) > 1
    assert mcd13_dtw(x, y, RATE_HZ) == pytest.approx(mcd13_dtw(y, x, RATE_HZ))
    z = y[: len(x)]
    assert log_spectral_distance(x, z, RATE_HZ) == log_spectral_distance(z, x, RATE_HZ) > 1


def test_level_is_no_timbre_but_counts_in_the_spectrum() -> None:
    x = noise(RATE_HZ)
    assert mcd13(x, x / 2, RATE_HZ) < 0.05  # the floor
    assert log_spectral_distance(x, x / 2, RATE_HZ) == pytest.approx(20 * np.log10(2), abs=0.02)


def test_a_slower_copy_is_far_frame_by_frame_and_near_along_the_warp() -> None:
    def syllables(each: int) -> np.ndarray:
        return np.concatenate([vowel(glide(120, 110, each), RATE_HZ, f) for f in VOWELS.values()])

    quick, slow = syllables(6_000), syllables(9_000)
    assert mcd13_dtw(quick, slow, RATE_HZ) < 0.5 * mcd13(quick, slow, RATE_HZ)
    path = align(quick, slow, RATE_HZ)
    assert path.second[-1] == len(mel_cepstra(slow, RATE_HZ)) - 1
    straight = path.first * 1.5
    assert np.abs(path.second - straight).mean() < 12  # within a vowel any alignment is as good


def test_f0_errors_by_hand() -> None:
    recorded, heard = contour([100, 100, 100, 0, 0, 200]), contour([119, 121, 0, 0, 90, 150])
    errors = f0_errors(recorded, heard)
    assert errors == F0Errors(gross=2 / 3, voicing=2 / 6, frame=4 / 6, frames=6)
    assert f0_errors(recorded, contour([119, 121])) == F0Errors(1 / 2, 2 / 6, 3 / 6, 6)  # the rest is unvoiced
    path = warp(distances(np.arange(6)[:, None], np.arange(2)[:, None]))
    assert f0_errors(recorded, contour([100, 200]), path).frames == len(path.first)
    assert f0_errors(contour([0]), contour([0])) == F0Errors(0, 0, 0, 1)
    with pytest.raises(InputError, match="240 samples at 24000 Hz and 240 at 16000"):
        f0_errors(recorded, Pitch(heard.f0_hz, heard.voiced, heard.f0_hz, 16_000, 240))


@pytest.mark.parametrize(("shift", "gross"), [(1.15, 0.0), (1.25, 1.0), (0.85, 0.0), (0.75, 1.0)])
def test_a_known_shift_gives_a_known_gross_error(shift: float, gross: float) -> None:
    f0 = glide(150, 200, RATE_HZ // 2)
    tracks = [track_pitch(vowel(f * f0, RATE_HZ), RATE_HZ) for f in (1.0, shift)]
    errors = f0_errors(*tracks)
    assert errors.gross == pytest.approx(gross, abs=0.05)
    assert errors.voicing < 0.05


def test_a_summary_says_what_was_made() -> None:
    f0 = glide(100, 200, RATE_HZ)  # an octave
    said = np.concatenate([np.zeros(4_800), vowel(f0, RATE_HZ), np.zeros(7_200)])
    summary = prosody_summary(said, RATE_HZ)
    assert summary.f0_mean_hz == pytest.approx(100 * 2**0.5, rel=0.01)
    assert summary.f0_mean_semitones == pytest.approx(6, abs=0.1)
    assert summary.f0_range_semitones == pytest.approx(0.9 * 12, abs=0.3)
    assert summary.speech_s == pytest.approx(1.0, abs=0.03)
    assert summary.voiced_share > 0.95
    louder = prosody_summary(2 * said, RATE_HZ)
    assert louder.energy_db - summary.energy_db == pytest.approx(20 * np.log10(2))


@pytest.mark.parametrize("samples", [0, 1, 100, 24_000])
def test_a_summary_of_silence_is_finite(samples: int) -> None:
    summary = prosody_summary(np.zeros(samples, np.float32), RATE_HZ)
    assert (summary.f0_mean_hz, summary.f0_range_semitones, summary.speech_s) == (0, 0, 0)
    assert np.isfinite(list(vars(summary).values())).all()


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="48000 and 48001 samples"):
        log_spectral_distance(noise(48_000), noise(48_001), RATE_HZ)
    with pytest.raises(InputError, match="empty"):
        mcd13(noise(0), noise(0), RATE_HZ)
    with pytest.raises(InputError, match=r"shape \[0, 5\]"):
        warp(np.zeros((0, 5)))
    with pytest.raises(InputError, match="high_hz 7600"):
        mel_cepstra(noise(8_000), 8_000)
