"""Prosody of a recording, symbol by symbol, so that a voice can say the same text in the same way.

The fine-grained kind of transfer (Skerry-Ryan et al. 2018, section 3.4, speak of embeddings of variable length; Lee &
Kim 2019 tie them to the text): the voice's own decoder, led through the recording, tells which frames belong to which
symbol, and four measured properties of those frames go to the decoder with the symbol.

Shapes: `n` samples, `F` mel frames, `G` decoder steps, `N` symbols.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ondevice.acoustic import AcousticModel
from ondevice.pitch import track_pitch
from ondevice.speech_features import SPEECH_HOP_SAMPLES, SPEECH_RATE_HZ, speech_mel

Float32 = npt.NDArray[np.float32]
LEAST_FRAMES = 0.05  # of a symbol: below, its share of the frames is rounding


@dataclass(frozen=True)
class ProsodyScale:
    """Mean and standard deviation of each property over the voice's training speech, float32 [4]."""

    mean: Float32
    std: Float32

    def normalise(self, raw: Float32) -> Float32:
        """Deviations [N, 4] of measured properties [N, 4]; what could not be measured (NaN) deviates by nothing."""
        deviations: Float32 = np.nan_to_num(np.clip((raw - self.mean) / self.std, -3, 3), nan=0.0).astype(np.float32)
        return deviations


def measure_symbols(samples: Float32, alignment: Float32, reduction: int) -> Float32:
    """log F0 (NaN where unvoiced), voicing 0..1, log energy, log frames of each symbol: float32 [N, 4].

    samples [n] at 24 kHz and where a decoder looked while it was led through their mel, [G, N].
    """
    frames = alignment.shape[0] * reduction
    weights = np.repeat(alignment, reduction, axis=0).astype(np.float64)  # [F, N]
    pitch = track_pitch(samples, SPEECH_RATE_HZ, SPEECH_HOP_SAMPLES)
    voiced = _fitted(pitch.voiced.astype(np.float64), frames)
    log_f0 = _fitted(np.log(np.where(pitch.voiced, pitch.f0_hz, 1.0)), frames)
    energy = _fitted(_log_energy(samples), frames)
    total = weights.sum(axis=0)  # [N] frames of each symbol
    heard = np.maximum(total, LEAST_FRAMES)
    sung = weights.T @ voiced
    melody = np.where(sung > 0.5, weights.T @ (voiced * log_f0) / np.maximum(sung, 1e-9), np.nan)
    return np.stack([melody, sung / heard, weights.T @ energy / heard, np.log(heard)], axis=1).astype(np.float32)


def prosody_of(
    acoustic: AcousticModel, symbols: Sequence[int], samples: Float32, style: Float32, scale: ProsodyScale
) -> Float32:
    """Prosody [N, 4] for `AcousticModel.say` of a recording [n] in which the same symbols are said, in its style."""
    mean, std = acoustic.manifest.mean_and_std
    mel = ((speech_mel(samples) - mean) / std).astype(np.float32)
    _, alignment = acoustic.lead(symbols, mel, style)
    return scale.normalise(measure_symbols(samples, alignment, acoustic.manifest.reduction))


def _fitted(values: npt.NDArray[np.float64], frames: int) -> npt.NDArray[np.float64]:
    """The values for so many frames: cut, or the last one repeated."""
    return np.pad(values[:frames], (0, max(0, frames - len(values))), mode="edge")


def _log_energy(samples: Float32) -> npt.NDArray[np.float64]:
    """Natural log of the mean square of each frame's samples."""
    count = -(-len(samples) // SPEECH_HOP_SAMPLES)
    padded = np.pad(samples.astype(np.float64), (0, count * SPEECH_HOP_SAMPLES - len(samples)))
    power: npt.NDArray[np.float64] = np.log(np.mean(padded.reshape(count, -1) ** 2, axis=1) + 1e-7)
    return power
