"""The step contract of the vocoder: whole recordings equal chunks, gradients flow, the future stays in the future."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

keras = pytest.importorskip("keras")

from keras import ops  # noqa: E402

from models.vocoder import SMALL, TINY, Vocoder, inverse_stft, state_type  # noqa: E402
from ondevice import overlap_add  # noqa: E402
from ondevice.speech_features import SPEECH_MEL, speech_mel  # noqa: E402
from tests.models.backends import on_every_backend  # noqa: E402
from tests.models.weight_gradients import assert_all_reached, weight_gradients  # noqa: E402

test_on_jax = on_every_backend(__file__)


@pytest.fixture(scope="module")
def model() -> Vocoder:
    keras.utils.set_random_seed(0)
    model = Vocoder(TINY)
    model.build()
    return model


def mel(frames: int = 13, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(-6, 3, (batch, frames, TINY.bands)).astype(np.float32)


def numpy_(x) -> np.ndarray:
    return ops.convert_to_numpy(x)


def test_a_frame_becomes_a_hop_of_samples(model: Vocoder) -> None:
    waveform = numpy_(model(mel()))
    assert waveform.shape == (2, 13 * TINY.hop)
    assert waveform.dtype == np.float32


@settings(max_examples=12 if keras.backend.backend() == "tensorflow" else 3, deadline=None)  # JAX compiles each size
@given(st.sets(st.integers(1, 8)))
def test_any_chunks_equal_the_whole_recording(model: Vocoder, cuts: set[int]) -> None:
    x, sizes = mel(9), np.diff([0, *sorted(cuts), 9]).tolist()
    silence = np.full((2, TINY.lookahead, TINY.bands), TINY.silence, np.float32)
    late = np.concatenate([x, silence], axis=1)
    state, chunks, start = model.initial_state(2), [], 0
    for size in [*sizes, TINY.lookahead]:
        real, imag, state = model.step(late[:, start : start + size], state)
        chunks.append((numpy_(real), numpy_(imag)))
        start += size
    real, imag = (np.concatenate(parts, 1)[:, TINY.lookahead :] for parts in zip(*chunks, strict=True))
    for part, whole in zip((real, imag), model.spectra(x), strict=True):
        np.testing.assert_allclose(part, numpy_(whole), atol=1e-5)
    streamed = overlap_add.inverse_stft(real[0], imag[0], TINY.fft, TINY.hop)
    np.testing.assert_allclose(streamed, numpy_(model(x))[0], atol=1e-5)


def test_silence_at_the_ends_is_what_padding_would_be(model: Vocoder) -> None:
    x = mel()
    silence = np.full((2, 8, TINY.bands), TINY.silence, np.float32)
    late = numpy_(model(np.concatenate([x, silence], axis=1)))
    kept = 13 * TINY.hop - (TINY.fft - TINY.hop) // 2  # the last samples are shared with frames that are not there
    np.testing.assert_allclose(late[:, :kept], numpy_(model(x))[:, :kept], atol=1e-5)
    np.testing.assert_allclose(SPEECH_MEL.floor, np.exp(TINY.silence), rtol=1e-6)
    np.testing.assert_allclose(speech_mel(np.zeros(2560, np.float32)), TINY.silence, atol=1e-5)


def test_the_future_never_changes_the_past(model: Vocoder) -> None:
    changed = mel()
    changed[:, 8:] = np.nan
    until = (8 - TINY.lookahead) * TINY.hop - (
        TINY.fft - TINY.hop
    ) // 2  # first sample of the first frame that hears it
    heard = numpy_(model(changed))
    np.testing.assert_array_equal(heard[:, :until], numpy_(model(mel()))[:, :until])
    assert np.isnan(heard[:, until + 1]).all()


def test_an_impulse_is_heard_as_far_as_the_receptive_field(model: Vocoder) -> None:
    frames = TINY.receptive_frames + 6
    loud = mel(frames, 1)
    loud[:, 3] += 1.0
    changed = np.abs(numpy_(model.spectra(loud)[0]) - numpy_(model.spectra(mel(frames, 1))[0])).max((0, 2)) > 0
    first = 3 - TINY.lookahead
    assert np.flatnonzero(changed).tolist() == list(range(first, first + TINY.receptive_frames))


def test_gradients_reach_every_weight(model: Vocoder) -> None:
    assert_all_reached(weight_gradients(model, lambda y: ops.sum(ops.sin(7 * y)), mel()))


def test_the_inverse_equals_the_runtime_and_undoes_the_transform() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 2560).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 384), 1024)[::256]
    spectrum = np.fft.rfft(windows * np.hanning(1025)[:-1]).astype(np.complex64)
    inverse = numpy_(inverse_stft(spectrum.real[None], spectrum.imag[None], 1024, 256))[0]
    np.testing.assert_allclose(inverse, samples, atol=1e-6)
    np.testing.assert_allclose(inverse, overlap_add.inverse_stft(spectrum.real, spectrum.imag), atol=1e-6)


def test_statistics_normalise_and_are_saved(model: Vocoder, tmp_path) -> None:
    other = Vocoder(TINY)
    other.build()
    model.save_weights(tmp_path / "v.weights.h5")
    other.set_statistics(np.full(TINY.bands, 9.0), np.full(TINY.bands, 2.0))
    assert np.abs(numpy_(other(mel())) - numpy_(model(mel()))).max() > 1e-4
    other.load_weights(tmp_path / "v.weights.h5")
    np.testing.assert_array_equal(numpy_(other(mel())), numpy_(model(mel())))


def test_presets_and_their_refusals() -> None:
    small = Vocoder(SMALL)
    small.build()
    assert 2e6 < small.count_params() < 4e6
    assert (SMALL.bands, SMALL.hop, SMALL.fft) == (SPEECH_MEL.bands, SPEECH_MEL.hop_samples, SPEECH_MEL.fft_size)
    assert state_type(2)._fields == ("vocoder_mel", "vocoder_conv0", "vocoder_conv1")
    with pytest.raises(ValueError, match="lookahead"):
        replace(TINY, lookahead=3)
    with pytest.raises(ValueError, match="multiple of hop"):
        replace(TINY, hop=5)
