"""Pitch marks: one sample for every period of the voice, at the wave's peak, and even steps where nobody speaks.

Shapes: `n` samples, `K` marks, `C` peaks of a voiced stretch that may become marks.
"""

from dataclasses import dataclass

import numpy as np

from ondevice.pitch import Pitch, track_pitch

HOP_MS = 5.0  # of the F0 track
UNVOICED_MS = 5.0  # between marks where there is no voice
LOW_PASS_HZ = 1_500.0  # peaks are looked for below: ripples of higher formants change from period to period
SHORTEST, LONGEST = 0.6, 1.6  # of the tracked period: what may lie between two marks
UNEVEN = 8.0  # cost of the squared log of that ratio, against a peak's height of at most 1
LOWEST_PEAK = 0.3  # of the highest within a period: what may be a mark at all


@dataclass(frozen=True)
class PitchMarks:
    """Marks over a whole recording of n samples; the first is 0 and the last n."""

    marks: np.ndarray  # int64 [K], rising
    voiced: np.ndarray  # bool [K - 1]: the interval after each mark is a period of the voice
    f0_hz: np.ndarray  # float64 [K - 1]: tracked F0 in its middle, 0 where unvoiced
    mean_log_f0: float  # over the voiced frames, in log Hz; 0 when there are none


def find_pitch_marks(samples: np.ndarray, rate_hz: int, low_hz: float = 60.0, high_hz: float = 500.0) -> PitchMarks:
    """The marks of samples [n]. Raises InputError as `track_pitch` does."""
    hop = round(rate_hz * HOP_MS / 1000)
    pitch = track_pitch(samples, rate_hz, hop, low_hz, high_hz)
    log_f0 = np.log(pitch.f0_hz[pitch.voiced])
    heights = _smooth(np.asarray(samples, np.float64), rate_hz)
    speaking = np.repeat(pitch.voiced, hop)[: len(heights)]
    if (heights[speaking] ** 3).sum() < 0:  # the sharper side of the wave is where the glottis closes
        heights = -heights
    stretches = [_stretch_marks(heights, pitch, first, end) for first, end in _runs(pitch.voiced)]
    marks, voiced = _joined([s for s in stretches if len(s) >= 2], len(heights), round(rate_hz * UNVOICED_MS / 1000))
    f0 = np.zeros(len(voiced))
    if voiced.any():
        f0[voiced] = np.exp(_log_f0_at(pitch, (marks[:-1] + marks[1:])[voiced] / 2))
    return PitchMarks(marks, voiced, f0, float(log_f0.mean()) if len(log_f0) else 0.0)


def _smooth(x: np.ndarray, rate_hz: int) -> np.ndarray:
    """x [n] below LOW_PASS_HZ, not delayed."""
    size = 1 << (len(x) + rate_hz // 20).bit_length()
    hz = np.fft.rfftfreq(size, 1 / rate_hz)
    gain = np.exp(-0.5 * (hz / LOW_PASS_HZ) ** 2) * (hz > 30)
    return np.fft.irfft(np.fft.rfft(x, size) * gain, size)[: len(x)]


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """[first, end) of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _log_f0_at(pitch: Pitch, samples: np.ndarray) -> np.ndarray:
    """Log F0 between the voiced frames at places in samples."""
    centres = (np.flatnonzero(pitch.voiced) + 0.5) * pitch.hop_samples
    return np.interp(samples, centres, np.log(pitch.f0_hz[pitch.voiced]))


def _stretch_marks(heights: np.ndarray, pitch: Pitch, first: int, end: int) -> np.ndarray:
    """Marks in voiced frames first ... end - 1: the peaks that are high and a period apart (dynamic programming)."""
    start, stop = first * pitch.hop_samples, min(end * pitch.hop_samples, len(heights))
    y = heights[start:stop]
    inner = np.flatnonzero((y[1:-1] > y[:-2]) & (y[1:-1] >= y[2:]) & (y[1:-1] > 0)) + 1
    if not len(inner):
        return inner
    periods = pitch.rate_hz / np.exp(_log_f0_at(pitch, inner + start))  # [C]
    reach = np.rint(periods / 2).astype(int)
    local = np.array([y[max(0, p - r) : p + r + 1].max() for p, r in zip(inner, reach, strict=True)])
    high = y[inner] >= LOWEST_PEAK * local
    peaks, periods, gains = inner[high], periods[high], (y[inner] / local)[high]
    score, origin = gains.copy(), np.full(len(peaks), -1)
    earliest = np.searchsorted(peaks, peaks - LONGEST * periods)
    latest = np.searchsorted(peaks, peaks - SHORTEST * periods, "right")
    for i, (a, b) in enumerate(zip(earliest, latest, strict=True)):
        if a < b:
            reached = score[a:b] - UNEVEN * np.log((peaks[i] - peaks[a:b]) / periods[i]) ** 2
            best = int(reached.argmax())
            if reached[best] > 0:
                score[i], origin[i] = gains[i] + reached[best], a + best
    chain = [int(score.argmax())]
    while origin[chain[-1]] >= 0:
        chain.append(int(origin[chain[-1]]))
    return peaks[chain[::-1]] + start


def _joined(stretches: list[np.ndarray], count: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Marks [K] over all `count` samples and which intervals [K - 1] are voiced."""
    marks, voiced, at = [np.zeros(1, np.int64)], list[np.ndarray](), 0
    for stretch in [*stretches, np.array([count])]:
        gap = int(stretch[0]) - at
        pieces = max(1, round(gap / step)) if gap else 0
        marks += [at + np.rint(np.arange(1, pieces + 1) * gap / max(pieces, 1)).astype(np.int64), stretch[1:]]
        voiced += [np.zeros(pieces, bool), np.ones(len(stretch) - 1, bool)]
        at = int(stretch[-1])
    return np.concatenate(marks), np.concatenate(voiced)
