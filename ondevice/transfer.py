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

from ondevice.acoustic import LAST_SYMBOLS, AcousticModel
from ondevice.pitch import track_pitch
from ondevice.speech_features import SPEECH_HOP_SAMPLES, SPEECH_RATE_HZ, speech_mel

Float32 = npt.NDArray[np.float32]
LEAST_FRAMES = 0.05  # of a symbol: below, its share of the frames is rounding
# Of 58 dev recordings of the shipped voice: with their own texts a surprise of 0.52 to 0.77 and a rest of 0.01 to 0.39,
# with others a surprise of 0.82 to 1.21, with the first half of their own a rest of 0.43 to 0.75 and 0.85 s or more;
# where more is asked for than they say, the end is not reached.
MOST_SURPRISE = 0.79  # error of a decoder led through the recording, as a part of that with the text backwards
MOST_REST, MOST_REST_S = 0.4, 0.7  # of the recording after the end of the text was reached


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
) -> tuple[Float32, bool]:
    """Prosody [N, 4] for `AcousticModel.say` of a recording [n] in which the same symbols are said, in its style.

    Also whether the voice could follow them there: if not, something else is said, or by a very different voice.
    """
    mean, std = acoustic.manifest.mean_and_std
    mel = ((speech_mel(samples) - mean) / std).astype(np.float32)
    said, alignment = acoustic.lead(symbols, mel, style)
    backwards, _ = acoustic.lead(symbols[::-1], mel, style)
    surprise = _error(said, mel) / max(_error(backwards, mel), 1e-9)
    followed = surprise <= MOST_SURPRISE and ends_together(alignment, acoustic.manifest.reduction)
    return scale.normalise(measure_symbols(samples, alignment, acoustic.manifest.reduction)), followed


def _error(said: Float32, mel: Float32) -> float:
    """Mean absolute difference of what was to be said next, at least [F, M], and what was: [F, M]."""
    return float(np.abs(said[: len(mel)] - mel).mean())


def ends_together(alignment: Float32, reduction: int) -> bool:
    """Whether a decoder, where it looked [G, N], came to one of the last symbols, and not long before the last step."""
    there = np.flatnonzero(alignment.argmax(axis=1) >= alignment.shape[1] - LAST_SYMBOLS)
    rest = len(alignment) - int(there[0]) if there.size else np.inf
    return rest <= max(MOST_REST * len(alignment), MOST_REST_S * SPEECH_RATE_HZ / SPEECH_HOP_SAMPLES / reduction)


def _fitted(values: npt.NDArray[np.float64], frames: int) -> npt.NDArray[np.float64]:
    """The values for so many frames: cut, or the last one repeated."""
    return np.pad(values[:frames], (0, max(0, frames - len(values))), mode="edge")


def _log_energy(samples: Float32) -> npt.NDArray[np.float64]:
    """Natural log of the mean square of each frame's samples."""
    count = -(-len(samples) // SPEECH_HOP_SAMPLES)
    padded = np.pad(samples.astype(np.float64), (0, count * SPEECH_HOP_SAMPLES - len(samples)))
    power: npt.NDArray[np.float64] = np.log(np.mean(padded.reshape(count, -1) ** 2, axis=1) + 1e-7)
    return power
