"""Made voices whose F0 and formants are known: glottal pulses through resonators."""

import numpy as np

VOWELS = {"a": (730, 1090, 2440), "i": (270, 2290, 3010), "u": (300, 870, 2240)}  # Peterson & Barney 1952, men
FINER = 8  # pulses are placed on a grid this much finer than the samples


def vowel(
    f0_hz: np.ndarray, rate_hz: int, formants: tuple[float, ...] = VOWELS["a"], jitter: float = 0.0, seed: int = 0
) -> np.ndarray:
    """A vowel float32 [n] whose F0 at each sample is given [n]; jitter is the deviation of a period, relative."""
    rng = np.random.default_rng(seed)
    n = len(f0_hz)
    cycles = np.cumsum(f0_hz / rate_hz)
    periods = np.arange(1, int(cycles[-1]) + 1) + np.cumsum(jitter * rng.standard_normal(int(cycles[-1])))
    times = np.interp(periods, cycles, np.arange(n))  # of the pulses, in samples
    pulses = np.zeros(n * FINER)
    pulses[np.rint(times * FINER).astype(int)] = 1
    hz = np.fft.rfftfreq(n, 1 / rate_hz)
    voice = np.fft.irfft(np.fft.rfft(pulses)[: len(hz)] * response(hz, formants), n)
    return (0.3 * voice / np.abs(voice).max()).astype(np.float32)


def response(hz: np.ndarray, formants: tuple[float, ...], width_hz: float = 80.0) -> np.ndarray:
    """Complex response of a glottis (12 dB an octave from 100 Hz), lips (6 dB) and formants, causal in time."""
    s = 1j * hz
    made = s / (1 + s / 100) ** 2
    for formant in formants:
        made = made / ((formant**2 - hz**2 + s * width_hz) / formant**2)
    return made


def glide(start_hz: float, end_hz: float, samples: int) -> np.ndarray:
    """F0 [samples] moving evenly in octaves."""
    return np.geomspace(start_hz, end_hz, samples)
