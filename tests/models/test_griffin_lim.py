import numpy as np
import pytest

from models.griffin_lim import griffin_lim, mel_to_power
from models.speech_metrics import mcd13
from ondevice.errors import InputError
from ondevice.features import LogMelConfig, mel_filters
from ondevice.pitch import track_pitch
from ondevice.speech_features import SPEECH_MEL, speech_mel
from tests.voices import glide, vowel

RATE_HZ = 24_000
FRAMES = 60
SAMPLES = vowel(glide(120, 180, FRAMES * 256), RATE_HZ)
MEL = speech_mel(SAMPLES)


def test_mel_energies_are_met_by_power_that_is_nowhere_negative() -> None:
    power = mel_to_power(MEL)
    assert power.shape == (FRAMES, 513)
    assert power.dtype == np.float32
    assert power.min() >= 0
    error = np.log(power @ mel_filters(SPEECH_MEL) + SPEECH_MEL.floor) - MEL
    assert np.abs(error).mean() < 0.05  # a made voice has empty bands between its harmonics


def test_a_copy_sounds_like_the_recording() -> None:
    copy = griffin_lim(MEL, iterations=40)
    assert copy.shape == (FRAMES * 256,)
    assert copy.dtype == np.float32
    assert np.isfinite(copy).all()
    assert np.abs(speech_mel(copy) - MEL).mean() < 0.5
    assert mcd13(SAMPLES, copy, RATE_HZ) < 3
    f0, heard = track_pitch(SAMPLES, RATE_HZ), track_pitch(copy, RATE_HZ)
    both = f0.voiced & heard.voiced
    assert both.mean() > 0.9
    assert np.abs(heard.f0_hz[both] / f0.f0_hz[both] - 1).mean() < 0.03


def distance(**options: float) -> float:
    return float(np.abs(speech_mel(griffin_lim(MEL, **options)) - MEL).mean())


def test_iterations_and_momentum_bring_it_nearer() -> None:
    assert distance(momentum=0, iterations=0) > distance(momentum=0, iterations=20) > distance(iterations=20)


def test_the_seed_decides() -> None:
    np.testing.assert_array_equal(griffin_lim(MEL, iterations=2), griffin_lim(MEL, iterations=2))
    assert not np.array_equal(griffin_lim(MEL, iterations=2), griffin_lim(MEL, iterations=2, seed=1))


@pytest.mark.parametrize("frames", [0, 1, 2, 5])
def test_short_and_silent_features(frames: int) -> None:
    silence = np.full((frames, 80), np.log(SPEECH_MEL.floor), np.float32)
    quiet = griffin_lim(silence)
    assert len(quiet) == frames * 256
    assert np.abs(quiet).max(initial=0) < 1e-3
    assert np.isfinite(griffin_lim(np.zeros((frames, 80), np.float32))).all()


def test_wrong_features_are_named() -> None:
    with pytest.raises(InputError, match=r"shape \[4, 79\]"):
        griffin_lim(np.zeros((4, 79)))
    with pytest.raises(InputError, match="NaN"):
        griffin_lim(np.full((4, 80), np.nan))
    with pytest.raises(InputError, match="whole hops of 160"):
        griffin_lim(np.zeros((4, 80)), LogMelConfig(stack=1))
