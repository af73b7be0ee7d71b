"""Spectra in chunks of any size become the samples they came from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import InputError
from ondevice.overlap_add import StreamingInverseStft, inverse_stft


def spectra(samples: np.ndarray, fft: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Short-time spectra [F, R] of samples [F * hop], each centred on its hop."""
    margin = (fft - hop) // 2
    if not len(samples):
        return (np.zeros((0, fft // 2 + 1), np.float32),) * 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(samples, margin), fft)[::hop]
    spectrum = np.fft.rfft(windows * np.hanning(fft + 1)[:-1])
    return spectrum.real.astype(np.float32), spectrum.imag.astype(np.float32)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, count).astype(np.float32)


@pytest.mark.parametrize(("fft", "hop"), [(1024, 256), (16, 4), (16, 8), (12, 4)])
def test_the_inverse_of_the_spectra_is_the_signal(fft: int, hop: int) -> None:
    samples = noise(9 * hop)
    np.testing.assert_allclose(inverse_stft(*spectra(samples, fft, hop), fft, hop), samples, atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8))
def test_any_chunking_equals_the_whole(sizes: list[int]) -> None:
    real, imag = spectra(noise(sum(sizes) * 64), 256, 64)
    stream, pieces, start = StreamingInverseStft(256, 64), [], 0
    for size in sizes:
        pieces.append(stream.accept(real[start : start + size], imag[start : start + size]))
        start += size
    pieces.append(stream.finish())
    streamed = np.concatenate(pieces)
    assert streamed.dtype == np.float32
    assert len(streamed) == 64 * sum(sizes)
    np.testing.assert_array_equal(streamed, inverse_stft(real, imag, 256, 64))


def test_all_but_the_margin_comes_out_at_once() -> None:
    real, imag = spectra(noise(8 * 256), 1024, 256)
    assert len(StreamingInverseStft().accept(real, imag)) == 8 * 256 - 384


def test_a_finished_stream_can_be_used_again() -> None:
    real, imag = spectra(noise(640), 256, 64)
    stream = StreamingInverseStft(256, 64)
    first = np.concatenate([stream.accept(real, imag), stream.finish()])
    second = np.concatenate([stream.accept(real, imag), stream.finish()])
    np.testing.assert_array_equal(first, second)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="multiple of hop 300"):
        StreamingInverseStft(1024, 300)
    with pytest.raises(InputError, match="at least twice"):
        StreamingInverseStft(256, 256)
    with pytest.raises(InputError, match=r"expected \[n, 513\] twice"):
        StreamingInverseStft().accept(np.zeros((2, 512), np.float32), np.zeros((2, 512), np.float32))
