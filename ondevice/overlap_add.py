"""Inverse short-time Fourier transform of a stream: spectra come in chunks, samples go out as they are complete.

Shapes: `n` frames of a chunk, `N` fft samples, `R` bins N/2 + 1. Sums are kept in float64 and each sample is added up
in the order of its frames, so that any chunking of the same frames gives the same bits.
"""

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class StreamingInverseStft:
    """Least-squares overlap-add (Griffin & Lim 1984, eq. 6) with a periodic Hann window.

    Frame f is centred on the samples f * hop ... (f + 1) * hop, so F frames give F * hop samples; the last
    (N - hop) / 2 of them (16 ms at 24 kHz) wait for `finish` or for the frames that overlap them.
    """

    def __init__(self, fft: int = 1024, hop: int = 256) -> None:
        """Raises InputError unless hop divides fft and fits into it twice at least."""
        if hop < 1 or fft % hop or fft < 2 * hop:
            raise InputError(f"inverse STFT: fft {fft} must be a multiple of hop {hop}, at least twice")
        self.fft, self.hop = fft, hop
        self.margin_samples = (fft - hop) // 2
        self._window = np.hanning(fft + 1)[:-1]
        self._overlaps = fft // hop
        self.reset()

    def reset(self) -> None:
        """Forget the stream; the next frame is a first one."""
        self._sum = np.zeros((self._overlaps - 1, self.hop))  # samples that later frames still add to
        self._weight = np.zeros((self._overlaps - 1, self.hop))
        self._skip = self.margin_samples

    def accept(self, real: Float32, imag: Float32) -> Float32:
        """Samples float32 [m] in the scale of the spectra that chunks [n, R] complete (none for few frames).

        Raises InputError on other shapes.
        """
        bins = self.fft // 2 + 1
        if real.shape != imag.shape or real.ndim != 2 or real.shape[1] != bins:
            raise InputError(
                f"inverse STFT: spectra of shapes {list(real.shape)} and {list(imag.shape)}; expected [n, {bins}] twice"
            )
        spectrum = real.astype(np.float64) + 1j * imag.astype(np.float64)
        frames = np.fft.irfft(spectrum, self.fft) * self._window  # [n, N]
        count = len(frames)
        total = self._added(self._sum, frames)
        weight = self._added(self._weight, np.broadcast_to(self._window**2, frames.shape))
        self._sum, self._weight = total[count:], weight[count:]
        return self._samples(total[:count], weight[:count])

    def finish(self) -> Float32:
        """The samples float32 [(N - hop) / 2] still held back; the next frame begins another stream."""
        samples = self._samples(self._sum, self._weight)
        started = self._weight.any()
        self.reset()
        return samples[: len(samples) - self.margin_samples] if started else samples[:0]

    def _added(self, carried: Float64, frames: Float64) -> Float64:
        """Blocks [n + N / hop - 1, hop] of what was carried over and the frames at their places, oldest first."""
        blocks = np.concatenate([carried, np.zeros((len(frames), self.hop))])
        for shift in reversed(range(self._overlaps)):
            blocks[shift : shift + len(frames)] += frames[:, shift * self.hop : (shift + 1) * self.hop]
        return blocks

    def _samples(self, total: Float64, weight: Float64) -> Float32:
        samples = (total / np.maximum(weight, 1e-8)).reshape(-1)
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        return samples[skipped:].astype(np.float32)


def inverse_stft(real: Float32, imag: Float32, fft: int = 1024, hop: int = 256) -> Float32:
    """The samples float32 [F * hop] of whole spectra [F, R]."""
    stream = StreamingInverseStft(fft, hop)
    return np.concatenate([stream.accept(real, imag), stream.finish()])
