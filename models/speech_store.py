"""Waveforms of a corpus cached on disk for the speech generator: one flat int16 file and an index, memory-mapped.

A store holds one split of one corpus at one rate. Decoding Opus in every epoch would cost more than a vocoder's
training step; features are cheap beside it and are taken from the samples as they are drawn.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from models.corpora import _sniff, fingerprint
from models.corpus_layouts import SPLITS, Utterance
from ondevice.audio import read_audio
from ondevice.errors import InputError
from ondevice.utterances import read_member

SPEECH_RATE_HZ = 24_000
FULL_SCALE = 32_768.0  # int16 sample of amplitude 1, as `ondevice.audio` has it


@dataclass(frozen=True)
class SpokenUtterance:
    """What an utterance says, who says it, and where its samples lie in the store."""

    key: str  # "<corpus>-<split>/<number in that split>"
    text: str  # as the corpus writes it: case, punctuation, digits
    corpus: str
    speaker: str
    start: int  # first sample
    count: int  # samples


def read_original(corpus: Path | str, split: str | None = None) -> Iterator[Utterance]:
    """The utterances of a corpus in any layout `read_corpus` knows, with their text as written.

    Raises InputError as `read_corpus` does; nothing is left out for the letters it is written in.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"split {split!r} is not known; expected one of {', '.join(SPLITS)}")
    path = Path(corpus)
    for _, utterance in _sniff(path)(path):
        if split in (None, utterance.split):
            yield utterance


def load_speech(utterance: Utterance, rate_hz: int = SPEECH_RATE_HZ) -> np.ndarray:
    """The utterance's samples, mono float32 [n] in -1..1. Raises InputError when they cannot be decoded."""
    reference = utterance.audio_ref
    if reference.offset is None:
        samples = read_audio(reference.path, rate_hz)
    else:
        place = (reference.offset, reference.length)
        samples = read_member(reference.path, place, f"byte {reference.offset}", rate_hz)
    start = round(reference.start_s * rate_hz)
    end = None if reference.end_s is None else round(reference.end_s * rate_hz)
    if start >= len(samples):
        heard_s = len(samples) / rate_hz
        raise InputError(f"{reference.path}: has {heard_s:.2f} s, but a segment begins at {reference.start_s} s")
    return samples[start:end]


def _stored(utterance: Utterance, rate_hz: int) -> np.ndarray:
    scaled = np.rint(load_speech(utterance, rate_hz) * np.float32(FULL_SCALE))
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype("<i2")


def write_speech_store(
    directory: Path,
    utterances: Iterable[Utterance],
    rate_hz: int = SPEECH_RATE_HZ,
    *,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Decode and write all utterances; the index comes last, so a half-written store is not used."""
    directory.mkdir(parents=True, exist_ok=True)
    listed = list(utterances)
    index, start, numbers = [], 0, dict[str, int]()
    with (directory / "samples.i16").open("wb") as file, ProcessPoolExecutor(jobs) as pool:
        decoded = pool.map(partial(_stored, rate_hz=rate_hz), listed, chunksize=8)
        for done, (utterance, samples) in enumerate(zip(listed, decoded, strict=True), start=1):
            file.write(samples.tobytes())
            group = f"{utterance.corpus}-{utterance.split}"
            number = numbers[group] = numbers.get(group, -1) + 1
            index.append(
                SpokenUtterance(
                    f"{group}/{number}", utterance.text, utterance.corpus, utterance.speaker, start, len(samples)
                )
            )
            start += len(samples)
            progress(done)
    temporary = directory / "index.jsonl.part"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"rate_hz": rate_hz}) + "\n")
        file.writelines(json.dumps(asdict(u), ensure_ascii=False) + "\n" for u in index)
    os.replace(temporary, directory / "index.jsonl")


class SpeechStore:
    """Read access: `len`, the list of utterances, and each one's samples."""

    def __init__(self, directory: Path | str) -> None:
        """Open a store. Raises InputError when there is none, or when its files do not belong together."""
        self.directory = Path(directory)
        try:
            with (self.directory / "index.jsonl").open(encoding="utf-8") as file:
                self.rate_hz = int(json.loads(next(file))["rate_hz"])
                self.utterances = [SpokenUtterance(**json.loads(line)) for line in file]
        except FileNotFoundError:
            raise InputError(f"{directory}: no speech store; expected samples.i16 and index.jsonl") from None
        there = (self.directory / "samples.i16").stat().st_size // 2
        expected = sum(u.count for u in self.utterances)
        if there != expected:
            raise InputError(f"{directory}: samples.i16 holds {there} samples, index.jsonl tells of {expected}")
        self._samples = (
            np.memmap(self.directory / "samples.i16", "<i2", "r") if there else np.zeros(0, "<i2")
        )  # an empty file cannot be mapped

    def __len__(self) -> int:
        return len(self.utterances)

    def identity(self, utterance: SpokenUtterance) -> str:
        """A name that no utterance of another store has: corpora may have one name and differ."""
        return f"{self.directory.name}/{utterance.start}"

    @property
    def seconds(self) -> float:
        """Length of everything in it."""
        return sum(u.count for u in self.utterances) / self.rate_hz

    def samples(self, utterance: SpokenUtterance, start: int = 0, count: int | None = None) -> np.ndarray:
        """float32 [n] in -1..1: the whole utterance, or `count` samples of it from `start` on, fewer at its end."""
        stop = utterance.count if count is None else min(start + count, utterance.count)
        stored = self._samples[utterance.start + start : utterance.start + stop]
        return stored.astype(np.float32) / np.float32(FULL_SCALE)


def cached_speech(
    corpus: Path, split: str, cache: Path, rate_hz: int = SPEECH_RATE_HZ, *,
    jobs: int = 2, say: Callable[[str], None] = print,
) -> SpeechStore | None:  # fmt: skip
    """The store of one split of a corpus under `cache`, written now if it is not there; None: an empty split."""
    utterances = list(read_original(corpus, split))
    if not utterances:
        return None
    key = fingerprint(rate_hz, utterances=utterances)
    directory = cache / f"{corpus.stem if corpus.is_file() else corpus.name}-{split}-{rate_hz}-{key}"
    if not (directory / "index.jsonl").exists():
        say(f"{corpus}: waveforms of {len(utterances)} utterances ({split})")

        def progress(done: int) -> None:
            if done % 500 == 0:
                say(f"{corpus}: {done}/{len(utterances)}")

        write_speech_store(directory, utterances, rate_hz, jobs=jobs, progress=progress)
    return SpeechStore(directory)
