"""N-gram estimation against a brute-force Kneser-Ney, and the runtime model that comes out of it."""

import math
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from models.ngram import FALLBACK_DISCOUNTS, estimate, perplexity
from ondevice.errors import InputError
from ondevice.lm import NgramLm
from ondevice.tokens import Pieces
from ondevice.wordlm import load_lm

BOS = 0


def random_text(sentences: int, symbols: int, seed: int = 0) -> list[list[int]]:
    """A little language: each token prefers one successor, so that high orders have something to learn."""
    rng = np.random.default_rng(seed)
    text = []
    for _ in range(sentences):
        token, sentence = int(rng.integers(1, symbols)), []
        for _ in range(int(rng.integers(1, 12))):
            sentence.append(token)
            token = (token * 3 + 1) % (symbols - 1) + 1 if rng.random() < 0.6 else int(rng.integers(1, symbols))
        text.append(sentence)
    return text


class BruteForce:
    """Interpolated modified Kneser-Ney straight from the definition, one probability at a time."""

    def __init__(self, text: list[list[int]], symbols: int, order: int, min_count: int = 1) -> None:
        self.symbols, self.min_count = symbols, min_count
        self.raw: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
        for sentence in text:
            tokens = (BOS, *sentence)
            for n in range(1, order + 1):
                for i in range(len(tokens) - n + 1):
                    self.raw[n][tokens[i : i + n]] += 1
        self.order = max(n for n in range(1, order + 1) if self.raw[n])
        self.counts = [Counter() for _ in range(self.order + 1)]
        for n in range(1, self.order + 1):
            before = defaultdict(set)
            if n < self.order:
                for gram in self.raw[n + 1]:
                    before[gram[1:]].add(gram[0])
            for gram, count in self.raw[n].items():
                if gram != (BOS,):
                    self.counts[n][gram] = count if n == self.order or gram[0] == BOS else len(before[gram])
        self.discounts = [self.estimate_discounts(n) for n in range(self.order + 1)]

    def estimate_discounts(self, n: int) -> tuple[float, ...]:
        of = Counter(self.counts[n].values())
        if all(of[i] for i in (1, 2, 3, 4)):
            y = of[1] / (of[1] + 2 * of[2])
            d = [j - (j + 1) * y * of[j + 1] / of[j] for j in (1, 2, 3)]
            if all(0 < d[j - 1] < j for j in (1, 2, 3)):
                return (0.0, *d)
        return (0.0, *FALLBACK_DISCOUNTS)

    def probability(self, context: tuple[int, ...], token: int) -> float:
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        n = len(context) + 1
        grams = {g: c for g, c in self.counts[n].items() if g[:-1] == context}
        if not grams:
            return self.probability(context[1:], token) if context else 1 / (self.symbols - 1)
        total = sum(grams.values())
        need = self.min_count if n > 1 else 1
        kept = {g: c - self.discounts[n][min(c, 3)] for g, c in grams.items() if self.raw[n][g] >= need}
        rest = 1 - sum(kept.values()) / total
        lower = self.probability(context[1:], token) if context else 1 / (self.symbols - 1)
        return kept.get((*context, token), 0.0) / total + rest * lower


def state_after(lm: NgramLm, tokens: tuple[int, ...]):
    state = lm.initial_state()
    for token in tokens:
        state = lm.advance(state, token)
    return state


@pytest.mark.parametrize(
    ("order", "min_count", "sentences"), [(1, 1, 9), (2, 1, 40), (3, 1, 60), (4, 2, 80), (3, 3, 3)]
)
def test_equals_brute_force(order: int, min_count: int, sentences: int) -> None:
    symbols = 6
    text = random_text(sentences, symbols, seed=order)
    lm = estimate(text, symbols, order, min_counts=(1, min_count))
    reference = BruteForce(text, symbols, order, min_count)
    for length in range(4):
        for history in product(range(1, symbols), repeat=length):
            state = state_after(lm, history)
            want = [reference.probability((BOS, *history), t) for t in range(1, symbols)]
            np.testing.assert_allclose(np.exp(lm.scores(state)[1:]), want, rtol=1e-5)
            for token in (1, symbols - 1):
                assert math.exp(lm.score(state, token)[1]) == pytest.approx(want[token - 1], rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"min_counts": (1, 1, 2, 3)}, {"min_gain": 2.0}])
def test_distributions_sum_to_one_and_the_beginning_is_never_predicted(options: dict) -> None:
    symbols = 20
    lm = estimate(random_text(400, symbols), symbols, 4, **options)
    rng = np.random.default_rng(1)
    for _ in range(200):
        state = state_after(lm, tuple(rng.integers(1, symbols, rng.integers(0, 6))))
        scores = lm.scores(state)
        assert scores[BOS] == -np.inf
        assert np.exp(scores.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-4)


def test_high_order_learns_and_pruning_shrinks() -> None:
    symbols = 30
    train, held_out = random_text(3000, symbols, 1), random_text(300, symbols, 2)
    by_order = [perplexity(estimate(train, symbols, n), held_out) for n in (1, 2, 3)]
    assert by_order[1] < 0.6 * by_order[0]
    assert by_order[2] < 1.2 * by_order[1]
    full, small = estimate(train, symbols, 4), estimate(train, symbols, 4, min_gain=3.0)
    assert small.ngrams < 0.5 * full.ngrams
    assert perplexity(small, held_out) < 1.05 * perplexity(full, held_out)


def test_saved_model_scores_the_same_within_half_precision(tmp_path: Path) -> None:
    symbols = 20
    lm = estimate(random_text(300, symbols), symbols, 4)
    lm.save(tmp_path / "lm.npz")
    with np.load(tmp_path / "lm.npz") as arrays:
        loaded = NgramLm.from_arrays(arrays)
    assert (loaded.order, loaded.ngrams, loaded.symbols) == (4, lm.ngrams, symbols)
    rng = np.random.default_rng(2)
    for _ in range(50):
        history = tuple(int(t) for t in rng.integers(1, symbols, 5))
        a, b = lm.scores(state_after(lm, history)), loaded.scores(state_after(loaded, history))
        np.testing.assert_allclose(a[1:], b[1:], atol=0.02)
        assert np.exp(b).sum() == pytest.approx(1.0, abs=5e-3)


def test_bytes_per_ngram() -> None:
    """Two million n-grams must fit 40 MB."""
    symbols = 256
    rng = np.random.default_rng(3)
    text = [rng.integers(1, symbols, 300) for _ in range(300)]
    lm = estimate(text, symbols, 3)
    halved = sum(t.backoffs.nbytes + t.logprobs.nbytes for t in lm.tables) // 2  # float16 in the file
    assert (lm.size_bytes - halved) / lm.ngrams < 20


@pytest.mark.parametrize(
    "text",
    [[], [[]], [[], []], [[1, 9]], [[1, BOS]], [[-1]]],
    ids=["none", "empty", "empties", "high", "bos", "low"],
)
def test_bad_text(text: list[list[int]]) -> None:
    with pytest.raises(InputError, match="n-gram model: "):
        estimate(text, 9, 3)


def test_single_token_and_short_sentences() -> None:
    lm = estimate([[1]], 3, 5)
    assert np.exp(lm.scores(lm.initial_state())).sum() == pytest.approx(1.0)
    assert perplexity(estimate([[1, 2], []], 3, 5), [[1, 2]]) < 3


def test_too_many_symbols_for_the_order() -> None:
    with pytest.raises(InputError, match="do not fit 64-bit contexts"):
        estimate([list(range(1, 10))], 60000, 6)


def test_broken_files(tmp_path: Path) -> None:
    path, pieces = tmp_path / "lm.npz", Pieces(["<blk>", *"abcdefgh"])
    estimate(random_text(30, 9), 9, 3).save(path)
    data = path.read_bytes()
    for broken in (b"", b"text", data[: len(data) // 2], data[:-10]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"lm\.npz: .*expected a language model"):
            load_lm(path, pieces)
    np.savez(path, order=3, bos=0, unigrams=np.zeros(9, np.float32))
    with pytest.raises(InputError, match=r"lm\.npz"):
        load_lm(path, pieces)
    np.savez(path, order=1, bos=40, unigrams=np.zeros(9, np.float32))
    with pytest.raises(InputError, match=r"lm\.npz: the tables do not fit"):
        load_lm(path, pieces)
    with pytest.raises(InputError, match=r"none\.npz: No such file"):
        load_lm(tmp_path / "none.npz", pieces)
