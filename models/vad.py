"""Training of the speech detector (`ondevice.vad`) on the encoder of an exported recogniser, which stays as it is.

    recordings, noises -> log-mel, changed as in training -> the encoder on the device -> logistic regression (Newton)

Loud frames of recordings are speech, all frames of noises are none; the others are left out. The threshold comes from
the development split: so high that hardly any recording would be lost of which the recogniser gets a word right.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.batches import AugmentConfig, augment
from models.speech_store import load_speech, read_original
from ondevice.errors import InputError
from ondevice.features import LogMel
from ondevice.normalize import english
from ondevice.recognizer import TAIL_S, Recognizer
from ondevice.vad import SpeechDetector

LOUD = 0.6  # of the way from a recording's quietest to its loudest frames: there, somebody speaks
QUIET_PERCENTILE = 5
RIDGE = 1e-3  # weight decay
STEPS = 12  # of Newton's method
LOST = 0.002  # of the recordings on dev with a word that is right, those that may stay below the threshold

Say = Callable[[str], None]


@dataclass(frozen=True)
class VadData:
    """What the detector learns from."""

    data: tuple[Path, ...]  # corpora of speech with train and dev splits
    noise: tuple[Path, ...]  # corpora of other sounds, likewise
    limit: int = 300  # recordings of each corpus and split
    copies: int = 2  # of each noise beside itself, each changed another way
    seed: int = 0


@dataclass(frozen=True)
class Heard:
    """A recording as encoder frames [T, J] and the loudness [T] of what was heard in them."""

    encoded: np.ndarray
    loudness: np.ndarray

    @property
    def speech(self) -> np.ndarray:
        """The frames [n, J] in which somebody speaks if this is a recording of speech."""
        low, high = np.percentile(self.loudness, QUIET_PERCENTILE), self.loudness.max()
        return self.encoded[self.loudness > low + LOUD * (high - low)]


def train_detector(recognizer: Recognizer, data: VadData, say: Say = lambda _: None) -> SpeechDetector:
    """The detector for a recogniser without one in use. Raises InputError when there is nothing to learn from."""
    noises = [_log_mel(recognizer, samples) for samples, _ in _recordings(data.noise, "train", None, data.seed)]
    if not noises:
        raise InputError("--noise: no recordings in the train split; expected sounds that are no speech")
    speech, other = _speech(recognizer, data, noises), _noise(recognizer, data, noises)
    if not speech:
        raise InputError("--data: no utterances in the train split; expected recordings of speech")
    say(f"{len(speech)} recordings of speech, {len(noises)} of noise")
    positive, negative = np.concatenate([h.speech for h in speech]), np.concatenate([h.encoded for h in other])
    weights, bias = logistic_regression(positive, negative)
    detector = SpeechDetector(weights, bias, 0.0)
    spoken = [
        detector.evidence(_hear(recognizer, _log_mel(recognizer, samples)).encoded)
        for samples, text in _recordings(data.data, "dev", data.limit, data.seed)
        if set(english(text).split()) & set(heard(recognizer, samples).split())
    ]
    if not spoken:
        raise InputError("--data: not a word is heard right in the dev split; expected recordings of speech")
    threshold = float(np.quantile(spoken, LOST))
    noisy = [
        detector.evidence(_hear(recognizer, _log_mel(recognizer, samples)).encoded)
        for samples, _ in _recordings(data.noise, "dev", None, data.seed)
    ]
    lost, passed = sum(e < threshold for e in spoken), sum(e >= threshold for e in noisy)
    say(
        f"dev: with a threshold of {threshold:.2f}, {lost} of {len(spoken)} recordings with a word that is right are "
        f"lost, {passed} of {len(noisy)} noises are taken for speech"
    )
    return SpeechDetector(weights, bias, threshold)


def heard(recognizer: Recognizer, samples: np.ndarray) -> str:
    """What is heard in a recording, normalised."""
    return english(" ".join(result.text for result in recognizer.transcribe(samples)))


def _speech(recognizer: Recognizer, data: VadData, noises: Sequence[np.ndarray]) -> list[Heard]:
    """Training speech, changed at random as the recogniser's was."""
    rng, settings = np.random.default_rng([data.seed, 0]), AugmentConfig(ramp_epochs=0)
    recordings = _recordings(data.data, "train", data.limit, data.seed)
    mels = (_log_mel(recognizer, samples) for samples, _ in recordings)
    return [_hear(recognizer, _changed(mel, rng, settings, noises)) for mel in mels]


def _noise(recognizer: Recognizer, data: VadData, noises: Sequence[np.ndarray]) -> list[Heard]:
    """Noises as they are, and changed at random."""
    rng, settings = np.random.default_rng([data.seed, 1]), AugmentConfig(ramp_epochs=0, noise=0.0, warp=0.2)
    changed = [_changed(noise, rng, settings) for noise in noises for _ in range(data.copies)]
    return [_hear(recognizer, mel) for mel in (*noises, *changed)]


def logistic_regression(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights [J] and bias of the log odds that a row [J] is one of `positive`, both kinds being equally likely.

    On features of mean 0 and deviation 1, with weight decay, by Newton's method.
    """
    x = np.concatenate([positive, negative]).astype(np.float64)
    y = np.repeat([1.0, 0.0], [len(positive), len(negative)])
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-3
    x = np.concatenate([(x - mean) / deviation, np.ones((len(x), 1))], axis=1)
    each = np.where(y > 0, 0.5 / len(positive), 0.5 / len(negative))
    beta, decay = np.zeros(x.shape[1]), np.full(x.shape[1], RIDGE)
    decay[-1] = 0.0  # the bias is free
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (each * (p - y)) + decay * beta
        curvature = (x * (each * np.maximum(p * (1 - p), 1e-6))[:, None]).T @ x + np.diag(decay)
        beta -= np.linalg.solve(curvature, gradient)
    weights = beta[:-1] / deviation
    return weights.astype(np.float32), float(beta[-1] - weights @ mean)


def _recordings(corpora: Sequence[Path], split: str, limit: int | None, seed: int) -> Iterator[tuple[np.ndarray, str]]:
    """Samples at 16 kHz and text of so many recordings of each corpus, drawn at random."""
    for corpus in corpora:
        utterances = list(read_original(corpus, split))
        order = np.random.default_rng(seed).permutation(len(utterances))[:limit]
        for number in sorted(order.tolist()):
            yield load_speech(utterances[number], 16_000), utterances[number].text or ""


def _log_mel(recognizer: Recognizer, samples: np.ndarray) -> np.ndarray:
    """Log-mel [F, M] of samples and the silence that ends a stream."""
    features = recognizer.manifest.features
    return LogMel(features)(np.concatenate([samples, np.zeros(round(TAIL_S * features.rate_hz), np.float32)]))


def _changed(
    mel: np.ndarray, rng: np.random.Generator, settings: AugmentConfig, noises: Sequence[np.ndarray] = ()
) -> np.ndarray:
    return augment(mel, rng, settings, noises, float(mel.min()))


def _hear(recognizer: Recognizer, mel: np.ndarray) -> Heard:
    """Log-mel [F, M] through the encoder, step by step as on the device; what is less than a step is left out."""
    state, encoded, step = recognizer.initial_state(), [], recognizer.manifest.step_frames
    blocks = mel[: len(mel) // step * step].reshape(-1, step, mel.shape[1]).astype(np.float32)
    for block in blocks:
        out, state = recognizer.encode(block, state)
        encoded.append(out.frame.reshape(-1))
    return Heard(np.array(encoded), blocks.max(axis=1).mean(axis=1))
