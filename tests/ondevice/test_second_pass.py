"""The second pass: each of its scores against one that tries everything, and what wins when they disagree."""

from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest

from ondevice import second_pass
from ondevice.bias import PhraseBias
from ondevice.search import Decoded
from ondevice.second_pass import MOST_FRAMES, Said, SecondPass, SecondPassConfig, _crossed, phone_scores
from ondevice.sound_lexicon import BLANK, SoundLexicon
from ondevice.sound_search import look_ahead
from ondevice.wordlm import WordLm
from tests.ondevice.search_models import Bigrams, Tables, encoded
from tests.ondevice.word_sounds import AA, IY, PHONES, PIECES, B, ctc, make_lexicon, random_sounds, spell

FRAMES, SYMBOLS = 3, len(PHONES) + 1
EVERYTHING = SecondPassConfig(
    beam=1000, margin=1e9, phone_margin=1e9, proposals=1000, lm_weight=0.7, word_bonus=0.3,
    transducer_weight=0.6, silence_margin=0.0,
)  # fmt: skip


def make_pass(
    lexicon: SoundLexicon, lm: WordLm, model: Tables, config: SecondPassConfig = EVERYTHING,
    bias: PhraseBias | None = None,
) -> SecondPass:  # fmt: skip
    return SecondPass(model, PIECES, lexicon, lm, look_ahead(lexicon, lm.ngrams), config, bias)


def listen(second: SecondPass, sounds: np.ndarray) -> None:
    """Two frames of sounds for each encoder frame."""
    for frame in range(len(sounds) // 2):
        second.accept(encoded(frame), sounds[None, 2 * frame : 2 * frame + 2])


def text_logprob(lm: WordLm, tokens: list[int]) -> float:
    state, total = lm.initial_state(), 0.0
    for token in tokens:
        total += float(lm.scores(state)[token])
        state = lm.advance(state, token)
    return total + lm.final(state)


def transducer_logprob(model: Tables, tokens: list[int]) -> float:
    """Summed over every way to spread the tokens over the frames."""
    scores = []
    for places in combinations_with_replacement(range(FRAMES), len(tokens)):
        score = sum(model.row(frame + 1, tuple(tokens[:n]))[tokens[n]] for n, frame in enumerate(places))
        blanks = (model.row(frame + 1, tuple(tokens[: sum(p <= frame for p in places)]))[0] for frame in range(FRAMES))
        scores.append(float(score + sum(blanks)))
    return float(np.logaddexp.reduce(scores))


@pytest.mark.parametrize("seed", range(4))
def test_phone_scores_are_sums_over_all_paths(seed: int) -> None:
    sounds = random_sounds(5, seed)
    every = ctc(sounds)
    sequences = [(), (AA,), (AA, AA), (B, AA, IY), (AA, B, AA, B, AA), (IY, IY, IY)]
    np.testing.assert_allclose(phone_scores(sounds, sequences), [every[phones] for phones in sequences], atol=1e-4)
    assert phone_scores(sounds, [(AA,) * 4])[0] == -np.inf  # needs seven frames


def test_faint_places_are_left_out_and_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [(AA, B, IY) * 40, (AA, B) * 50, (B, IY, AA) * 40]
    sounds = np.full((600, SYMBOLS), -12.0, np.float32)  # each phone of the first at its time, nearly for sure
    sounds[np.arange(600), np.where(np.arange(600) % 5 == 2, np.repeat(said[0], 5), BLANK)] = 0.0
    sounds -= np.log(np.exp(sounds).sum(axis=1, keepdims=True))
    scores = phone_scores(sounds, said)
    monkeypatch.setattr(second_pass, "FAINT", 0.0)
    np.testing.assert_allclose(scores, phone_scores(sounds, said), rtol=1e-9)
    monkeypatch.setattr(second_pass, "FAINT", 1e-2)  # or nothing is left out in this test
    assert phone_scores(sounds, said)[1] < scores[1] - 0.1


@pytest.mark.parametrize(("frames", "blank_bonus"), [(FRAMES, 0.0), (FRAMES, 25.0), (40, 5.0), (40, 25.0)])
def test_frames_left_out_lose_next_to_nothing_and_no_reading(
    word_lexicon: SoundLexicon, word_lm: WordLm, monkeypatch: pytest.MonkeyPatch, frames: int, blank_bonus: float
) -> None:
    """Also of what the transducer did not hear at all.

    Left out is what is unlikely beside the same pieces at other frames, which takes a transducer that is mostly sure
    of its blanks: in 40 frames of pure chance (no bonus) the scores of long texts fall by up to 0.1.
    """
    model, sounds = Bigrams(len(PIECES), 7, blank_bonus), random_sounds(2 * frames, 7)
    found = []
    for margin, ahead in ((second_pass.MARGIN, 1), (np.inf, second_pass.AHEAD)):
        monkeypatch.setattr(second_pass, "MARGIN", margin)
        monkeypatch.setattr(second_pass, "AHEAD", ahead)
        model.joined.clear()
        second = make_pass(word_lexicon, word_lm, model, replace(EVERYTHING, beam=50))
        listen(second, sounds)
        found.append({tuple(r.tokens): r for r in second.n_best([Decoded(spell("ab a"), [0, 1], [1.0, 1.0], 0.0)])})
        found[-1]["joined"] = len(model.joined)
    few, every = found
    joined = few.pop("joined"), every.pop("joined")
    assert joined[0] < joined[1] or frames == FRAMES
    assert len(few) > 5
    assert few.keys() == every.keys()
    for tokens, reading in few.items():
        assert reading.score == pytest.approx(every[tokens].score, abs=1e-6)
        assert reading.frames == every[tokens].frames
        assert reading.confidences == pytest.approx(every[tokens].confidences)


@pytest.mark.parametrize("seed", range(4))
def test_readings_are_scored_by_transducer_phones_language_model_and_length(
    word_lexicon: SoundLexicon, word_lm: WordLm, seed: int
) -> None:
    model, sounds = Tables(len(PIECES), seed), random_sounds(2 * FRAMES, seed)
    second = make_pass(word_lexicon, word_lm, model)
    listen(second, sounds)
    heard = ctc(sounds)
    readings = second.n_best([Decoded(spell("a"), [0], [1.0], 0.0)])
    said = {PIECES.text(reading.tokens): reading for reading in readings}
    assert {"", "a", "ab", "ba"} <= set(said)
    assert [r.score for r in readings] == sorted((r.score for r in readings), reverse=True)
    ways = {"": [()], "ab": [(AA, B)], "a ba": [(AA, B, AA), (IY, B, AA), (AA, B, AA, AA), (IY, B, AA, AA)]}
    for text in set(ways) & set(said):
        tokens = spell(text)
        rest = 0.6 * transducer_logprob(model, tokens) + 0.7 * text_logprob(word_lm, tokens) + 0.3 * len(text.split())
        assert min(abs(said[text].score - heard[way] - rest) for way in ways[text]) < 2e-3, text
        assert len(said[text].frames) == len(tokens)
        assert said[text].frames == sorted(said[text].frames)
        assert all(0 <= c <= 1 for c in said[text].confidences)


def test_what_has_more_sounds_than_there_was_time_for_is_no_reading(
    word_lexicon: SoundLexicon, word_lm: WordLm
) -> None:
    second = make_pass(word_lexicon, word_lm, Tables(len(PIECES)))
    listen(second, random_sounds(2 * FRAMES))
    readings = second.n_best([Decoded(spell("ba ba ba ba"), [0] * 4, [1.0] * 4, 0.0)])
    assert np.isfinite([reading.score for reading in readings]).all()
    assert "ba ba ba ba" not in {PIECES.text(reading.tokens) for reading in readings}


def test_sounds_correct_what_the_transducer_misheard(word_lexicon: SoundLexicon, word_lm: WordLm) -> None:
    model = Tables(len(PIECES), 3)
    sounds = np.full((2 * FRAMES, SYMBOLS), -9.0, np.float32)
    for frame, phone in enumerate([B, AA, 0, AA, B, 0]):
        sounds[frame, phone] = 5.0
    second = make_pass(word_lexicon, word_lm, model, SecondPassConfig())
    listen(second, sounds)
    assert PIECES.text(second.n_best([Decoded(spell("a a"), [0, 1], [1.0, 1.0], 0.0)])[0].tokens) == "ba ab"
    deaf = make_pass(word_lexicon, word_lm, model, SecondPassConfig(transducer_weight=0.0))
    listen(deaf, sounds)
    assert PIECES.text(deaf.n_best([])[0].tokens) == "ba ab"


def test_words_that_are_worth_little_over_silence_are_noise(
    word_lexicon: SoundLexicon, word_lm: WordLm, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = np.full((2 * FRAMES, SYMBOLS), -9.0, np.float32)
    for frame, phone in enumerate([B, AA, 0, AA, B, 0]):
        sounds[frame, phone] = 5.0

    def heard(silence_margin: float) -> list[Decoded]:
        config = SecondPassConfig(silence_margin=silence_margin)
        second = make_pass(word_lexicon, word_lm, Tables(len(PIECES), 3), config)
        listen(second, sounds)
        return second.n_best([])

    words = heard(0.0)
    texts = [PIECES.text(reading.tokens) for reading in words]
    worth = words[0].score - words[texts.index("")].score
    assert worth > 0
    monkeypatch.setattr(second_pass, "MOST_SILENCE", np.inf)
    assert [PIECES.text(reading.tokens) for reading in heard(0.99 * worth / FRAMES)] == texts
    others = [text for text in texts if text]
    assert [PIECES.text(reading.tokens) for reading in heard(1.01 * worth / FRAMES)] == ["", *others]
    monkeypatch.setattr(second_pass, "MOST_SILENCE", 0.99 * worth)  # long silence before words does not drown them
    assert [PIECES.text(reading.tokens) for reading in heard(100.0)] == texts


def test_a_word_that_no_list_knows_can_win_by_its_letters(word_lm: WordLm) -> None:
    class Said:
        """Knows that bab is said B AA B."""

        def __call__(self, word: str) -> tuple[str, ...]:
            return tuple({"a": "AA1", "b": "B"}[letter] for letter in word)

    lexicon = make_lexicon(word_lm, letter_to_sound=Said())
    sounds = np.full((2 * FRAMES, SYMBOLS), -9.0, np.float32)
    for frame, phone in enumerate([B, AA, B, 0, 0, 0]):
        sounds[frame, phone] = 9.0
    second = make_pass(lexicon, word_lm, Tables(len(PIECES), 5), SecondPassConfig(transducer_weight=0.1))
    listen(second, sounds)
    found = second.n_best([Decoded(spell("bab"), [0, 1], [1.0, 1.0], 0.0)])
    assert PIECES.text(found[0].tokens) == "bab"


def test_a_phrase_that_is_favoured_wins(word_lexicon: SoundLexicon, word_lm: WordLm) -> None:
    model, sounds = Tables(len(PIECES), 1), random_sounds(2 * FRAMES, 1)
    texts = []
    for bias in (None, PhraseBias([("abb ba", 20.0)], PIECES)):
        second = make_pass(word_lexicon, word_lm, model, bias=bias)
        listen(second, sounds)
        texts.append(PIECES.text(second.n_best([])[0].tokens))
    assert texts[0] != "abb ba"
    assert texts[1] == "abb ba"


def said(text: str) -> tuple[Said, ...]:
    return tuple(Said(word, tuple(spell(word)), ()) for word in text.split())


@pytest.mark.parametrize(
    ("best", "other", "crossed"),
    [
        ("a ba ab", "a ba ab", []),
        ("a ba ab", "", [""]),
        ("", "a", ["a"]),
        ("a ba ab", "b ba abb", ["b ba ab", "a ba abb"]),
        ("a ba ab", "ba b b", ["ba ab", "a ba b b"]),
    ],
)
def test_one_stretch_of_words_at_a_time_is_taken_over(best: str, other: str, crossed: list[str]) -> None:
    found = list(_crossed(said(best), said(other)))
    assert found == [said(text) for text in crossed]


def test_words_that_no_search_put_together_are_found_by_crossing(word_lexicon: SoundLexicon, word_lm: WordLm) -> None:
    """Stretches of what the sounds said, "ba a", and of what the first pass heard, "a b"."""
    model = Tables(len(PIECES), 3)
    sounds = np.full((2 * FRAMES, SYMBOLS), -9.0, np.float32)
    for frame, phone in enumerate([B, AA, 0, 0, IY, 0]):
        sounds[frame, phone] = 5.0
    first = [Decoded(spell("a b"), [0, 1], [1.0, 1.0], 0.0)]
    texts = []
    for crossings in (0, 1):
        second = make_pass(word_lexicon, word_lm, model, SecondPassConfig(beam=1, proposals=100, crossings=crossings))
        listen(second, sounds)
        texts.append({PIECES.text(reading.tokens) for reading in second.n_best(first)})
    assert texts[0] == {"", "a b", "ba a"}
    assert texts[1] == texts[0] | {"a", "ba a b"}


def test_the_transducer_is_asked_about_few_proposals(word_lexicon: SoundLexicon, word_lm: WordLm) -> None:
    for crossings in range(3):
        config = SecondPassConfig(proposals=2, margin=30, crossings=crossings)
        second = make_pass(word_lexicon, word_lm, Tables(len(PIECES)), config)
        listen(second, random_sounds(2 * FRAMES))
        assert len(second.n_best([])) <= 1 + 2 * (1 + crossings)  # silence always


def test_an_utterance_without_frames_or_beyond_two_minutes_stays_as_it_was(
    word_lexicon: SoundLexicon, word_lm: WordLm
) -> None:
    first = [Decoded(spell("ab"), [0], [1.0], -1.0)]
    second = make_pass(word_lexicon, word_lm, Tables(len(PIECES)), SecondPassConfig(beam=2))
    assert second.n_best(first) == first
    sound = random_sounds(2)[None]
    for frame in range(MOST_FRAMES + 10):
        second.accept(encoded(frame), sound)
    assert second.n_best(first) == first
    assert len(second._encoded) <= MOST_FRAMES
    second.reset()
    second.accept(encoded(0), sound)
    assert second.n_best(first) != first
