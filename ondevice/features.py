"""Log-mel features: one NumPy implementation for training and for the device.

Shapes: `n` samples, `F` frames of 10 ms, `S` stacked frames of 30 ms, `M` mel bands.

The arithmetic is done in float64 and rounded once at the end, so a frame is the same whether it was computed
alone, in a block or with the whole file.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogMelConfig:
    """Settings of the front end (He et al. 2018, section 2: 80 bands, 25/10 ms, stacked to 30 ms)."""

    rate_hz: int = 16_000
    window_ms: float = 25.0
    hop_ms: float = 10.0
    bands: int = 80
    low_hz: float = 20.0
    high_hz: float = 7_600.0
    floor: float = 1e-6  # added to the band energies: about -80 dB, above the noise of 16-bit samples
    stack: int = 3  # frames of one hop joined into one stacked frame (30 ms)

    def __post_init__(self) -> None:
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise InputError(
                f"log-mel: low_hz {self.low_hz} and high_hz {self.high_hz} must satisfy "
                f"0 <= low < high <= {self.rate_hz / 2}"
            )
        if min(self.rate_hz, self.window_ms, self.hop_ms, self.bands, self.stack, self.floor) <= 0:
            raise InputError("log-mel: rate, window, hop, bands, stack and floor must be positive")

    @property
    def window_samples(self) -> int:
        """400 samples: 25 ms at 16 kHz."""
        return round(self.rate_hz * self.window_ms / 1000)

    @property
    def hop_samples(self) -> int:
        """160 samples: 10 ms at 16 kHz."""
        return round(self.rate_hz * self.hop_ms / 1000)

    @property
    def fft_size(self) -> int:
        """512: the power of two at or above the window."""
        return 1 << (self.window_samples - 1).bit_length()

    @property
    def stacked_width(self) -> int:
        """240 values in one stacked frame."""
        return self.bands * self.stack


def _hz_to_mel(hz: Float64 | float) -> Float64:
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0), np.float64)


@lru_cache(maxsize=8)
def mel_filters(config: LogMelConfig) -> Float64:
    """Triangular filters on the mel scale of O'Shaughnessy, peak 1, as [fft_size / 2 + 1, M]."""
    edges = np.linspace(_hz_to_mel(config.low_hz), _hz_to_mel(config.high_hz), config.bands + 2)
    bins = _hz_to_mel(np.arange(config.fft_size // 2 + 1) * config.rate_hz / config.fft_size)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


class LogMel:
    """Natural-log mel energies of 16-bit-scaled audio in [-1, 1]; no padding at either end."""

    def __init__(self, config: LogMelConfig | None = None) -> None:
        self.config = config or LogMelConfig()
        self.window_samples = self.config.window_samples
        self.hop_samples = self.config.hop_samples
        self._window = np.hanning(self.window_samples + 1)[:-1]  # periodic Hann
        self._filters = mel_filters(self.config)

    def frame_count(self, samples: int) -> int:
        """Whole windows that fit into so many samples."""
        return max(0, 1 + (samples - self.window_samples) // self.hop_samples)

    def __call__(self, samples: Float32) -> Float32:
        """Features [F, M] of samples [n], F = 1 + (n - window) // hop (0 when n < window)."""
        count = self.frame_count(len(samples))
        if count == 0:
            return np.zeros((0, self.config.bands), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window_samples)
        frames = windows[: (count - 1) * self.hop_samples + 1 : self.hop_samples] * self._window  # [F, window]
        spectrum = np.fft.rfft(frames, self.config.fft_size)  # [F, fft/2 + 1]
        power = spectrum.real**2 + spectrum.imag**2
        return np.log(power @ self._filters + self.config.floor).astype(np.float32)  # [F, M]


class StreamingLogMel:
    """Log-mel of a stream, in blocks of a fixed number of frames so that any chunking gives the same bits."""

    def __init__(self, config: LogMelConfig | None = None, block_frames: int = 6) -> None:
        if block_frames < 1:
            raise InputError(f"block_frames must be at least 1, got {block_frames}")
        self._log_mel = LogMel(config)
        self.block_frames = block_frames
        self.hop_samples = self._log_mel.hop_samples * block_frames  # new samples a block consumes
        self.block_samples = self.hop_samples - self._log_mel.hop_samples + self._log_mel.window_samples
        self.reset()

    def reset(self) -> None:
        """Forget all audio."""
        self._pending = np.zeros(0, np.float32)

    def accept(self, samples: Float32) -> list[Float32]:
        """Blocks [block_frames, M] completed by these samples [n], oldest first (often none)."""
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        blocks = []
        while len(self._pending) >= self.block_samples:
            blocks.append(self._log_mel(self._pending[: self.block_samples]))
            self._pending = self._pending[self.hop_samples :]
        return blocks


def stack_frames(features: Float32, stack: int) -> Float32:
    """Join each `stack` frames [F, M] into one: [F // stack, stack * M]; leftover frames are dropped."""
    count = len(features) // stack
    return np.ascontiguousarray(features[: count * stack]).reshape(count, -1)
