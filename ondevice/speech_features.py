"""Log-mel of the speech generator: 80 bands of 24 kHz audio, one frame for every 256 samples.

The vocoder turns F frames into F * 256 samples, so the recording is padded such that frame i is centred on the
samples i * 256 ... (i + 1) * 256 it stands for. Shapes: `n` samples, `F` frames, `M` mel bands.
"""

import numpy as np

from ondevice.errors import InputError
from ondevice.features import Float32, LogMel, LogMelConfig

SPEECH_RATE_HZ = 24_000
SPEECH_WINDOW_SAMPLES = 1024  # 42.7 ms: three periods of the lowest voices
SPEECH_HOP_SAMPLES = 256  # 10.7 ms: 93.75 frames a second
SPEECH_MARGIN_SAMPLES = (SPEECH_WINDOW_SAMPLES - SPEECH_HOP_SAMPLES) // 2  # 384 zeros before and after

# The floor, 1e-6 of power, is where 16-bit quantisation noise lies in the widest band (6e-7), and below the room of
# a studio: no cell of the Kathleen recordings and 0.6 % of LJSpeech's are under it, against 8 and 11 % under the
# 1e-4 of Shen et al. 2018, section 2.2 (magnitude 0.01). What a vocoder is to copy is kept, and digital silence,
# log 1e-6, is still within 5 nepers of a quiet room.
SPEECH_MEL = LogMelConfig(
    rate_hz=SPEECH_RATE_HZ,
    window_ms=1000 * SPEECH_WINDOW_SAMPLES / SPEECH_RATE_HZ,
    hop_ms=1000 * SPEECH_HOP_SAMPLES / SPEECH_RATE_HZ,
    bands=80,
    low_hz=0.0,
    high_hz=12_000.0,
    floor=1e-6,
    stack=1,
)
SPEECH_DB = -42.0  # below the loudest 10 ms: where an utterance begins and ends
MARGINS_S = (0.05, 0.12)  # kept before and after it
_LOG_MEL = LogMel(SPEECH_MEL)


def speech_frame_count(samples: int) -> int:
    """Frames that stand for so many samples: the last one may be partly silence."""
    return -(-samples // SPEECH_HOP_SAMPLES)


def whole_frames(samples: Float32) -> Float32:
    """The samples [n] with zeros after them up to a multiple of the hop: [F * 256]."""
    return np.pad(samples, (0, speech_frame_count(len(samples)) * SPEECH_HOP_SAMPLES - len(samples)))


def speech_mel(samples: Float32) -> Float32:
    """Natural-log mel energies float32 [F, 80] of 24 kHz samples [n] in -1..1, F = ceil(n / 256).

    Raises InputError when the samples are not one channel.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise InputError(f"speech_mel: samples of shape {list(samples.shape)}; expected [n]")
    return _LOG_MEL(np.pad(whole_frames(samples), SPEECH_MARGIN_SAMPLES))


def trim_silence(samples: Float32, rate_hz: int = SPEECH_RATE_HZ) -> Float32:
    """The samples from a little before the first speech to a little after the last."""
    return samples[speech_span(samples, rate_hz)]


def speech_span(samples: Float32, rate_hz: int = SPEECH_RATE_HZ) -> slice:
    """Where `trim_silence` cuts."""
    hop = rate_hz // 100
    count = len(samples) // hop
    everything = slice(0, len(samples))
    if count == 0:
        return everything
    power = np.mean(samples[: count * hop].reshape(count, hop).astype(np.float64) ** 2, axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (SPEECH_DB / 10))
    if not loud.size:
        return everything
    start = max(0, int(loud[0]) * hop - round(MARGINS_S[0] * rate_hz))
    return slice(start, min(len(samples), (int(loud[-1]) + 1) * hop + round(MARGINS_S[1] * rate_hz)))
