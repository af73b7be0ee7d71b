"""The word model against sums over all words, and as a distribution over everything that can be spelt."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from models.ngram import estimate
from models.words import estimate_words
from ondevice.errors import InputError
from ondevice.lm import NgramLm
from ondevice.search import BeamSearch, SearchConfig
from ondevice.tokens import Pieces
from ondevice.wordlm import FIRST_WORD, LONGEST_WORD, UNKNOWN_WORD, WordLm, WordState, load_lm

LETTERS = Pieces(["<blk>", "<unk>", "▁", "▁a", "▁b", "a", "b", "ab"])
SENTENCES = ["a b ab", "ab a", "ba ab a", "ab a b", "a ba", "bab aa", "ab a b", "b ab ba", "abb ab", "a ba ab"] * 3
ONCE = ["aab", "bbb"]  # too rare to be known


def spell(text: str) -> list[int]:
    return LETTERS.spell("".join(f"▁{word}" for word in text.split())) or []


@pytest.fixture(scope="module")
def lm() -> WordLm:
    return estimate_words([*SENTENCES, *ONCE], LETTERS, spell)


def walk(lm: WordLm, tokens: list[int]) -> tuple[WordState, float]:
    """(state, what all pieces were given)."""
    state, total = lm.initial_state(), 0.0
    for token in tokens:
        total += float(lm.scores(state)[token])
        state = lm.advance(state, token)
    return state, total


def spelt(lm: WordLm, tokens: list[int]) -> float:
    """Probability of spelling an unknown word so and ending it."""
    state, total = lm.spelling.initial_state(), 0.0
    for token in [*tokens, len(LETTERS)]:
        state, logprob = lm.spelling.score(state, token)
        total += logprob
    return math.exp(total)


@pytest.mark.parametrize("text", ["a", "ab a", "ba ab bab", "bbb", "a abab b", "ab aab ab"])
def test_a_sentence_gets_the_probability_of_its_words(lm: WordLm, text: str) -> None:
    words, state, expected = lm.known_words, lm.ngrams.initial_state(), 0.0
    for word in text.split():
        number = words.index(word) + FIRST_WORD if word in words else UNKNOWN_WORD
        unknown = math.exp(lm.ngrams.score(state, UNKNOWN_WORD)[1]) * spelt(lm, spell(word))
        state, logprob = lm.ngrams.score(state, number)
        expected += math.log(unknown + (math.exp(logprob) if number != UNKNOWN_WORD else 0.0))
    end, total = walk(lm, spell(text))
    assert total + lm.final(end) == pytest.approx(expected, abs=1e-4)


def test_half_a_word_gets_the_probability_of_all_words_that_begin_so(lm: WordLm) -> None:
    """Summed here over a dense table of all words."""
    state, _ = walk(lm, spell("ab a"))
    history = lm.ngrams.initial_state()
    for word in ("ab", "a"):
        history = lm.ngrams.advance(history, lm.known_words.index(word) + FIRST_WORD)
    dense = np.exp(lm.ngrams.scores(history).astype(np.float64))
    known = sum(p for word, p in zip(lm.known_words, dense[FIRST_WORD:], strict=True) if word.startswith("b"))
    opening = math.exp(lm.spelling.score(lm.spelling.initial_state(), 4)[1])
    ended = math.exp(lm.final(state))
    expected = math.log(ended * (known + dense[UNKNOWN_WORD] * opening))
    assert float(lm.scores(state)[4]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("tokens", [[3], [3, 6], [4, 5, 6], [3, 6, 4], [4, 4, 3]])
def test_what_may_follow_sums_to_one(tokens: list[int]) -> None:
    """With one way to spell each word: the next letter, or the end of the word and the first letter of another."""
    one_way = Pieces(["<blk>", "<unk>", "?", "▁a", "▁b", "a", "b"])
    lm = estimate_words(
        [*SENTENCES, *ONCE], one_way, lambda text: one_way.spell("".join(f"▁{w}" for w in text.split())) or []
    )
    state, _ = walk(lm, tokens)
    scores = np.exp(lm.scores(state).astype(np.float64))
    # a little is left for what no text had: a piece never seen, a word's mark in the middle of an unknown word
    assert scores[1:].sum() == pytest.approx(1.0, abs=5e-2)
    assert scores[[2, 5, 6]].sum() + math.exp(lm.final(state)) == pytest.approx(1.0, abs=5e-2)


def test_words_of_the_text_are_likelier_than_misspelt_ones(lm: WordLm) -> None:
    def total(text: str) -> float:
        state, score = walk(lm, spell(text))
        return score + lm.final(state)

    assert total("ab a b") > total("ab a bb") + 2.0
    assert total("a ba ab") > total("a baa ab") + 2.0


@pytest.mark.parametrize("tokens", [[], [3], [3, 6], [2, 2], spell("ab"), spell("ab b")])
def test_one_piece_gets_the_score_it_has_among_all(lm: WordLm, tokens: list[int]) -> None:
    state, _ = walk(lm, tokens)
    for token, score in enumerate(lm.scores(state)):
        after, alone = lm.score(state, token)
        assert alone == pytest.approx(score, abs=1e-5)
        assert after.prefix == lm.advance(state, token).prefix


def test_pieces_that_write_nothing_change_nothing(lm: WordLm) -> None:
    state, _ = walk(lm, spell("ab"))
    assert lm.advance(state, LETTERS.blank) is state
    assert lm.scores(state)[LETTERS.blank] == 0.0


def test_a_word_mark_of_its_own_ends_the_word(lm: WordLm) -> None:
    """ "▁" "a" is the word "▁a" in two pieces."""
    apart, one = walk(lm, [3, 2, 5, 6])[1], walk(lm, [3, 3, 6])[1]
    assert apart == pytest.approx(one, abs=0.7)  # the unknown word's share is spelt otherwise
    assert walk(lm, [2, 2, 3])[0].prefix == b"a"


def test_the_search_adds_what_the_model_says(lm: WordLm) -> None:
    """A joiner without preferences: the order of the readings is the model's, unfinished words included."""

    class Flat:
        blank = 0

        def initial_state(self) -> int:
            return 0

        def predict(self, token: int, state: int) -> tuple[int, int]:
            return 0, 0

        def join(self, encoded: np.ndarray, predicted: int) -> np.ndarray:
            return np.full(len(LETTERS), -math.log(len(LETTERS)), np.float32)

    search = BeamSearch(Flat(), SearchConfig(beam=4096, max_symbols=1, lm_weight=0.7), lm)
    for _ in range(3):
        search.advance(np.ones((1, 1), np.float32))
    found = {tuple(reading.tokens): reading.score for reading in search.n_best()}
    for length in range(4):
        for tokens in product(range(1, len(LETTERS)), repeat=length):
            state, total = walk(lm, list(tokens))
            alignments = math.log(math.comb(3, length)) - (3 + length) * math.log(len(LETTERS))
            # a last frame that emits is followed by its blank, as every frame is
            assert found[tokens] == pytest.approx(alignments + 0.7 * (total + lm.final(state)), abs=1e-4)


def test_saved_model_scores_the_same_within_half_precision(lm: WordLm, tmp_path: Path) -> None:
    lm.save(tmp_path / "lm.npz")
    loaded = load_lm(tmp_path / "lm.npz", LETTERS)
    assert isinstance(loaded, WordLm)
    assert loaded.known_words == lm.known_words
    for text in ("", "ab", "ab a bb", "bbb b"):
        a, b = walk(lm, spell(text))[0], walk(loaded, spell(text))[0]
        np.testing.assert_allclose(lm.scores(a), loaded.scores(b), atol=0.03)
        assert loaded.final(b) == pytest.approx(lm.final(a), abs=0.03)


def test_a_model_over_pieces_is_told_by_its_file(tmp_path: Path) -> None:
    estimate([[3, 5], [4]], len(LETTERS), 2).save(tmp_path / "lm.npz")
    assert isinstance(load_lm(tmp_path / "lm.npz", LETTERS), NgramLm)


def test_broken_files(lm: WordLm, tmp_path: Path) -> None:
    path = tmp_path / "lm.npz"
    lm.save(path)
    data = path.read_bytes()
    with np.load(path) as saved:
        arrays = dict(saved)
    for broken in (b"", b"text", data[: len(data) // 2], data[:-10]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"lm\.npz: .*expected a language model"):
            load_lm(path, LETTERS)
    words = np.frombuffer(b"b\na\nab\nba\nbab\naa\nabb", np.uint8)
    for changed, reason in (
        ({"words": arrays["words"][:-2]}, "words"),
        ({"words": words[: len(arrays["words"])]}, "words"),
        ({"words": np.array([255, 254], np.uint8)}, "decode"),
        ({"ngrams.bos": np.int64(99)}, "do not fit"),
        ({"spelling.order": np.int64(0)}, "order 0"),
    ):
        np.savez(path, **{**arrays, **changed})
        with pytest.raises(InputError, match=rf"lm\.npz: .*{reason}.*expected a language model"):
            load_lm(path, LETTERS)
    lm.save(path)
    with pytest.raises(InputError, match=r"lm\.npz: .*8 pieces"):
        load_lm(path, Pieces(["<blk>", "<unk>", "▁a"]))
    with pytest.raises(InputError, match=r"none\.npz: No such file"):
        load_lm(tmp_path / "none.npz", LETTERS)


def test_text_and_pieces_it_cannot_be_made_of(lm: WordLm) -> None:
    with pytest.raises(InputError, match="no word occurs 2 times"):
        estimate_words(["a b"], LETTERS, spell)
    across = Pieces([*LETTERS.pieces[:-1], "▁a▁b"])
    with pytest.raises(InputError, match="do not reach over the end of a word"):
        WordLm(lm.known_words, lm.ngrams, lm.spelling, across)


def test_words_too_long_for_the_list_are_unknown(lm: WordLm) -> None:
    long = "a" * (LONGEST_WORD + 1)
    grown = estimate_words([*SENTENCES, long, long], LETTERS, spell)
    assert long not in grown.known_words
    state, total = walk(grown, spell(long))
    assert math.isfinite(total + grown.final(state))
