"""Phrase bias: what a text earns, against a slow count over its words; and the file it is read from."""

import gc
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice import bias
from ondevice.bias import DEFAULT_WEIGHT, MAX_WEIGHT, BiasState, PhraseBias, check_weight, read_bias_file
from ondevice.errors import InputError
from ondevice.search import BeamSearch, SearchConfig
from ondevice.tokens import Pieces
from tests.ondevice.toy import TOKENS

PIECES = Pieces(TOKENS)
MANY = Pieces(["<blk>", "<unk>", "▁", "▁▁", "a", "b", "ab", "▁a", "▁ab", "b▁", "a▁b", "▁a▁b", "</s>"])
WORDS = st.text("etaonsr", min_size=1, max_size=5)
PHRASES = st.lists(
    st.tuples(
        st.lists(WORDS | st.sampled_from(["the", "to", "tone", "no", "a"]), min_size=1, max_size=3).map(" ".join),
        st.floats(0.01, 50),
    ),
    max_size=6,
)


def bonus_of_text(text: str, phrases: Sequence[tuple[str, float]], pieces: Pieces) -> float:
    """Net bonus of a whole text, straight from the definition.

    A phrase of words earns its weight times its fewest pieces, less what a shorter phrase that begins at the same
    word has earned; of several phrases that end at the same word the one that earns most counts.
    """
    own: dict[tuple[str, ...], float] = {}
    for phrase, weight in phrases:
        words = tuple(phrase.split())
        tokens = pieces.spell("".join("▁" + word for word in words))
        if words and tokens:
            own[words] = max(own.get(words, 0.0), weight * len(tokens))
    words, total = text.split(), 0.0
    for end in range(1, len(words) + 1):
        most = 0.0
        for start in range(end):
            earned = own.get(tuple(words[start:end]), 0.0)
            before = max((own.get(tuple(words[start:middle]), 0.0) for middle in range(start + 1, end)), default=0.0)
            most = max(most, earned - before)
        total += most
    return total


def bonus_of_tokens(favoured: PhraseBias, tokens: Sequence[int]) -> float:
    """What the search adds up over a token sequence."""
    state, total = favoured.initial_state(), 0.0
    for token in tokens:
        total += float(favoured.scores(state)[token])
        state = favoured.advance(state, token)
    return total + favoured.final(state)


def spellings(text: str, pieces: Pieces) -> Iterator[list[int]]:
    """Every token sequence that writes `text` with its marks."""
    if not text:
        yield []
    for token in range(len(pieces)):
        surface = pieces.surface(token)
        if surface and text.startswith(surface):
            for rest in spellings(text[len(surface) :], pieces):
                yield [token, *rest]


# what a text earns


@settings(deadline=None)
@given(PHRASES, st.lists(st.integers(0, len(TOKENS) - 1), max_size=12))
def test_a_token_sequence_earns_exactly_its_completed_phrases(
    phrases: list[tuple[str, float]], tokens: list[int]
) -> None:
    favoured = PhraseBias(phrases, PIECES)
    expected = bonus_of_text(PIECES.text(tokens), phrases, PIECES)
    assert bonus_of_tokens(favoured, tokens) == pytest.approx(expected, abs=1e-3, rel=1e-5)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.text("ab ", min_size=1, max_size=5), st.floats(0.5, 5)), max_size=4),
    st.lists(st.integers(0, len(MANY) - 1), max_size=10),
)
def test_pieces_of_several_words_or_none_earn_what_their_text_does(
    phrases: list[tuple[str, float]], tokens: list[int]
) -> None:
    favoured = PhraseBias(phrases, MANY)
    text = "".join(map(MANY.surface, tokens)).replace("▁", " ")
    expected = bonus_of_text(text, phrases, MANY)
    assert bonus_of_tokens(favoured, tokens) == pytest.approx(expected, abs=1e-4)


@settings(deadline=None)
@given(PHRASES.filter(bool), st.data())
def test_texts_made_of_the_phrases_earn_them(phrases: list[tuple[str, float]], data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from([text for text, _ in phrases]) | WORDS, max_size=5))
    tokens = PIECES.spell("".join("▁" + word for part in parts for word in part.split()))
    if tokens is None:
        return
    favoured = PhraseBias(phrases, PIECES)
    expected = bonus_of_text(PIECES.text(tokens), phrases, PIECES)
    assert bonus_of_tokens(favoured, tokens) == pytest.approx(expected, abs=1e-3, rel=1e-5)


@settings(deadline=None)
@given(PHRASES, st.lists(st.integers(0, len(TOKENS) - 1), max_size=6))
def test_scores_of_all_tokens_are_those_of_each_alone(phrases: list[tuple[str, float]], tokens: list[int]) -> None:
    favoured = PhraseBias(phrases, PIECES)
    before = bonus_of_tokens(favoured, tokens)
    state = favoured.initial_state()
    for token in tokens:
        state = favoured.advance(state, token)
    scores = favoured.scores(state)
    assert scores.shape == (len(TOKENS),)
    assert scores.dtype == np.float32
    assert scores[0] == 0.0  # a blank writes nothing
    for token in range(len(TOKENS)):
        change = float(scores[token]) + favoured.final(favoured.advance(state, token)) - favoured.final(state)
        assert before + change == pytest.approx(bonus_of_tokens(favoured, [*tokens, token]), abs=1e-3, rel=1e-5)


def test_a_phrase_earns_the_same_however_it_is_spelled() -> None:
    pieces = Pieces(["<blk>", "▁", "t", "h", "e", "▁t", "th", "he", "▁th", "▁the", "the", "▁he"])
    favoured = PhraseBias([("the", 2.0), ("the the", 3.0)], pieces)
    found = {tuple(s): bonus_of_tokens(favoured, s) for s in spellings("▁the▁the", pieces)}
    assert len(found) > 20
    assert all(bonus == pytest.approx(3.0 * 2) for bonus in found.values())  # fewest pieces: ▁the ▁the


def test_words_that_only_begin_or_end_like_a_phrase_earn_nothing() -> None:
    favoured = PhraseBias([("one", 5.0)], MANY_LETTERS)
    for text, bonus in [("one", True), ("oneness", False), ("tone", False), ("on e", False), ("no one here", True)]:
        tokens = MANY_LETTERS.spell("".join("▁" + word for word in text.split()))
        assert tokens is not None
        assert (bonus_of_tokens(favoured, tokens) > 0) == bonus


MANY_LETTERS = Pieces(["<blk>", "▁", *"abcdefghijklmnopqrstuvwxyz'"])


@pytest.mark.parametrize(
    "phrases",
    [
        [("cat", 1.0), ("catalogue", 10.0)],
        [("cat", 1.0), ("cat food", 10.0)],
        [("cats", 1.0), ("catalogue", 10.0), ("cat", 0.5)],
        [("cat food", 0.1), ("cat", 10.0)],
        [("cat", 1.0), ("cat", 2.0)],
    ],
)
def test_a_phrase_earns_its_own_bonus_whatever_phrases_share_its_letters(phrases: list[tuple[str, float]]) -> None:
    favoured = PhraseBias(phrases, MANY_LETTERS)
    for text in ("cat", "cats", "catalogue", "cat food", "cat foo", "cata", "the cat food"):
        tokens = MANY_LETTERS.spell("".join("▁" + word for word in text.split()))
        assert tokens is not None
        expected = bonus_of_text(text, phrases, MANY_LETTERS)
        assert bonus_of_tokens(favoured, tokens) == pytest.approx(expected, abs=1e-4)


def test_the_bonus_is_handed_out_on_the_way_and_taken_back_when_the_phrase_breaks_off() -> None:
    favoured = PhraseBias([("stone", 2.0)], MANY_LETTERS)
    state, gains = favoured.initial_state(), []
    tokens = MANY_LETTERS.spell("▁sto") or []
    for token in tokens:
        gains.append(float(favoured.scores(state)[token]))
        state = favoured.advance(state, token)
    assert gains[0] == 0.0  # every word begins with the mark
    assert all(gain > 0 for gain in gains[1:])
    wrong = MANY_LETTERS.pieces.index("x")
    assert favoured.scores(state)[wrong] == pytest.approx(-sum(gains))
    assert favoured.final(state) == pytest.approx(-sum(gains))
    assert favoured.final(favoured.advance(state, wrong)) == 0.0


@pytest.mark.parametrize("turned", [False, True])
def test_letters_shared_by_phrases_hold_the_most_any_of_them_promises(turned: bool) -> None:
    phrases = [("stone", 5.0), ("stop", 0.1), ("stones", 1.0)]
    favoured = PhraseBias(phrases[::-1] if turned else phrases, MANY_LETTERS)
    state = favoured.initial_state()
    for token in MANY_LETTERS.spell("▁sto") or []:
        state = favoured.advance(state, token)
    assert favoured.final(state) == pytest.approx(-5.0 * 6 * 3 / 5)  # three of five letters


def test_going_on_after_a_favoured_word_costs_nothing_even_in_a_phrase_of_less_weight() -> None:
    favoured = PhraseBias([("cat", 10.0), ("cat food", 0.1)], MANY_LETTERS)
    state, gains = favoured.initial_state(), []
    for token in MANY_LETTERS.spell("▁cat▁food▁") or []:
        gains.append(float(favoured.scores(state)[token]))
        state = favoured.advance(state, token)
    assert sum(gains[:4]) == pytest.approx(10.0 * 4)
    assert gains[4:] == pytest.approx([0.0] * 6)


def test_phrases_overlap() -> None:
    phrases = [("new york", 1.0), ("york city", 1.0), ("york", 0.5)]
    favoured = PhraseBias(phrases, MANY_LETTERS)
    tokens = MANY_LETTERS.spell("▁new▁york▁city") or []
    # "new york" (9 letters and marks), not "york" beside it; then what "york city" earns more than "york"
    assert bonus_of_tokens(favoured, tokens) == pytest.approx(1.0 * 9 + 1.0 * 10 - 0.5 * 5)


def test_accents_capitals_and_typographic_quotes_find_the_letters_the_model_has() -> None:
    favoured = PhraseBias([("ZOË’S Café", 1.0)], MANY_LETTERS)
    assert not favoured.unspelled
    tokens = MANY_LETTERS.spell("▁zoe's▁cafe") or []
    assert bonus_of_tokens(favoured, tokens) == pytest.approx(1.0 * len(tokens))


def test_phrases_the_pieces_cannot_write_are_listed() -> None:
    favoured = PhraseBias([("日本", 1.0), ("cat", 1.0), ("c3po", 2.0), ("  ", 1.0)], MANY_LETTERS)
    assert favoured.unspelled == ["日本", "c3po"]
    assert favoured
    assert not PhraseBias([("日本", 1.0)], MANY_LETTERS)
    assert not PhraseBias([], MANY_LETTERS)


@pytest.mark.parametrize("weight", [0.0, -1.0, MAX_WEIGHT * 1.001, math.inf, math.nan])
def test_weights_out_of_range_name_the_phrase(weight: float) -> None:
    with pytest.raises(InputError, match=r"'cat'.*above 0 and up to 100"):
        PhraseBias([("cat", weight)], MANY_LETTERS)
    with pytest.raises(InputError, match="here"):
        check_weight(weight, "here")


def test_the_extreme_weights_are_allowed() -> None:
    check_weight(MAX_WEIGHT, "here")
    check_weight(1e-300, "here")


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.floats(0.1, 100)), max_size=5))
def test_any_text_is_a_phrase_or_listed(phrases: list[tuple[str, float]]) -> None:
    favoured = PhraseBias(phrases, PIECES)
    assert set(favoured.unspelled) <= {text for text, _ in phrases}
    scores = favoured.scores(favoured.initial_state())
    assert np.isfinite(scores).all()


# in the search


class Sounds:
    """A transducer that hears one token a frame, with the probabilities of one row each."""

    blank = 0

    def __init__(self, *rows: dict[str, float]) -> None:
        self.rows = [
            np.log(np.array([row.get(piece, 1e-6) for piece in TOKENS], np.float32)) for row in (*rows, {"<blk>": 1.0})
        ]

    def initial_state(self) -> int:
        return -1

    def predict(self, token: int, state: int) -> tuple[int, int]:
        return state + 1, state + 1

    def join(self, encoded: np.ndarray, predicted: int) -> np.ndarray:
        frame = int(encoded[0, 0])
        return self.rows[frame if predicted == frame else -1].copy()


def heard(phrases: Sequence[tuple[str, float]], *rows: dict[str, float]) -> str:
    searching = BeamSearch(Sounds(*rows), SearchConfig(4, 1), bias=PhraseBias(phrases, PIECES))
    for frame in range(len(rows)):
        searching.advance(np.full((1, 1), frame, np.float32))
    return PIECES.text(searching.n_best()[0].tokens)


def test_a_favoured_phrase_wins_a_near_tie() -> None:
    sounds = {"▁on": 0.45, "▁no": 0.5}, {"▁the": 0.5, "▁to": 0.45}
    assert heard([], *sounds) == "no the"
    assert heard([("on", 0.5)], *sounds) == "on the"
    assert heard([("to", 0.5)], *sounds) == "no to"
    assert heard([("on to", 0.5)], *sounds) == "on to"
    assert heard([("on to a", 0.5)], *sounds) == "no the"  # never completed


def test_a_bonus_does_not_outweigh_what_is_plainly_heard() -> None:
    assert heard([("on", 1.5)], {"▁on": 0.01, "▁no": 0.98}) == "no"


# memory


def test_states_are_dropped_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bias, "_CACHE_BYTES", 10 * 4 * len(MANY_LETTERS))  # ten states
    letters = np.random.default_rng(0).choice(list("abcdefghijklmnopqrstuvwxyz"), (60, 8))
    words = ["".join(row) for row in letters]
    favoured = PhraseBias([(word, 1.0) for word in words], MANY_LETTERS)
    start = favoured.initial_state()  # held all the time, as the root of a search holds it
    for word in words * 2:
        state, total = start, 0.0
        for token in MANY_LETTERS.spell("▁" + word) or []:
            total += float(favoured.scores(state)[token])
            state = favoured.advance(state, token)
        assert total + favoured.final(state) == pytest.approx(9, rel=1e-5)
    gc.collect()
    assert sum(isinstance(thing, BiasState) for thing in gc.get_objects()) < 60  # of about 500


# the file


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bias")


def test_phrases_and_weights_of_a_file(folder: Path) -> None:
    path = write(folder / "phrases.txt", "\ufeffNew York\t2.5\r\n\r\n  turn on  \nCafé\t\n \t3\nlast\t1e2".encode())
    expected = (("New York", 2.5), ("turn on", DEFAULT_WEIGHT), ("Café", DEFAULT_WEIGHT), ("last", 100.0))
    assert read_bias_file(path) == expected


@pytest.mark.parametrize("weight", ["0", "-1", "101", "nan", "inf", "1e999", "two", "1,5", "1.5 2", "1\t2", "0x10"])
def test_a_wrong_weight_names_file_and_line(folder: Path, weight: str) -> None:
    path = write(folder / "wrong.txt", f"fine\t1\n\nwrong\t{weight}\nfine too\n".encode())
    with pytest.raises(InputError, match=r"wrong\.txt, line 3: the weight must be a number above 0 and up to 100"):
        read_bias_file(path)


def test_files_that_are_no_text_name_the_file_and_line(folder: Path) -> None:
    with pytest.raises(InputError, match=r"latin\.txt, line 2: not UTF-8"):
        read_bias_file(write(folder / "latin.txt", b"fine\ncaf\xe9\n"))
    with pytest.raises(InputError, match=r"bom\.txt, line 3: not UTF-8"):
        read_bias_file(write(folder / "bom.txt", b"\xef\xbb\xbffine\n\n\xff"))
    with pytest.raises(InputError, match=r"missing\.txt: No such file"):
        read_bias_file(folder / "missing.txt")
    with pytest.raises(InputError, match="a directory; expected a file of phrases"):
        read_bias_file(folder)
    with pytest.raises(InputError, match="null byte"):
        read_bias_file("a\0b")


TEXT_LINES = st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass"))
WEIGHTED_LINES = st.tuples(st.text("ab c", max_size=4), st.text("0123456789.e-+ \tinfa", max_size=6))
LINES = st.lists(st.binary(max_size=12) | TEXT_LINES | WEIGHTED_LINES.map("\t".join).map(str.encode), max_size=5)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | LINES.map(b"\n".join))
def test_any_bytes_are_phrases_or_one_line_that_names_file_and_line(folder: Path, content: bytes) -> None:
    path = write(folder / "any.txt", content)
    message = ""
    try:
        phrases = read_bias_file(path)
    except InputError as error:
        phrases, message = (), str(error)
    assert not message or (message.startswith(f"{path}, line ") and len(message.splitlines()) == 1)
    assert all(phrase == phrase.strip() != "" and 0 < weight <= MAX_WEIGHT for phrase, weight in phrases)
    favoured = PhraseBias(phrases, PIECES)
    assert len(favoured.unspelled) <= len(phrases)


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="\t\n\r", codec="utf-8")), st.floats(0.01, 100))))
def test_what_is_written_is_read(folder: Path, phrases: list[tuple[str, float]]) -> None:
    lines = [f"{text}\t{weight!r}" for text, weight in phrases]
    path = write(folder / "round.txt", "\n".join(lines).encode())
    expected = tuple((text.strip(), weight) for text, weight in phrases if text.strip())
    got = read_bias_file(path)
    assert [weight for _, weight in got] == [weight for _, weight in expected]
    assert [text for text, _ in got] == [text.removeprefix("\ufeff") for text, _ in expected[:1]] + [
        text for text, _ in expected[1:]
    ]


def test_weights_grow_the_bonus() -> None:
    bonuses = []
    for weight in (0.5, 1.0, 2.0):
        favoured = PhraseBias([("cat", weight)], MANY_LETTERS)
        bonuses.append(bonus_of_tokens(favoured, MANY_LETTERS.spell("▁cat") or []))
    assert all(a < b for a, b in pairwise(bonuses))
