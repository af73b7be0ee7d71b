"""What a voice's recordings sound like symbol by symbol, for training it to say things as it is shown.

A finished voice aligns its own training speech (`ondevice.transfer`); the next run learns with these measurements.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.speech_store import SpeechStore
from ondevice.acoustic import AcousticModel
from ondevice.errors import InputError
from ondevice.files import DAMAGED, atomic_bytes
from ondevice.speech_features import speech_mel, trim_silence
from ondevice.transfer import ProsodyScale, measure_symbols


@dataclass(frozen=True)
class SymbolProsody:
    """Normalised measurements [N, 4] of each utterance by its key, and their scale."""

    scale: ProsodyScale
    rows: Mapping[str, np.ndarray]

    def save(self, path: Path) -> None:
        """Write them as one .npz, whole or not at all."""
        keys = sorted(self.rows)
        with atomic_bytes(path) as file:
            np.savez_compressed(
                file, keys=np.array(keys), counts=np.array([len(self.rows[k]) for k in keys]),
                values=np.concatenate([self.rows[k] for k in keys]).astype(np.float16),
                mean=self.scale.mean, std=self.scale.std,
            )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "SymbolProsody":
        """Read them back. Raises InputError when the file is none of `save`'s."""
        try:
            with np.load(path) as saved:
                parts = np.split(saved["values"].astype(np.float32), np.cumsum(saved["counts"])[:-1])
                rows = dict(zip(saved["keys"].tolist(), parts, strict=True))
                return cls(ProsodyScale(saved["mean"], saved["std"]), rows)
        except (OSError, *DAMAGED) as error:
            raise InputError(f"{path}: {error}; expected a file of `ondevice train prosody`") from None


def measure_stores(
    acoustic: AcousticModel, stores: Sequence[SpeechStore], encode: Callable[[str], Sequence[int]],
    progress: Callable[[int], None] = lambda _: None,
) -> SymbolProsody:  # fmt: skip
    """Align and measure every utterance; the scale is that of the first store, the voice itself.

    Raises InputError when nothing could be measured.
    """
    found = [dict(_measured(acoustic, store, encode, progress)) for store in stores]
    if not found or not found[0]:
        raise InputError("prosody: no utterance of the voice could be aligned; expected its training speech")
    own = np.concatenate(list(found[0].values()))
    scale = ProsodyScale(np.nanmean(own, axis=0).astype(np.float32), np.nanstd(own, axis=0).astype(np.float32))
    return SymbolProsody(scale, {key: scale.normalise(raw) for rows in found for key, raw in rows.items()})


def _measured(
    acoustic: AcousticModel, store: SpeechStore, encode: Callable[[str], Sequence[int]], progress: Callable[[int], None]
) -> Iterator[tuple[str, np.ndarray]]:
    mean, std = acoustic.manifest.mean_and_std
    for number, utterance in enumerate(store.utterances, start=1):
        symbols = list(encode(utterance.text))
        samples = trim_silence(store.samples(utterance))
        progress(number)
        if not 0 < len(symbols) <= acoustic.manifest.most_symbols or not len(samples):
            continue
        mel = ((speech_mel(samples) - mean) / std).astype(np.float32)
        _, alignment = acoustic.lead(symbols, mel, acoustic.style_of_mel(mel))
        yield store.identity(utterance), measure_symbols(samples, alignment, acoustic.manifest.reduction)
