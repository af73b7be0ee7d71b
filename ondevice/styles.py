"""What style tokens do, measured on what a voice says with more or less of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.pitch import track_pitch

Float32 = npt.NDArray[np.float32]
EDGE_DB = 40.0  # frames further below the loudest are silence at an utterance's ends
REFERENCE_HZ = 100.0  # 0 semitones
WEIGHTS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
SENTENCES = (
    "The old man looked up from his book and smiled.",
    "Are you coming with us tomorrow, or would you rather stay at home?",
    "Please leave the keys on the table by the door.",
    "Nobody had told her that the train would be late.",
)


@dataclass(frozen=True)
class ProsodySummary:
    """How something was said."""

    f0_mean_hz: float  # geometric mean over voiced frames, 0 when there are none
    f0_mean_semitones: float  # above 100 Hz
    f0_range_semitones: float  # from the 5th to the 95th percentile of voiced frames
    energy_db: float  # mean power of voiced frames (all frames when none is), 0 dB at a mean square of 1
    voiced_share: float  # of the frames between the edge silences
    speech_s: float  # duration without edge silences: symbols / speech_s is the speaking rate


def prosody_summary(samples: Float32, rate_hz: int) -> ProsodySummary:
    """Melody, loudness and duration of samples [n]. Raises InputError as `track_pitch` does."""
    pitch = track_pitch(samples, rate_hz)
    hop = pitch.hop_samples
    padded = np.pad(np.asarray(samples, np.float64), (0, -len(samples) % hop))
    power = (padded.reshape(-1, hop) ** 2).mean(1)  # [F]
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-EDGE_DB / 10))
    inside = slice(int(loud[0]), int(loud[-1]) + 1) if len(loud) else slice(0, 0)
    voiced = pitch.voiced & (np.arange(len(power)) >= inside.start) & (np.arange(len(power)) < inside.stop)
    frames = power[voiced] if voiced.any() else power[inside]
    energy = frames.mean() if len(frames) else 0.0
    semitones = 12 * np.log2(pitch.f0_hz[voiced] / REFERENCE_HZ)
    mean = float(semitones.mean()) if len(semitones) else 0.0
    low, high = np.percentile(semitones, [5, 95]) if len(semitones) else (0.0, 0.0)
    return ProsodySummary(
        f0_mean_hz=REFERENCE_HZ * 2 ** (mean / 12) if len(semitones) else 0.0,
        f0_mean_semitones=mean,
        f0_range_semitones=float(high - low),
        energy_db=float(10 * np.log10(max(energy, 1e-12))),
        voiced_share=float(voiced.sum() / max(inside.stop - inside.start, 1)),
        speech_s=(inside.stop - inside.start) * hop / rate_hz,
    )


@dataclass(frozen=True)
class Effect:
    """What a property does as a token's weight grows."""

    slope: float  # change per unit of weight
    rho: float  # Spearman's rank correlation with the weight: 1 rises throughout, -1 falls throughout


@dataclass(frozen=True)
class TokenEffects:
    """What a style token does to how something is said."""

    token: int
    f0_mean_semitones: Effect
    f0_range_semitones: Effect
    energy_db: Effect
    rate_percent: Effect  # of the speaking rate

    def values(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)


def measure_styles(
    say: Callable[[str, int, float], Float32], tokens: int, rate_hz: int, sentences: Sequence[str] = SENTENCES
) -> Iterator[TokenEffects]:
    """The effects of each token over `WEIGHTS`; `say` makes samples [n] of a sentence, a token and its weight."""
    for token in range(tokens):
        rows = [_summary([say(text, token, weight) for text in sentences], rate_hz) for weight in WEIGHTS]
        yield TokenEffects(token, *(effect(WEIGHTS, column) for column in np.array(rows).T))


def _summary(spoken: Sequence[Float32], rate_hz: int) -> tuple[float, float, float, float]:
    """Means over sentences: F0 and its range in semitones, energy in dB, 100 times the log of the speaking rate."""
    found = [prosody_summary(samples, rate_hz) for samples in spoken]
    melody = [(s.f0_mean_semitones, s.f0_range_semitones, s.energy_db) for s in found]
    mean, spread, energy = np.mean(melody, axis=0)
    return mean, spread, energy, -100 * float(np.log(max(sum(s.speech_s for s in found), 1e-3)))


def effect(weights: Sequence[float], values: npt.NDArray[np.float64]) -> Effect:
    """Slope of a straight line through the values, and their rank correlation with the weights, 0 if nothing moves."""
    first, second = _ranks(np.asarray(weights)), _ranks(np.asarray(values))
    spread = float(first.std() * second.std())
    rho = float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread else 0.0
    return Effect(round(float(np.polyfit(weights, values, 1)[0]), 3), round(rho, 3))


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of theirs."""
    below = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    ranks: npt.NDArray[np.float64] = below + (equal - 1) / 2
    return ranks
