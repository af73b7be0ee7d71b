import numpy as np
import pytest

from ondevice.errors import InputError
from ondevice.features import LogMelConfig, mel_filters
from ondevice.speech_features import SPEECH_MEL, speech_frame_count, speech_mel, whole_frames


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def test_the_settings_are_whole_samples() -> None:
    assert (SPEECH_MEL.window_samples, SPEECH_MEL.hop_samples, SPEECH_MEL.fft_size) == (1024, 256, 1024)
    expected = LogMelConfig(24_000, 1024 / 24, 256 / 24, 80, 0.0, 12_000.0, 1e-6, 1)
    assert expected == SPEECH_MEL


def test_every_band_hears_something() -> None:
    assert mel_filters(SPEECH_MEL).sum(0).min() > 1


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (255, 1), (256, 1), (257, 2), (24_000, 94)])
def test_a_frame_for_every_hop(samples: int, frames: int) -> None:
    features = speech_mel(noise(samples))
    assert features.shape == (frames, 80)
    assert features.dtype == np.float32
    assert speech_frame_count(samples) == frames
    assert len(whole_frames(noise(samples))) == 256 * frames


def test_a_click_is_loudest_in_the_frame_of_its_samples() -> None:
    for frame in (0, 7, 19):
        samples = np.zeros(20 * 256, np.float32)
        samples[frame * 256 + 128] = 1
        assert speech_mel(samples).mean(1).argmax() == frame


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(speech_mel(np.zeros(1000, np.float32)), np.log(1e-6))


def test_two_channels_are_refused_with_the_shape() -> None:
    with pytest.raises(InputError, match=r"shape \[100, 2\]"):
        speech_mel(np.zeros((100, 2), np.float32))
