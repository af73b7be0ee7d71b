"""Features of a corpus cached on disk: one flat float16 file and an index, read back by memory mapping.

A store is written once and read by every epoch: decoding Opus and taking spectra would cost more than training.
Each utterance is stored in one or more variants (other speeds, a room), of which an epoch picks one.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from ondevice.features import LogMel, LogMelConfig

if TYPE_CHECKING:
    from models.corpora import Utterance

Variant = str  # "plain", "speed:0.9", "room"


@dataclass(frozen=True)
class StoredUtterance:
    """Where one variant of an utterance lies in the store."""

    key: str  # the same for all variants of a recording
    text: str
    corpus: str
    speaker: str
    variant: Variant
    start: int  # first frame
    frames: int


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play faster (factor > 1) or slower: tempo and pitch together, as Kaldi's speed perturbation does."""
    return samples if factor == 1.0 else soxr.resample(samples, 16_000 * factor, 16_000).astype(np.float32)


def add_room(samples: np.ndarray, rng: np.random.Generator, rate_hz: int = 16_000) -> np.ndarray:
    """Convolve with an exponentially decaying noise tail: a random small to large room, level kept."""
    decay_s = rng.uniform(0.1, 0.5)  # RT60
    length = int(decay_s * rate_hz)
    tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail *= rng.uniform(0.1, 0.5) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    size = 1 << (len(samples) + length).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    level = np.sqrt((samples**2).mean() / max((wet**2).mean(), 1e-12))
    return (wet * level).astype(np.float32)


def make_variant(samples: np.ndarray, variant: Variant, seed: int) -> np.ndarray:
    """The samples as the variant says: `plain`, `speed:<factor>` or `room` (a random room and speed)."""
    if variant == "plain":
        return samples
    kind, _, value = variant.partition(":")
    if kind == "speed":
        return change_speed(samples, float(value))
    rng = np.random.default_rng(seed)
    return add_room(change_speed(samples, rng.uniform(0.88, 1.12)), rng)


def _features(job: "tuple[Utterance, Sequence[Variant], int, LogMelConfig]") -> list[np.ndarray]:
    from models.corpora import load_audio

    utterance, variants, seed, config = job
    samples, log_mel = load_audio(utterance), LogMel(config)
    return [log_mel(make_variant(samples, v, seed + i)).astype(np.float16) for i, v in enumerate(variants)]


def write_store(
    directory: Path,
    utterances: "Iterable[Utterance]",
    variants: "Callable[[Utterance], Sequence[Variant]]" = lambda _: ("plain",),
    *,
    config: LogMelConfig | None = None,
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Compute and write the features of all utterances; the index comes last, so a half-written store is not used."""
    directory.mkdir(parents=True, exist_ok=True)
    config = config or LogMelConfig()
    listed = list(utterances)
    jobs_list = [(u, tuple(variants(u)), seed + 1000 * i, config) for i, u in enumerate(listed)]
    index, start = [], 0
    with (directory / "features.f16").open("wb") as file, ProcessPoolExecutor(jobs) as pool:
        results: Iterator[list[np.ndarray]] = pool.map(_features, jobs_list, chunksize=16)
        for number, (job, arrays) in enumerate(zip(jobs_list, results, strict=True)):
            utterance = job[0]
            for variant, features in zip(job[1], arrays, strict=True):
                file.write(features.tobytes())
                key = f"{utterance.corpus}/{number}"
                index.append(
                    StoredUtterance(
                        key,
                        utterance.text,
                        utterance.corpus,
                        utterance.speaker,
                        variant,
                        start,
                        len(features),
                    )
                )
                start += len(features)
            progress(number + 1)
    temporary = directory / "index.jsonl.part"
    with temporary.open("w") as file:
        file.write(json.dumps(asdict(config)) + "\n")
        file.writelines(json.dumps(asdict(u)) + "\n" for u in index)
    os.replace(temporary, directory / "index.jsonl")


class FeatureStore:
    """Read access: `len`, the list of utterances, and each one's log-mel features float16 [F, 80]."""

    def __init__(self, directory: Path) -> None:
        with (directory / "index.jsonl").open() as file:
            self.config = LogMelConfig(**json.loads(next(file)))
            self.utterances = [StoredUtterance(**json.loads(line)) for line in file]
        self._features = np.memmap(directory / "features.f16", np.float16, "r").reshape(-1, self.config.bands)

    def __len__(self) -> int:
        return len(self.utterances)

    def features(self, utterance: StoredUtterance) -> np.ndarray:
        """Log-mel float16 [F, M]."""
        return self._features[utterance.start : utterance.start + utterance.frames]

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each band, float32 [M], over all frames."""
        total, squares, count = np.zeros(self.config.bands), np.zeros(self.config.bands), 0
        for start in range(0, len(self._features), 100_000):
            block = self._features[start : start + 100_000].astype(np.float64)
            total, squares, count = total + block.sum(0), squares + (block**2).sum(0), count + len(block)
        mean = total / count
        return mean.astype(np.float32), np.sqrt(squares / count - mean**2).astype(np.float32)
