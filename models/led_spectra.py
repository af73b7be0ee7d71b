"""Spectra that a voice makes while it is led through recordings: what its vocoder will hear, and what it should say.

The published way (Shen et al. 2018, section 3.2: "ground truth-aligned predictions"): in time with the recording, but
with all that a voice gets wrong.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.speech_store import SpeechStore
from ondevice.acoustic import AcousticModel
from ondevice.errors import InputError
from ondevice.files import atomic_bytes
from ondevice.speech_features import speech_mel, speech_span


@dataclass(frozen=True)
class LedSpectra:
    """Natural-log mel [F, M] by `SpeechStore.identity`, and the sample of the recording at which each begins."""

    mels: Mapping[str, np.ndarray]
    starts: Mapping[str, int]

    @classmethod
    def of(
        cls, acoustic: AcousticModel, stores: Sequence[SpeechStore], encode: Callable[[str], Sequence[int]],
        path: Path, seed: int = 0,
    ) -> "LedSpectra":  # fmt: skip
        """Those of the recordings in the stores, made once and kept in the file `path`.

        In the style of each recording and with dropout, as it speaks. Raises InputError when there are none.
        """
        if not path.exists():
            made = [each for store in stores for each in _led(acoustic, store, encode, seed)]
            if not made:
                raise InputError("--voice: no recording that it could be led through; expected sentences it can say")
            with atomic_bytes(path) as file:
                np.savez(
                    file, keys=np.array([key for key, _, _ in made]), starts=np.array([start for _, start, _ in made]),
                    counts=np.array([len(mel) for _, _, mel in made]),
                    mels=np.concatenate([mel for _, _, mel in made]).astype(np.float16),
                )  # fmt: skip
        with np.load(path) as saved:
            keys, parts = saved["keys"].tolist(), np.split(saved["mels"], np.cumsum(saved["counts"])[:-1])
            return cls(dict(zip(keys, parts, strict=True)), dict(zip(keys, saved["starts"].tolist(), strict=True)))


def _led(
    acoustic: AcousticModel, store: SpeechStore, encode: Callable[[str], Sequence[int]], seed: int
) -> Iterator[tuple[str, int, np.ndarray]]:
    mean, std = acoustic.manifest.mean_and_std
    for number, utterance in enumerate(store.utterances):
        symbols, samples = list(encode(utterance.text)), store.samples(utterance)
        span = speech_span(samples)
        if not 0 < len(symbols) <= acoustic.manifest.most_symbols or not len(samples):
            continue
        mel = ((speech_mel(samples[span]) - mean) / std).astype(np.float32)
        said, _ = acoustic.lead(symbols, mel, acoustic.style_of_mel(mel), seed=seed + number)
        yield store.identity(utterance), span.start, acoustic.refine(said[: len(mel)])
