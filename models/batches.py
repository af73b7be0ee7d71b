"""Batches for training a recogniser: which utterances, in which order, augmented how.

Everything is drawn from (seed, epoch, batch number), so a run that was killed goes on exactly where it was.
Shapes: `B` batch, `F` frames of 10 ms, `S` stacked frames of 30 ms, `U` word pieces, `P` phones, `M` mel bands.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.feature_store import FeatureStore, StoredUtterance
from ondevice.features import stack_frames

Batch = dict[str, np.ndarray]
HOPS_PER_SECOND = 100


@dataclass(frozen=True)
class AugmentConfig:
    """Changes made to log-mel features as they are drawn; probabilities are per utterance."""

    frequency_masks: int = 2
    frequency_width: int = 14  # bands, at most (SpecAugment's F)
    time_masks_per_second: float = 0.25
    time_width: int = 25  # frames, at most (SpecAugment's T)
    warp: float = 0.08  # largest relative change of the frequency axis (vocal tract length)
    gain_db: float = 10.0  # largest change of level either way
    colour_db: float = 2.5  # deviation of a smooth change of the spectrum, as between microphones
    noise: float = 0.2  # probability of adding a noise recording
    noise_snr_db: tuple[float, float] = (5.0, 30.0)
    edges_s: float = 0.5  # longest quiet added before and after
    join: float = 0.3  # probability that a short utterance is joined with others of its corpus
    token_dropout: float = 0.0  # labels hidden from the predictor, which learns the few texts by heart otherwise
    ramp_epochs: int = 3  # the changes grow from nothing over so many epochs: a net learns clean speech first

    def at(self, epoch: int) -> "AugmentConfig":
        """The settings of an epoch."""
        part = min(1.0, epoch / self.ramp_epochs) if self.ramp_epochs else 1.0
        return replace(
            self,
            frequency_width=round(self.frequency_width * part),
            time_width=round(self.time_width * part),
            warp=self.warp * part,
            gain_db=self.gain_db * part,
            colour_db=self.colour_db * part,
            noise=self.noise * part,
        )


def _exp_db(db: float) -> float:
    return float(np.log(10 ** (db / 10)))


def warp_matrix(factor: float, bands: int) -> np.ndarray:
    """[M, M] that resamples the band axis by `factor`, tied down at the top quarter (Jaitly & Hinton 2013)."""
    knee = 0.75 * bands
    at = np.arange(bands, dtype=np.float64)
    source = np.where(at <= knee, at * factor, 0.0)
    end = knee * factor
    source = np.where(at > knee, end + (at - knee) * (bands - 1 - end) / (bands - 1 - knee), source)
    source = np.clip(source, 0, bands - 1)
    low = np.minimum(source.astype(int), bands - 2)
    part = source - low
    matrix = np.zeros((bands, bands), np.float32)
    matrix[low, np.arange(bands)] = 1 - part
    matrix[low + 1, np.arange(bands)] += part
    return matrix


def colour(bands: int, deviation_db: float, rng: np.random.Generator) -> np.ndarray:
    """[M] to add to log-mel features: tilt, bow and wave of a random frequency response, the finer the smaller."""
    at = np.pi * (np.arange(bands) + 0.5) / bands
    curve = sum(rng.normal(0, deviation_db / order) * np.cos(order * at) for order in (1, 2, 3))
    return np.log(10) / 10 * curve


def quiet(features: np.ndarray, frames: int, rng: np.random.Generator, floor: float) -> np.ndarray:
    """Frames [frames, M] of what the recording's own background sounds like, or of digital silence."""
    if rng.random() < 0.4:
        return np.full((frames, features.shape[1]), floor, np.float32)
    level = np.percentile(features[:: max(1, len(features) // 100)], 8, axis=0)
    wobble = rng.standard_normal((frames, features.shape[1])).astype(np.float32)
    return np.maximum(level + 0.7 * wobble, floor).astype(np.float32)


def augment(
    features: np.ndarray,
    rng: np.random.Generator,
    config: AugmentConfig,
    noises: Sequence[np.ndarray],
    floor: float,
) -> np.ndarray:
    """Log-mel [F, M] changed in voice, level, noise and edges; masking comes later, on normalised features."""
    bands = features.shape[1]
    if config.warp:
        features = features @ warp_matrix(1 + rng.uniform(-config.warp, config.warp), bands)
    lead, tail = (rng.uniform(0, config.edges_s, 2) * HOPS_PER_SECOND).astype(int)
    if lead + tail:
        pieces = [quiet(features, lead, rng, floor), features, quiet(features, tail, rng, floor)]
        features = np.concatenate(pieces)
    shift = _exp_db(rng.uniform(-config.gain_db, config.gain_db))
    if noises and rng.random() < config.noise:
        noise = noises[rng.integers(len(noises))].astype(np.float32)
        start = rng.integers(len(noise))
        noise = np.take(noise, np.arange(start, start + len(features)), axis=0, mode="wrap")
        speech = np.log(np.exp(features).mean())
        offset = speech - np.log(np.exp(noise).mean()) - _exp_db(rng.uniform(*config.noise_snr_db))
        features = np.logaddexp(features, noise + offset)
    if config.colour_db:
        shift = shift + colour(bands, config.colour_db, rng)
    return np.maximum(features + shift, floor).astype(np.float32)


def mask(features: np.ndarray, rng: np.random.Generator, config: AugmentConfig) -> np.ndarray:
    """SpecAugment (Park et al. 2019) on normalised features [F, M]: bands and stretches of time set to the mean, 0."""
    frames, bands = features.shape
    features = features.copy()
    for _ in range(config.frequency_masks):
        width = rng.integers(min(config.frequency_width, bands // 4) + 1)
        start = rng.integers(bands - width + 1)
        features[:, start : start + width] = 0
    for _ in range(rng.poisson(config.time_masks_per_second * frames / HOPS_PER_SECOND)):
        width = min(rng.integers(config.time_width + 1), frames // 5)
        start = rng.integers(frames - width + 1)
        features[start : start + width] = 0
    return features


@dataclass(frozen=True)
class Item:
    """One training example: one utterance or several joined."""

    parts: tuple[tuple[int, StoredUtterance], ...]  # (store, utterance)

    @property
    def frames(self) -> int:
        return sum(u.frames for _, u in self.parts)

    @property
    def text(self) -> str:
        return " ".join(u.text for _, u in self.parts)


@dataclass
class BatchMaker:
    """Draws batches from feature stores. `share[i]` is how much of store i an epoch uses (2.5: twice and a half)."""

    stores: Sequence[FeatureStore]
    share: Sequence[float]
    encode: Callable[[str], list[int]]
    phones: Callable[[str], list[int]]
    mean: np.ndarray
    std: np.ndarray
    batch_frames: int = 24_000  # padded frames of 10 ms in a batch: 240 s
    max_frames: int = 2_000
    multiple: int = 2  # the batch size is a multiple of this
    round_frames: int = 12  # lengths are padded to a multiple, so that few shapes occur
    round_labels: int = 4
    corpus_share: dict[str, float] = field(default_factory=dict)  # further factor for a corpus
    noises: Sequence[np.ndarray] = ()
    silence_share: float = 0.01  # examples of noise without words, as a share of all
    config: AugmentConfig | None = field(default_factory=AugmentConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        self._groups: list[dict[str, list[StoredUtterance]]] = []
        for store in self.stores:
            groups: dict[str, list[StoredUtterance]] = defaultdict(list)
            for utterance in store.utterances:
                if 20 <= utterance.frames <= self.max_frames:
                    groups[utterance.key].append(utterance)
            self._groups.append(groups)

    def plan(self, epoch: int, *, ascending: bool = False) -> list[list[Item]]:
        """The batches of an epoch, in random order, or from short to long (a curriculum for the first epoch)."""
        rng = np.random.default_rng([self.seed, epoch])
        items = []
        for number, groups in enumerate(self._groups):
            for variants in groups.values():
                wanted = self.share[number] * self.corpus_share.get(variants[0].corpus, 1.0)
                count = int(wanted) + (rng.random() < wanted % 1)
                for _ in range(count):
                    items.append(Item(((number, variants[rng.integers(len(variants))]),)))
        if self.config:
            items = self._join_short(items, rng)
        order = np.argsort([item.frames * rng.uniform(0.9, 1.1) for item in items])
        batches, current = [], []
        for at in order:
            longest = max([items[at].frames, *(i.frames for i in current)]) + 100
            if current and longest * (len(current) + 1) > self.batch_frames and len(current) % self.multiple == 0:
                batches.append(current)
                current = []
            current.append(items[at])
        if len(current) >= self.multiple:
            batches.append(current[: len(current) // self.multiple * self.multiple])
        if not ascending:
            rng.shuffle(batches)
        return batches

    def _join_short(self, items: list[Item], rng: np.random.Generator) -> list[Item]:
        """Some short utterances become one of several seconds, so that long pauses and lists of words are known."""
        waiting: dict[str, list[Item]] = defaultdict(list)
        kept = []
        for item in items:
            ((_, utterance),) = item.parts
            short = utterance.frames < 250 and rng.random() < self.config.join + 0.5 * (utterance.frames < 80)
            if not short:
                kept.append(item)
                continue
            queue = waiting[utterance.speaker if utterance.frames < 80 else utterance.corpus]
            queue.append(item)
            if len(queue) >= rng.integers(2, 7) or sum(i.frames for i in queue) > 500:
                kept.append(Item(tuple(part for i in queue for part in i.parts)))
                queue.clear()
        return kept + [item for queue in waiting.values() for item in queue]

    def batch(self, items: Sequence[Item], rng: np.random.Generator, epoch: int = 10**6) -> Batch:
        """Arrays of one batch: features [B, S, 240], frames [B], targets [B, U], labels [B], phones [B, P], ...

        `history` [B, U] is what the predictor sees of the targets: 0 where a label is hidden from it.
        """
        config = self.config.at(epoch) if self.config else None
        floor = float(np.log(self.stores[0].config.floor))
        stack = self.stores[0].config.stack
        rows, texts = [], []
        for item in items:
            features = np.concatenate([self.stores[n].features(u) for n, u in item.parts]).astype(np.float32)
            texts.append(item.text)
            if config:
                features = augment(features, rng, config, self.noises, floor)
                if self.noises and rng.random() < self.silence_share:
                    features, texts[-1] = self._silence(rng, floor), ""
            features = (features - self.mean) / self.std
            if config:
                features = mask(features, rng, config)
            rows.append(stack_frames(features, stack))
        targets = [self.encode(text) for text in texts]
        phones = [self.phones(text) for text in texts]
        histories = [np.array(t, np.int32) for t in targets]
        if config and config.token_dropout:
            histories = [h * (rng.random(len(h)) >= config.token_dropout) for h in histories]
        rate = self.round_frames // stack * 2 // 2
        return {
            "features": _pad(rows, rate),
            "frames": np.array([len(r) for r in rows], np.int32),
            "targets": _pad([np.array(t, np.int32) for t in targets], self.round_labels, least=8),
            "history": _pad([h.astype(np.int32) for h in histories], self.round_labels, least=8),
            "labels": np.array([len(t) for t in targets], np.int32),
            "phones": _pad([np.array(p, np.int32) for p in phones], self.round_labels, least=8),
            "phone_labels": np.array([len(p) for p in phones], np.int32),
        }

    def _silence(self, rng: np.random.Generator, floor: float) -> np.ndarray:
        noise = self.noises[rng.integers(len(self.noises))].astype(np.float32)
        return np.maximum(noise[:500] + _exp_db(rng.uniform(-40, 10)), floor)

    def epoch(self, epoch: int, start: int = 0, *, ascending: bool = False) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        for number, items in enumerate(self.plan(epoch, ascending=ascending)):
            if number >= start:
                yield self.batch(items, np.random.default_rng([self.seed, epoch, number]), epoch)


def _pad(rows: Sequence[np.ndarray], multiple: int, least: int = 0) -> np.ndarray:
    """Rows of different lengths as one zero-padded array whose length is a multiple."""
    longest = max(least, *(len(r) for r in rows))
    longest = -(-longest // multiple) * multiple
    padded = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
