"""Stand-ins for a transducer whose probabilities are known, and the search that tries everything."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest

from models.ngram import estimate
from ondevice.lm import NgramLm
from ondevice.search import BeamSearch, Decoded, GreedySearch

Tokens = tuple[int, ...]
EVERYTHING = 5000  # a beam that drops nothing in the searches below


class Tables:
    """A transducer whose probabilities are drawn anew for every frame and every whole history."""

    blank = 0

    def __init__(self, symbols: int, seed: int = 0, blank_bonus: float = 0.0) -> None:
        self.symbols = symbols
        self.frame = 0
        self.predicted: list[tuple[Tokens, int]] = []  # histories asked for, and when
        self.joined: list[tuple[Tokens, int]] = []
        self.priors: list[Tokens] = []  # histories joined with no sound

        @cache
        def row(frame: int, history: Tokens) -> np.ndarray:
            logits = np.random.default_rng([seed, frame, *history]).normal(0, 1.5, symbols)
            logits[0] += blank_bonus
            return (logits - np.log(np.exp(logits).sum())).astype(np.float32)

        self.row = row

    def initial_state(self) -> None:
        return None

    def predict(self, token: int, state: Tokens | None) -> tuple[Tokens, Tokens]:
        history = () if state is None else (*state, token)
        self.predicted.append((history, self.frame))
        return history, history

    def join(self, encoded: np.ndarray, predicted: Tokens) -> np.ndarray:
        self.joined.append((predicted, self.frame))
        if not encoded.any():
            self.priors.append(predicted)
        return self.row(int(encoded[0, 0]), predicted).copy()

    def join_frames(self, encoded: Sequence[np.ndarray], predicted: Tokens, tokens: Sequence[int]) -> np.ndarray:
        return np.stack([self.join(frame, predicted)[list(tokens)] for frame in encoded])


class Bigrams(Tables):
    """A cheap transducer for long streams: probabilities depend on the frame and the last token alone."""

    def __init__(self, symbols: int, seed: int = 0, blank_bonus: float = 0.0) -> None:
        super().__init__(symbols)
        logits = np.random.default_rng(seed).normal(0, 1.5, (61, symbols, symbols))
        logits[:, :, 0] += blank_bonus
        rows = (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)
        self.row = lambda frame, history: rows[frame % 61, history[-1] if history else 0]


class Scripted:
    """A transducer that says one row of probabilities at each frame; after `words` tokens, only blanks.

    A frame emits at most one token: a history that has one token more than there were frames takes a blank.
    """

    blank = 0

    def __init__(self, *rows: Sequence[float], words: int = 10**9) -> None:
        self.words = words
        with np.errstate(divide="ignore"):
            self.rows = [np.log(np.array(row, np.float32)) for row in rows]
            self.sure = np.log(np.eye(len(rows[0]), dtype=np.float32)[0])

    def initial_state(self) -> int:
        return -1

    def predict(self, token: int, state: int) -> tuple[int, int]:
        return state + 1, state + 1

    def join(self, encoded: np.ndarray, predicted: int) -> np.ndarray:
        frame = int(encoded[0, 0]) - 1
        return (self.sure if predicted > frame or predicted >= self.words else self.rows[frame]).copy()


def encoded(frame: int) -> np.ndarray:
    """What the tables take for frame 0, 1, ...; zeros are left for "no sound"."""
    return np.full((1, 1), frame + 1, np.float32)


def run(searching: GreedySearch | BeamSearch, frames: int, model: Tables | None = None) -> list[Decoded]:
    for frame in range(frames):
        if model is not None:
            model.frame = frame
        searching.advance(encoded(frame))
    return searching.n_best()


def exhaustive(
    model: Tables, frames: int, max_symbols: int, added: Callable[[Tokens], float] = lambda tokens: 0.0
) -> dict[Tokens, float]:
    """The score of every token sequence: each alignment summed on its own."""
    emissions = [e for n in range(max_symbols + 1) for e in product(range(1, model.symbols), repeat=n)]
    alignments: dict[Tokens, list[float]] = {}
    for alignment in product(emissions, repeat=frames):
        tokens: Tokens = ()
        score = 0.0
        for frame, emitted in enumerate(alignment):
            for token in emitted:
                score += float(model.row(frame + 1, tokens)[token])
                tokens += (token,)
            score += float(model.row(frame + 1, tokens)[0])
        alignments.setdefault(tokens, []).append(score)
    return {tokens: float(np.logaddexp.reduce(scores)) + added(tokens) for tokens, scores in alignments.items()}


def little_lm(symbols: int, seed: int = 0) -> NgramLm:
    rng = np.random.default_rng(seed)
    return estimate([rng.integers(1, symbols, rng.integers(1, 6)).tolist() for _ in range(12)], symbols, order=3)


def assert_equal_readings(found: list[Decoded], expected: dict[Tokens, float]) -> None:
    assert len(found) == len(expected)
    for reading in found:
        assert reading.score == pytest.approx(expected[tuple(reading.tokens)], abs=1e-5)
    scores = [reading.score for reading in found]
    assert scores == sorted(scores, reverse=True)
    assert found[0].score == pytest.approx(max(expected.values()), abs=1e-5)
