"""The lexicon's tree, and the search over sounds against one that tries every sequence of words."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from ondevice.bias import PhraseBias
from ondevice.errors import InputError
from ondevice.sound_lexicon import ROOT, Runs, SoundLexicon
from ondevice.sound_search import SoundSearch, SoundSearchConfig, look_ahead
from ondevice.wordlm import FIRST_WORD, WordLm
from tests.ondevice.word_sounds import AA, PHONES, PIECES, SOUNDS, B, ctc, make_lexicon, random_sounds, spell

WIDE = SoundSearchConfig(beam=10_000, margin=1e9, phone_margin=1e9, lm_weight=0.7, word_bonus=0.3)


def search_over(
    lexicon: SoundLexicon, lm: WordLm, config: SoundSearchConfig, bias: PhraseBias | None = None
) -> SoundSearch:  # fmt: skip
    return SoundSearch(lexicon, lm.ngrams, config, look_ahead(lexicon, lm.ngrams), bias)


def run(search: SoundSearch, sounds: np.ndarray) -> dict[str, float]:
    """Score by text."""
    search.reset()
    for frame in sounds:
        search.advance(frame)
    words = search._lexicon.word
    return {" ".join(map(str, words[list(h.pronunciations)].tolist())): h.score for h in search.n_best()}


def sure_sounds() -> np.ndarray:
    """One sure phone a frame: "ab ba" or "abb ba"."""
    sounds = np.full((7, len(PHONES) + 1), -30.0, np.float32)
    for frame, phone in enumerate([0, AA, AA, B, 0, B, AA]):
        sounds[frame, phone] = 0.0
    return sounds


def remembered(lm: WordLm, words: Sequence[str]) -> tuple[int, ...]:
    """What the language model remembers of words."""
    state = lm.ngrams.initial_state()
    for word in words:
        state = lm.ngrams.advance(state, lm.known_words.index(word) + FIRST_WORD)
    return state.tokens


def exhaustive(
    lm: WordLm, sounds: np.ndarray, config: SoundSearchConfig
) -> dict[tuple[tuple[int, ...], int], float]:  # fmt: skip
    """Score of all sequences of pronounced words together that leave one memory and end in one phone."""
    heard, groups = ctc(sounds), dict[tuple[tuple[int, ...], int], list[float]]()
    said = [(word, sound) for word in lm.known_words for sound in SOUNDS[word]]
    for count in range(len(sounds) + 1):
        for sequence in product(said, repeat=count):
            phones = tuple(phone for _, sound in sequence for phone in sound)
            if phones not in heard:
                continue
            score, state = heard[phones], lm.ngrams.initial_state()
            for word, _ in sequence:
                state, logprob = lm.ngrams.score(state, lm.known_words.index(word) + FIRST_WORD)
                score += config.lm_weight * logprob + config.word_bonus
            last = phones[-1] if phones else 0
            groups.setdefault((remembered(lm, [word for word, _ in sequence]), last), []).append(score)
    return {key: float(np.logaddexp.reduce(scores)) for key, scores in groups.items()}


@pytest.mark.parametrize("seed", range(6))
def test_a_search_that_drops_nothing_sums_what_ends_alike(
    word_lexicon: SoundLexicon, word_lm: WordLm, seed: int
) -> None:  # fmt: skip
    sounds = random_sounds(5, seed)
    search = search_over(word_lexicon, word_lm, WIDE)
    for frame in sounds:
        search.advance(frame)
    groups = exhaustive(word_lm, sounds, WIDE)
    found = search.n_best()
    assert len(found) > 10
    for heard in found:
        words = [word_lm.known_words[word_lexicon.word[row]] for row in heard.pronunciations]
        last = word_lexicon.sound(heard.pronunciations[-1])[-1] if words else 0
        assert heard.score == pytest.approx(groups[remembered(word_lm, words), last], abs=1e-3)
        assert list(heard.frames) == sorted(heard.frames)
    assert found[0].score == pytest.approx(max(groups.values()), abs=1e-3)


def test_one_sure_phone_a_frame_is_heard_as_its_words_with_the_language_models_score(
    word_lexicon: SoundLexicon, word_lm: WordLm
) -> None:  # fmt: skip
    sounds = sure_sounds()
    search = search_over(word_lexicon, word_lm, WIDE)
    for frame in sounds:
        search.advance(frame)
    heard = {tuple(word_lm.known_words[word_lexicon.word[row]] for row in h.pronunciations): h for h in search.n_best()}
    for words in (("ab", "ba"), ("abb", "ba")):
        state, expected = word_lm.ngrams.initial_state(), 0.0
        for word in words:
            state, logprob = word_lm.ngrams.score(state, word_lm.known_words.index(word) + FIRST_WORD)
            expected += WIDE.lm_weight * logprob + WIDE.word_bonus
        assert heard[words].score == pytest.approx(expected, abs=1e-3)
        assert heard[words].frames == (3, 6)


def test_a_narrow_beam_keeps_no_more_than_it_may(word_lexicon: SoundLexicon, word_lm: WordLm) -> None:
    search = search_over(word_lexicon, word_lm, SoundSearchConfig(beam=3))
    for frame in random_sounds(40):
        search.advance(frame)
        assert len(search._beam.node) <= 3


def test_forgetting_what_nothing_leads_back_to_changes_no_result(
    word_lexicon: SoundLexicon, word_lm: WordLm, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    sounds, config = random_sounds(60), SoundSearchConfig(beam=20)
    expected = run(search_over(word_lexicon, word_lm, config), sounds)
    monkeypatch.setattr("ondevice.sound_search._FORGET_FRAMES", 7)
    search = search_over(word_lexicon, word_lm, config)
    assert run(search, sounds) == pytest.approx(expected)
    assert len(search._spoken) < 25 * 7


def test_the_tree_leads_to_every_pronunciation(word_lexicon: SoundLexicon, word_lm: WordLm) -> None:
    tree = word_lexicon.tree
    for row, word in enumerate(word_lexicon.word.tolist()):
        node, path = int(tree.node[row]), []
        assert row in tree.ends[tree.first_end[node] : tree.first_end[node + 1]]
        while node != ROOT:
            path.append(int(tree.phone[node]))
            parent = int(tree.parent[node])
            assert node in range(tree.first_child[parent], tree.first_child[parent] + tree.children[parent])
            node = parent
        assert tuple(path[::-1]) == word_lexicon.sound(row)
        assert word_lexicon.sound(row) in SOUNDS[word_lm.known_words[word]]
        assert row in word_lexicon.variants(word)
    below = word_lexicon.best_below(np.arange(len(word_lexicon), dtype=np.float32))
    assert below[ROOT] == len(word_lexicon) - 1


def test_a_lexicon_survives_being_written(word_lexicon: SoundLexicon, tmp_path: Path) -> None:
    path = tmp_path / "lexicon.npz"
    word_lexicon.save(path)
    again = SoundLexicon.load(path)
    assert again.phones == PHONES
    assert [again.pieces(word) for word in range(len(again))] == [
        word_lexicon.pieces(w) for w in range(len(word_lexicon))
    ]
    assert [again.sound(row) for row in range(len(again.word))] == [
        word_lexicon.sound(r) for r in range(len(word_lexicon.word))
    ]
    np.testing.assert_array_equal(again.tree.first_child, word_lexicon.tree.first_child)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_a_file_that_is_no_lexicon_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lexicon.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"lexicon\.npz: .*expected a lexicon"):
        SoundLexicon.load(path)
    with pytest.raises(InputError, match="expected a lexicon"):
        SoundLexicon.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("words", "sounds"), [([0], [()]), ([0, 0], [(2,), (1,)]), ([0], [(4,)]), ([9], [(1,)]), ([0, 1], [(1,)])]
)
def test_a_lexicon_that_does_not_fit_together_is_refused(words: list[int], sounds: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="pronunciations"):
        SoundLexicon(PHONES, np.array(words), Runs.of(sounds), Runs.of([(1,), (2,)]))


def test_spelled_pieces_write_the_word(word_lexicon: SoundLexicon, word_lm: WordLm) -> None:
    assert [word_lexicon.pieces(n) for n in range(len(word_lexicon))] == [
        tuple(spell(word)) for word in word_lm.known_words
    ]


def test_without_a_letter_to_sound_model_nothing_is_guessed(word_lm: WordLm) -> None:
    assert make_lexicon(word_lm).guess("abba") == ()


def test_a_favoured_phrase_gains_its_bonus_and_what_only_begins_it_nothing(
    word_lexicon: SoundLexicon, word_lm: WordLm
) -> None:  # fmt: skip
    sounds = sure_sounds()
    bias, scores = PhraseBias([("abb ba", 2.0)], PIECES), []
    for favoured in (None, bias):
        search = search_over(word_lexicon, word_lm, WIDE, favoured)
        for frame in sounds:
            search.advance(frame)
        texts = [
            " ".join(word_lm.known_words[word_lexicon.word[row]] for row in heard.pronunciations)
            for heard in search.n_best()
        ]
        scores.append(dict(zip(texts, [heard.score for heard in search.n_best()], strict=True)))
    state, bonus = bias.initial_state(), 0.0
    for word in ("abb", "ba"):
        for token in word_lexicon.pieces(word_lm.known_words.index(word)):
            bonus += float(bias.scores(state)[token])
            state = bias.advance(state, token)
    bonus += bias.final(state)
    assert bonus > 1.0
    assert scores[1]["abb ba"] == pytest.approx(scores[0]["abb ba"] + bonus, abs=1e-3)
    assert scores[1]["ab ba"] == pytest.approx(scores[0]["ab ba"], abs=1e-3)
