"""Batches of random stretches of speech with their log-mel, for vocoders.

Everything is drawn from (seed, step). Shapes: `B` batch, `F` frames, `M` mel bands, `n` samples (F * hop).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.led_spectra import LedSpectra
from models.recipe import write_json
from models.speech_store import SpeechStore
from ondevice.features import LogMel, LogMelConfig

STATISTICS_UTTERANCES = 400  # enough for means and deviations to two digits
LOUDEST = 0.98  # peak that a random gain may reach


@dataclass(frozen=True)
class MelStatistics:
    """Mean and standard deviation of each band, float32 [M]."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, stores: Sequence[SpeechStore], path: Path, config: LogMelConfig) -> "MelStatistics":
        """Those of the speech in the stores, computed once and kept in the file `path`."""
        if not path.exists():
            every = [(store, u) for store in stores for u in store.utterances]
            log_mel = LogMel(config)
            chosen = every[:: max(1, len(every) // STATISTICS_UTTERANCES)]
            frames = np.concatenate([log_mel(store.samples(u)) for store, u in chosen])
            write_json(path, {"mean": frames.mean(0).tolist(), "std": frames.std(0).tolist()})
        saved = json.loads(path.read_text(encoding="utf-8"))
        return cls(np.array(saved["mean"], np.float32), np.array(saved["std"], np.float32))


@dataclass
class SegmentBatches:
    """`batch(step)`: {"mel": float32 [B, F, M], "samples": float32 [B, n]} of places drawn evenly over all audio."""

    stores: Sequence[SpeechStore]
    mel: LogMelConfig
    size: int = 8  # B
    frames: int = 112  # F: 1.2 s
    gain_db: float = 8.0  # largest change of level either way
    seed: int = 0
    led: LedSpectra | None = None  # what a voice made of the recordings, to learn from as well as from their own
    led_share: float = 0.5  # of the segments

    def __post_init__(self) -> None:
        self._log_mel = LogMel(self.mel)
        self._every = [(store, u) for store in self.stores for u in store.utterances]
        self._share = _shares([u.count for _, u in self._every])
        if self.led:
            self._led = [pair for pair in self._every if pair[0].identity(pair[1]) in self.led.mels]
            self._share_led = _shares([len(self.led.mels[store.identity(u)]) for store, u in self._led])
        self.samples = self.frames * self.mel.hop_samples
        self.margin = (self.mel.window_samples - self.mel.hop_samples) // 2

    @property
    def seconds(self) -> float:
        """Length of the audio in a batch."""
        return self.size * self.samples / self.mel.rate_hz

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step, the same whenever it is asked for."""
        rng = np.random.default_rng([self.seed, step])
        pairs = [self._segment(rng) for _ in range(self.size)]
        return {"mel": np.stack([m for m, _ in pairs]), "samples": np.stack([s for _, s in pairs])}

    def _segment(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Log-mel [F, M] and samples [n]; windows at the ends reach into the recording around the segment."""
        if self.led and rng.random() < self.led_share:
            return self._led_segment(self.led, rng)
        store, utterance = self._every[np.searchsorted(self._share, rng.random())]
        start = int(rng.integers(max(1, utterance.count - self.samples)))
        first = max(0, start - self.margin)
        around = np.zeros(self.samples + 2 * self.margin, np.float32)
        at = first - (start - self.margin)
        heard = store.samples(utterance, first, len(around) - at)
        around[at : at + len(heard)] = heard
        gain = 10.0 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
        around *= np.float32(min(gain, LOUDEST / max(float(np.abs(around).max()), 1e-5)))
        return self._log_mel(around), around[self.margin : self.margin + self.samples]

    def _led_segment(self, led: LedSpectra, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What a voice made of a stretch, [F, M], and the recording there, [n]; silence beyond its end."""
        store, utterance = self._led[np.searchsorted(self._share_led, rng.random())]
        whole = led.mels[store.identity(utterance)]
        first = int(rng.integers(max(1, len(whole) - self.frames)))
        mel = np.full((self.frames, self.mel.bands), np.log(self.mel.floor), np.float32)
        samples = np.zeros(self.samples, np.float32)
        stretch = whole[first : first + self.frames]
        place = led.starts[store.identity(utterance)] + first * self.mel.hop_samples
        heard = store.samples(utterance, place, len(stretch) * self.mel.hop_samples)
        mel[: len(stretch)], samples[: len(heard)] = stretch, heard
        return mel, samples


def _shares(counts: Sequence[int]) -> np.ndarray:
    """Running sums of the counts as parts of 1, the last a little above it so that every number in 0..1 lies within."""
    shares = np.cumsum(np.array(counts, np.float64)) / sum(counts)
    shares[-1] = np.inf
    return shares
