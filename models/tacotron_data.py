"""Batches of whole sentences with their log-mel, for the speech generator.

Everything is drawn from (seed, step). Shapes: `B` batch, `N` symbols, `F` mel frames, `M` mel bands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.speech_store import SpeechStore, SpokenUtterance
from models.tacotron import PROSODY_FEATURES
from models.vocoder_data import MelStatistics
from ondevice.errors import InputError
from ondevice.speech_features import SPEECH_HOP_SAMPLES, SPEECH_RATE_HZ, speech_mel, trim_silence

Batch = dict[str, np.ndarray]
FEWEST_FRAMES, MOST_FRAMES = 30, 1_000  # 0.3 s to 10.7 s
MOST_SYMBOLS = 192
SYMBOLS_MULTIPLE = 8  # texts are padded to a multiple, so that few shapes occur


@dataclass(frozen=True)
class Item:
    """One sentence to learn from."""

    store: SpeechStore
    utterance: SpokenUtterance
    symbols: tuple[int, ...]
    frames: int  # about


@dataclass
class TacotronBatches:
    """`batch(step)`: sentences of about one length, as many as fit, drawn by the share of their store."""

    stores: Sequence[SpeechStore]
    encode: Callable[[str], Sequence[int]]  # text -> symbols
    statistics: MelStatistics
    share: Sequence[float] = ()  # how often each store is drawn, against each other; empty: all the same
    batch_frames: int = 12_000  # F times B, padding included
    block: int = 64  # F is a multiple
    prosody: Callable[[str], np.ndarray | None] = lambda _: None  # [N, P] by `SpeechStore.identity`
    prosody_dropout: float = 0.5  # sentences that must do without
    seed: int = 0
    _mels: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        items, weights = [], []
        share = list(self.share) or [1.0] * len(self.stores)
        for store, part in zip(self.stores, share, strict=True):
            first = len(items)
            for utterance in store.utterances:
                symbols = tuple(self.encode(utterance.text))
                frames = -(-utterance.count // SPEECH_HOP_SAMPLES)
                if FEWEST_FRAMES <= frames <= MOST_FRAMES and 0 < len(symbols) <= MOST_SYMBOLS:
                    items.append(Item(store, utterance, symbols, frames))
            weights += [part / max(1, len(items) - first)] * (len(items) - first)
        if not items or not sum(weights):
            raise InputError(
                f"no sentence of {FEWEST_FRAMES} to {MOST_FRAMES} frames and up to {MOST_SYMBOLS} symbols to learn from"
            )
        order = sorted(range(len(items)), key=lambda i: items[i].frames)
        self.items = [items[i] for i in order]
        self._share = np.cumsum([weights[i] for i in order]) / sum(weights)

    @property
    def seconds(self) -> float:
        """Length of the audio in a batch, padding included."""
        return self.batch_frames * SPEECH_HOP_SAMPLES / SPEECH_RATE_HZ

    def batch(self, step: int) -> Batch:
        """The batch of a step, the same whenever it is asked for."""
        rng = np.random.default_rng([self.seed, step])
        place = rng.random()
        longest = self.items[self._at(place)].frames
        size = max(2, self.batch_frames // self._padded(longest))
        spread = 2.5 * size / len(self.items)  # neighbours by length: little padding, other company every time
        places = np.clip(place + rng.uniform(-spread, spread / 2, size - 1), 0, 1 - 1e-9)
        return self.arrays([self.items[self._at(p)] for p in (place, *places)], rng)

    def arrays(self, items: Sequence[Item], rng: np.random.Generator | None = None) -> Batch:
        """symbols [B, N], lengths [B], mel [B, F, M], frames [B], prosody [B, N, P]; without rng nothing is dropped."""
        mels = [self.mel(item) for item in items]
        frames = self._padded(max(map(len, mels)))
        symbols = -(-max(len(i.symbols) for i in items) // SYMBOLS_MULTIPLE) * SYMBOLS_MULTIPLE
        batch = {
            "symbols": np.zeros((len(items), symbols), np.int32),
            "lengths": np.array([len(i.symbols) for i in items], np.int32),
            "mel": np.zeros((len(items), frames, mels[0].shape[1]), np.float32),
            "frames": np.array([len(m) for m in mels], np.int32),
            "prosody": np.zeros((len(items), symbols, PROSODY_FEATURES), np.float32),
        }
        for row, (item, mel) in enumerate(zip(items, mels, strict=True)):
            batch["symbols"][row, : len(item.symbols)] = item.symbols
            batch["mel"][row, : len(mel)] = mel
            known = self.prosody(item.store.identity(item.utterance))
            if known is not None and len(known) != len(item.symbols):
                raise InputError(
                    f"{item.utterance.key}: prosody of {len(known)} symbols for {len(item.symbols)}; "
                    "expected measurements made with the same pronunciation file"
                )
            if known is not None and (rng is None or rng.random() >= self.prosody_dropout):
                batch["prosody"][row, : len(known)] = known
        return batch

    def mel(self, item: Item) -> np.ndarray:
        """Normalised log-mel [F, M] of an item without the silence around it; kept, for it is asked for again."""
        name = item.store.identity(item.utterance)
        kept = self._mels.get(name)
        if kept is None:
            mel = speech_mel(trim_silence(item.store.samples(item.utterance)))
            kept = ((mel - self.statistics.mean) / self.statistics.std).astype(np.float16)
            self._mels[name] = kept
        return kept.astype(np.float32)

    def _at(self, place: float) -> int:
        return min(int(np.searchsorted(self._share, place, side="right")), len(self.items) - 1)

    def _padded(self, frames: int) -> int:
        return -(-frames // self.block) * self.block
