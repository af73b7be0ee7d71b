"""Copies of a recording spoken higher, livelier, slower, louder or softer, for training style tokens.

TD-PSOLA (Moulines & Charpentier 1990): two periods around each pitch mark are cut out under a Hann window
and set down again at other distances. What the vocal tract does within a period, the formants, stays as it is.

Shapes: `n` samples, `K` marks of the recording, `G` grains of the copy.
"""

from dataclasses import dataclass, fields

import numpy as np

from models.pitch_marks import PitchMarks, find_pitch_marks
from ondevice.errors import InputError

FINER = 4  # grains are taken from a copy at four times the rate: a period is right to an eighth of a sample
MOST_SHIFT = 2.5  # octave and a third either way: what pitch and range together may do to one period
NOISE_GAIN = 1.155  # two Hann halves that do not belong together add up to 3/4 of the power: 1 / sqrt(3/4)
TILT_PIVOT_HZ = 1_000.0
TILT_LOWEST_HZ = 125.0  # below, the tilt stays at its value here: rumble is not voice
_LIMITS = {"pitch": (0.5, 2.0), "pitch_range": (0.0, 3.0), "rate": (0.5, 2.0), "gain_db": (-40.0, 40.0)}
_LIMITS["tilt_db_per_octave"] = (-12.0, 12.0)


@dataclass(frozen=True)
class Prosody:
    """What is changed; the defaults change nothing. Raises InputError on values out of range."""

    pitch: float = 1.0  # factor on F0
    pitch_range: float = 1.0  # factor on the distance of log F0 from the utterance's mean: 0 is monotone
    rate: float = 1.0  # speaking rate: 2 is twice as fast
    gain_db: float = 0.0
    tilt_db_per_octave: float = 0.0  # vocal effort at the same level: below 0 soft and breathy, above 0 pressed

    def __post_init__(self) -> None:
        for field in fields(self):
            value, (low, high) = getattr(self, field.name), _LIMITS[field.name]
            if not low <= value <= high:
                raise InputError(f"prosody: {field.name} is {value}; expected {low} to {high}")


@dataclass(frozen=True)
class _Grains:
    """Where each of G grains lies in the copy and where it comes from, in samples (fractions count)."""

    at: np.ndarray  # float64 [G], in the copy
    source: np.ndarray  # float64 [G], in the recording
    left: np.ndarray  # float64 [G], length of the window's rising half
    right: np.ndarray  # float64 [G], and of its falling half
    gain: np.ndarray  # float64 [G]
    reversed: np.ndarray  # bool [G]


def change_prosody(
    samples: np.ndarray,
    rate_hz: int,
    prosody: Prosody,
    rng: np.random.Generator,
    marks: PitchMarks | None = None,
) -> np.ndarray:
    """Samples float32 [round(n / rate)] of the recording [n] spoken otherwise, at the same rate_hz.

    `marks` (from `find_pitch_marks`) spare their search when several copies of one recording are made. `rng` decides
    which noise is turned round in slower copies. Peaks may pass 1 when gain or tilt raise them: nothing is clipped.
    Raises InputError as `track_pitch` does.
    """
    samples = np.asarray(samples, np.float32)
    marks = find_pitch_marks(samples, rate_hz) if marks is None else marks
    count = round(len(samples) / prosody.rate)
    if not count:
        return np.zeros(0, np.float32)
    spoken = _overlap_add(samples, _plan(marks, prosody, rng), count)
    if prosody.tilt_db_per_octave:
        spoken = _tilted(spoken, rate_hz, prosody.tilt_db_per_octave)
    # Overlaps and tilt change the level by a decibel or so: only `gain_db` is to.
    level = np.sqrt((samples.astype(np.float64) ** 2).mean() / max((spoken**2).mean(), 1e-30))
    return (spoken * level * 10 ** (prosody.gain_db / 20)).astype(np.float32)


def _plan(marks: PitchMarks, prosody: Prosody, rng: np.random.Generator) -> _Grains:
    """Walk through the copy, a period or a step of noise at a time, and choose what is set down there."""
    at, interval = _walk(marks, prosody)
    source_time = at * prosody.rate
    voiced = np.append(marks.voiced[interval[:-1]], False)  # [G]: the interval after the grain
    voiced_before = np.append(False, voiced[:-1])
    tonal = voiced | voiced_before
    nearest = interval + (source_time - marks.marks[interval] > marks.marks[interval + 1] - source_time)
    gaps = np.diff(marks.marks).astype(np.float64)  # [K - 1]
    # Facing a voiced interval a window is as long as the recording's own period; facing noise, as the copy's step,
    # so that windows there add up to 1.
    step = np.diff(at)
    before, after = np.maximum(nearest - 1, 0), np.minimum(nearest, len(gaps) - 1)
    left = np.where(voiced_before, gaps[np.where(marks.voiced[before], before, after)], np.append(0.0, step))
    right = np.where(voiced, gaps[np.where(marks.voiced[after], after, before)], np.append(step, 0.0))
    noisy = ~tonal & (abs(prosody.rate - 1) > 0.01)
    # Fewer periods in a second carry less energy, more of them more: as the square root of F0.
    period = np.append(step, 0.0) * voiced / gaps[interval]
    gain = np.where(voiced & voiced_before, np.sqrt(np.where(period > 0, period, 1)), np.where(noisy, NOISE_GAIN, 1.0))
    # Slowed noise is heard twice within a few milliseconds, which rings; turned round it is not the same twice.
    turned = noisy & (prosody.rate < 0.99) & (rng.random(len(at)) < 0.5)
    return _Grains(at, np.where(tonal, marks.marks[nearest], source_time), left, right, gain, turned)


def _walk(marks: PitchMarks, prosody: Prosody) -> tuple[np.ndarray, np.ndarray]:
    """Places [G] of the grains in the copy, in samples, and the recording's interval [G] that each falls into."""
    steps = np.diff(marks.marks).astype(np.float64)
    log_f0 = np.log(np.where(marks.voiced, marks.f0_hz, 1.0))
    shift = prosody.pitch * np.exp((prosody.pitch_range - 1) * (log_f0 - marks.mean_log_f0))
    steps = np.where(marks.voiced, steps / np.clip(shift, 1 / MOST_SHIFT, MOST_SHIFT), steps)
    ends, end = marks.marks[1:].tolist(), float(marks.marks[-1])
    at, interval, now, k = list[float](), list[int](), 0.0, 0
    while (time := now * prosody.rate) < end:
        while time >= ends[k]:
            k += 1
        at.append(now)
        interval.append(k)
        now += float(steps[k])
    return np.array([*at, now]), np.array([*interval, len(ends) - 1])


def _overlap_add(samples: np.ndarray, grains: _Grains, count: int) -> np.ndarray:
    """The copy float64 [count]."""
    finer, margin = _finer(samples), int(max(grains.left.max(), grains.right.max())) + 2
    finer = np.pad(finer, margin * FINER)
    spoken = np.zeros(count)
    starts = np.maximum(np.ceil(grains.at - grains.left), 0).astype(int)
    stops = np.minimum(np.floor(grains.at + grains.right).astype(int) + 1, count)
    for i in range(len(grains.at)):
        start, stop = starts[i], stops[i]
        if start >= stop:
            continue
        distance = np.arange(start, stop) - grains.at[i]
        phase = distance / np.where(distance < 0, max(grains.left[i], 1e-9), max(grains.right[i], 1e-9))
        window = (0.5 * grains.gain[i]) * (1 + np.cos(np.pi * phase))
        way = -1 if grains.reversed[i] else 1
        first = round(FINER * (grains.source[i] + way * distance[0] + margin))
        places = first + way * FINER * np.arange(stop - start)
        spoken[start:stop] += window * finer[np.clip(places, 0, len(finer) - 1)]
    return spoken


def _finer(samples: np.ndarray) -> np.ndarray:
    """samples [n] at FINER times the rate: [n * FINER], the given ones among them."""
    size = 1 << (len(samples) + 256).bit_length()
    return np.fft.irfft(np.fft.rfft(samples, size), size * FINER)[: len(samples) * FINER] * FINER


def _tilted(x: np.ndarray, rate_hz: int, db_per_octave: float) -> np.ndarray:
    """x [n] with its spectrum tilted about 1 kHz, not delayed."""
    size = 1 << (len(x) + rate_hz // 20).bit_length()
    hz = np.maximum(np.fft.rfftfreq(size, 1 / rate_hz), TILT_LOWEST_HZ)
    gain = 10 ** (db_per_octave * np.log2(hz / TILT_PIVOT_HZ) / 20)
    return np.fft.irfft(np.fft.rfft(x, size) * gain, size)[: len(x)]
