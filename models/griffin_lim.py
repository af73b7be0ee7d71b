"""A voice without a vocoder: waveforms from log-mel by inverting the mel filters and guessing the phase.

Griffin & Lim 1984 (section III), quickened as in Perraudin, Balazs & Sondergaard 2013 ("fast Griffin-Lim").
Frames lie as in `ondevice.speech_features`: F frames are F * hop samples. Shapes: `F` frames, `M` mel bands,
`R` bins, `N` samples of a window.
"""

from functools import lru_cache

import numpy as np

from ondevice.errors import InputError
from ondevice.features import LogMelConfig, mel_filters
from ondevice.speech_features import SPEECH_MEL

ITERATIONS = 60
INVERSION_ITERATIONS = 20  # of the mel filters: bands of speech are then off by 0.002 nepers on average
MOMENTUM = 0.99  # the value Perraudin et al. 2013 recommend from their experiments


@lru_cache(maxsize=4)
def _filters(config: LogMelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Filters float32 [R, M] and the start of their inversion [M, R], which spreads each band over its bins."""
    filters = mel_filters(config)
    spread = filters / np.maximum(filters.sum(1, keepdims=True), 1e-9) / np.maximum(filters.sum(0), 1e-9)
    return filters.astype(np.float32), spread.T.astype(np.float32)


def mel_to_power(log_mel: np.ndarray, config: LogMelConfig = SPEECH_MEL) -> np.ndarray:
    """Power spectra float32 [F, R], nowhere negative, whose mel energies are those of log_mel [F, M].

    Multiplicative updates (Lee & Seung 2001, theorem 2, the divergence): every band counts by its ratio, so that
    quiet bands are right too. Of the many solutions it is one near the smooth start, without harmonics of its own.
    """
    filters, spread = _filters(config)
    wanted = np.maximum(np.exp(np.asarray(log_mel, np.float32)) - config.floor, 1e-3 * config.floor).astype(np.float32)
    power = np.maximum(wanted @ spread, 1e-12)
    weight = np.maximum(filters.sum(1), 1e-9)  # [R]
    heard = filters.sum(1) > 1e-9
    for _ in range(INVERSION_ITERATIONS):
        power = power * ((wanted / np.maximum(power @ filters, 1e-12)) @ filters.T) / weight
    return np.where(heard, power, 0).astype(np.float32)


def griffin_lim(
    log_mel: np.ndarray,
    config: LogMelConfig = SPEECH_MEL,
    iterations: int = ITERATIONS,
    momentum: float = MOMENTUM,
    seed: int = 0,
) -> np.ndarray:
    """Samples float32 [F * hop] whose log-mel is about log_mel [F, M].

    Momentum 0 is Griffin & Lim's own iteration. The phase starts at random, from `seed`. Raises InputError on other
    shapes or when the window is not a whole number of hops.
    """
    log_mel = np.asarray(log_mel)
    if log_mel.ndim != 2 or log_mel.shape[1] != config.bands:
        raise InputError(f"griffin_lim: features of shape {list(log_mel.shape)}; expected [F, {config.bands}]")
    if not np.isfinite(log_mel).all():
        raise InputError("griffin_lim: features hold NaN or infinities; expected finite numbers")
    stft = _Stft(config, len(log_mel))
    if not len(log_mel):
        return np.zeros(0, np.float32)
    magnitude = np.sqrt(mel_to_power(log_mel, config))  # [F, R]
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, magnitude.shape).astype(np.float32)
    spectrum = magnitude * np.exp(1j * angles)
    previous = np.zeros_like(spectrum)
    for _ in range(iterations):
        consistent = stft.analyse(stft.synthesise(spectrum))
        ahead = consistent + np.float32(momentum) * (consistent - previous)
        spectrum = magnitude * (ahead / np.maximum(np.abs(ahead), 1e-12))
        previous = consistent
    return stft.synthesise(spectrum).astype(np.float32)


class _Stft:
    """Spectra of F frames and the least-squares inverse, for recordings with silence around them."""

    def __init__(self, config: LogMelConfig, frames: int) -> None:
        self.window, self.hop, self.fft = config.window_samples, config.hop_samples, config.fft_size
        if self.window % self.hop or (self.window - self.hop) % 2:
            raise InputError(f"griffin_lim: a window of {self.window} samples; expected whole hops of {self.hop}")
        self.overlaps, self.margin = self.window // self.hop, (self.window - self.hop) // 2
        self.taper = np.hanning(self.window + 1)[:-1].astype(np.float32)
        squares = np.broadcast_to(self.taper**2, (frames, self.window))
        self.weight = np.maximum(self._added(squares), 1e-6)  # [F * hop]

    def _added(self, frames: np.ndarray) -> np.ndarray:
        """Overlap-add [F, window] to [F * hop], the margins cut off."""
        pieces = frames.reshape(len(frames), self.overlaps, self.hop)
        whole = np.zeros((len(frames) + self.overlaps - 1, self.hop), frames.dtype)
        for k in range(self.overlaps):
            whole[k : k + len(frames)] += pieces[:, k]
        return whole.ravel()[self.margin : self.margin + len(frames) * self.hop]

    def synthesise(self, spectrum: np.ndarray) -> np.ndarray:
        """Samples [F * hop] whose spectra are nearest to these [F, R] (Griffin & Lim 1984, eq. 6)."""
        return self._added(np.fft.irfft(spectrum, self.fft)[:, : self.window] * self.taper) / self.weight

    def analyse(self, samples: np.ndarray) -> np.ndarray:
        """Spectra complex [F, R] of samples [F * hop]."""
        padded = np.pad(samples, self.margin)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop]
        return np.fft.rfft(frames * self.taper, self.fft)
