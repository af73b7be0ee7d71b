"""A lexicon and a language model of four words over three phones, for tests of the second pass."""

from itertools import product

import numpy as np

from models.words import estimate_words
from ondevice.sound_lexicon import Runs, SoundLexicon
from ondevice.tokens import Pieces
from ondevice.wordlm import WordLm

PIECES = Pieces(["<blk>", "<unk>", "▁", "▁a", "▁b", "a", "b", "ab"])
PHONES = ("AA", "B", "IY")
AA, B, IY = 1, 2, 3
SOUNDS = {"a": [(AA,), (IY,)], "ab": [(AA, B)], "abb": [(AA, B)], "ba": [(B, AA), (B, AA, AA)]}
SENTENCES = ["a ba ab", "ab a ba", "ba ab a", "a abb ba", "abb ba a", "ab ab ba"] * 3


def spell(text: str) -> list[int]:
    return PIECES.spell("".join(f"▁{word}" for word in text.split())) or []


def make_lm() -> WordLm:
    return estimate_words(SENTENCES, PIECES, spell)


def make_lexicon(lm: WordLm, **more: object) -> SoundLexicon:
    rows = sorted((sound, number) for number, word in enumerate(lm.known_words) for sound in SOUNDS[word])
    return SoundLexicon(
        PHONES, np.array([number for _, number in rows]), Runs.of(sound for sound, _ in rows),
        Runs.of(map(spell, lm.known_words)), **more,
    )  # fmt: skip


def random_sounds(frames: int, seed: int = 0, symbols: int = len(PHONES) + 1) -> np.ndarray:
    """Natural log probabilities [frames, symbols]."""
    logits = np.random.default_rng(seed).normal(0, 1.5, (frames, symbols))
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def ctc(logprobs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Natural log probability of every sequence of labels: each path summed on its own."""
    found: dict[tuple[int, ...], list[float]] = {}
    for path in product(range(logprobs.shape[1]), repeat=len(logprobs)):
        labels = tuple(p for i, p in enumerate(path) if p and (i == 0 or p != path[i - 1]))
        found.setdefault(labels, []).append(float(sum(logprobs[i, p] for i, p in enumerate(path))))
    return {labels: float(np.logaddexp.reduce(scores)) for labels, scores in found.items()}
