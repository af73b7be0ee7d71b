"""Fundamental frequency of speech: YIN's difference function, several candidates a frame, one path through them.

De Cheveigne & Kawahara 2002 (YIN) give the measure of periodicity (sections II.B and II.C), Boersma 1993 the tapered
window, its division by the window's own correlation and the costs of the path. Everything is measured on a band-passed
copy at 8 kHz, so a setting means the same at every input rate.

Shapes: `n` samples, `F` frames, `L` lags, `K` candidates.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.features import Float32, Float64

Bools = npt.NDArray[np.bool_]

INNER_HZ = 8_000  # rate of the copy that is analysed
LAG_HZ = 16_000  # lags are interpolated to this grid before a parabola is laid through the three lowest
LOW_PASS_HZ = 1_700.0  # harmonics above say little about F0 and much about breath: 4 dB down here, 20 at 3.6 kHz
PERIODS = 2.5  # of the lowest F0 in the Hann window: 42 ms at 60 Hz, of which the middle half counts
CANDIDATES = 6
BLOCK_FRAMES = 2_000  # analysed at once: bounds the memory of long recordings

# Costs, in the scale of YIN's d': 0 for a periodic frame, about 1 for noise.
UNVOICED = 0.51
OCTAVE = 0.05  # for every octave below `high_hz`: of two equally good lags the shorter one is meant
JUMP = 0.35  # for every octave between frames 10 ms apart
SWITCH = 0.18  # voiced to unvoiced or back
QUIET_DB = (-32.0, -44.0)  # below the loudest frame: where silence begins to count as unvoiced, and fully does
FLOOR = 1e-9  # added to d: what lies 90 dB below the recording's peak is silence, not a perfect period
_NEVER = 1e6


@dataclass(frozen=True)
class Pitch:
    """An F0 track. Frame i is centred on sample i * hop_samples + hop_samples / 2 of the recording."""

    f0_hz: Float32  # [F], 0 where unvoiced
    voiced: Bools  # [F]
    periodicity: Float32  # [F], 1 - d' of the chosen (unvoiced: best) candidate: 1 periodic, near 0 noise or silence
    rate_hz: int
    hop_samples: int

    @property
    def times_s(self) -> Float64:
        """Centres of the frames in seconds, float64 [F]."""
        return (np.arange(len(self.f0_hz)) + 0.5) * self.hop_samples / self.rate_hz


def track_pitch(
    samples: npt.NDArray[np.floating],
    rate_hz: int,
    hop_samples: int | None = None,
    low_hz: float = 60.0,
    high_hz: float = 500.0,
) -> Pitch:
    """F0 of samples [n], one value for every `hop_samples` (10 ms if None): F = ceil(n / hop_samples) frames.

    The level of the recording does not matter. Raises InputError on a rate outside 8 to 48 kHz, on bounds that are
    not 40 <= low < high <= 1000 Hz, and on samples that are not finite or not [n].
    """
    hop_samples = round(rate_hz / 100) if hop_samples is None else hop_samples
    x = _checked(samples, rate_hz, hop_samples, low_hz, high_hz)
    count = -(-len(x) // hop_samples)
    peak = np.abs(x).max(initial=0.0)
    if peak == 0.0:
        silent = np.zeros(count, np.float32)
        return Pitch(silent, silent > 0, silent, rate_hz, hop_samples)
    inner = _band_passed(x / peak, rate_hz, low_hz)
    centres = np.rint((np.arange(count) + 0.5) * hop_samples * INNER_HZ / rate_hz).astype(np.int64)
    lag_samples, cost, energy = _candidates(inner, centres, low_hz, high_hz)  # [F, K], [F, K], [F]
    f0 = LAG_HZ / lag_samples
    quiet = _quietness(energy)
    chosen = _best_path(f0, cost, quiet, hop_samples / rate_hz, high_hz)  # [F], K: unvoiced
    voiced = chosen < f0.shape[1]
    pick = np.where(voiced, chosen, cost.argmin(1))[:, None]
    found = np.take_along_axis(f0, pick, 1)[:, 0]
    periodic = np.clip(1 - np.take_along_axis(cost, pick, 1)[:, 0], 0, 1)
    return Pitch(
        np.where(voiced, found, 0).astype(np.float32),
        voiced,
        np.where(energy > 0, periodic, 0).astype(np.float32),
        rate_hz,
        hop_samples,
    )


def _checked(
    samples: npt.NDArray[np.floating], rate_hz: int, hop_samples: int, low_hz: float, high_hz: float
) -> Float64:
    if not 8_000 <= rate_hz <= 48_000:
        raise InputError(f"pitch: rate_hz is {rate_hz}; expected 8000 to 48000")
    if not 40 <= low_hz < high_hz <= 1_000:
        raise InputError(f"pitch: low_hz {low_hz} and high_hz {high_hz} must satisfy 40 <= low < high <= 1000")
    if hop_samples < 1:
        raise InputError(f"pitch: hop_samples is {hop_samples}; expected at least 1")
    x = np.asarray(samples, np.float64)
    if x.ndim != 1:
        raise InputError(f"pitch: samples of shape {list(x.shape)}; expected [n]")
    if not np.isfinite(x).all():
        raise InputError("pitch: samples hold NaN or infinities; expected finite numbers")
    return x


def _smooth_size(size: int) -> int:
    """The next size whose FFT is fast: 2^k times 1, 3, 5, 9 or 15."""
    return min(odd << (-(-size // odd) - 1).bit_length() for odd in (1, 3, 5, 9, 15))


def _band_passed(x: Float64, rate_hz: int, low_hz: float) -> Float32:
    """A copy of x [n] at 8 kHz, without rumble below the lowest F0 and with its high harmonics turned down.

    Both filters are symmetric in time, so they move no frame. The size of the transform is whole samples at both
    rates, with at least 0.1 s of zeros between the recording's end and its beginning.
    """
    step = rate_hz // gcd(rate_hz, INNER_HZ)
    pieces = _smooth_size(-(-(len(x) + rate_hz // 10) // step))
    inner_size = pieces * step * INNER_HZ // rate_hz
    bins = np.arange(inner_size // 2 + 1)
    hz = bins * (INNER_HZ / inner_size)
    gain = np.exp(-0.5 * (hz / LOW_PASS_HZ) ** 2) / (1 + (0.5 * low_hz / np.maximum(hz, 1e-3)) ** 4)
    spectrum = np.fft.rfft(x - x.mean(), pieces * step)[: len(bins)] * gain
    inner = np.fft.irfft(spectrum, inner_size) * (inner_size / (pieces * step))
    return inner[: -(-len(x) * INNER_HZ // rate_hz)].astype(np.float32)


def _candidates(
    inner: Float32, centres: npt.NDArray[np.int64], low_hz: float, high_hz: float
) -> tuple[Float64, Float64, Float64]:
    """Lags in samples of LAG_HZ and d' of the best K dips, both [F, K], and the energy [F] of the frames."""
    window = np.hanning(round(PERIODS * INNER_HZ / low_hz) + 2)[1:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(inner, len(window)), len(window))
    starts = centres + len(window) - len(window) // 2
    blocks = [
        _block_candidates(frames[starts[i : i + BLOCK_FRAMES]], window, low_hz, high_hz)
        for i in range(0, len(starts), BLOCK_FRAMES)
    ]
    lags, cost, energy = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return lags, cost, energy


def _block_candidates(
    frames: Float32, window: Float32, low_hz: float, high_hz: float
) -> tuple[Float64, Float64, Float64]:
    """`_candidates` of some frames [F, window]."""
    first, last = int(LAG_HZ / high_hz), int(np.ceil(LAG_HZ / low_hz))
    d = _difference(frames, window, last + 2)  # [F, L] for lags 0 ... last + 1
    mean = np.cumsum(d, axis=1) / np.maximum(np.arange(d.shape[1]), 1)
    relative = d / np.maximum(mean, 1e-12)  # d' (YIN, eq. 8)
    middle = relative[:, first : last + 1]
    dip = (middle < relative[:, first - 1 : last]) & (middle <= relative[:, first + 1 : last + 2])
    dips = np.where(dip, middle, _NEVER)
    octaves = np.log2(np.arange(first, last + 1) / first)
    best = np.argpartition(dips + OCTAVE * octaves, CANDIDATES, axis=1)[:, :CANDIDATES]
    cost = np.take_along_axis(dips, best, 1)
    before, here, after = (np.take_along_axis(d, best + first + step, 1) for step in (-1, 0, 1))
    # The parabola goes through d, not d', whose falling mean would pull dips to longer lags (YIN, section II.E).
    bend = np.maximum(before - 2 * here + after, 1e-12)
    shift = np.clip(0.5 * (before - after) / bend, -1, 1)
    deeper = np.maximum(here - 0.25 * (before - after) * shift, 0) / np.maximum(here, 1e-12)
    cost = np.where(cost < _NEVER, cost * np.minimum(deeper, 1), _NEVER)
    lags = np.clip(best + first + shift, LAG_HZ / high_hz, LAG_HZ / low_hz)
    energy = ((frames * window) ** 2).sum(1, dtype=np.float64) / (window**2).sum(dtype=np.float64)
    return lags.astype(np.float64), cost.astype(np.float64), energy


def _difference(frames: Float32, window: Float32, lags: int) -> Float64:
    """Mean squared difference d [F, L] of frames [F, window] and themselves `lag` samples of LAG_HZ later.

    sum_j w_j w_(j+lag) (x_j - x_(j+lag))^2, opened into correlations, over sum_j w_j w_(j+lag): centred on the frame
    at every lag. A correlation is as band-limited as its spectrum, so a longer inverse transform interpolates it.
    """
    finer = LAG_HZ // INNER_HZ
    size = _smooth_size(len(window) + -(-lags // finer))
    of_window = np.fft.rfft(window, size)
    tapered = frames * window
    spectrum = np.fft.rfft(tapered, size)
    squares = np.fft.rfft(tapered * frames, size)
    cross = squares.real * of_window.real + squares.imag * of_window.imag
    power = spectrum.real**2 + spectrum.imag**2
    total = np.fft.irfft(2 * (cross - power), size * finer)[:, :lags]
    overlap = np.fft.irfft(of_window.real**2 + of_window.imag**2, size * finer)[:lags]
    d: Float64 = np.maximum(total / overlap, 0.0).astype(np.float64) + FLOOR  # irfft's 1 / size cancels
    d[:, 0] = 0.0
    return d


def _quietness(energy: Float64) -> Float64:
    """0 for frames near the loudest one's level, 1 for those far below it: [F]."""
    level_db = 10 * np.log10(np.maximum(energy / max(energy.max(initial=0.0), 1e-30), 1e-30))
    start, full = QUIET_DB
    quiet: Float64 = np.clip((level_db - start) / (full - start), 0, 1)
    return quiet


def _best_path(f0: Float64, cost: Float64, quiet: Float64, hop_s: float, high_hz: float) -> npt.NDArray[np.int64]:
    """The candidate of each frame, [F] in 0 ... K, K meaning unvoiced, at the least total cost (Viterbi)."""
    count, width = f0.shape
    octaves = np.log2(high_hz / f0)  # [F, K]
    local = np.empty((count, width + 1))
    local[:, :width] = cost + OCTAVE * octaves
    local[:, width] = UNVOICED - (UNVOICED + SWITCH) * quiet
    moves = np.full((max(count - 1, 0), width + 1, width + 1), SWITCH)  # [F - 1, from, to]
    moves[:, :width, :width] = JUMP * np.abs(octaves[:-1, :, None] - octaves[1:, None, :])
    moves[:, width, width] = 0
    moves *= 0.010 / hop_s  # Boersma 1993: costs are for frames 10 ms apart
    origin = np.zeros((count, width + 1), np.int64)
    total = local[0]
    states = np.arange(width + 1)
    for i in range(1, count):
        reached = total[:, None] + moves[i - 1]
        origin[i] = reached.argmin(0)
        total = reached[origin[i], states] + local[i]
    path = np.empty(count, np.int64)
    path[-1] = total.argmin()
    for i in range(count - 1, 0, -1):
        path[i - 1] = origin[i, path[i]]
    return path
