"""The transducer search against an exhaustive one, and what its readings and settings mean."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ngram import estimate
from ondevice.bias import PhraseBias
from ondevice.errors import InputError
from ondevice.lm import NgramLm
from ondevice.search import BeamSearch, GreedySearch, SearchConfig
from ondevice.tokens import Pieces
from tests.ondevice.search_models import (
    EVERYTHING,
    Bigrams,
    Scripted,
    Tables,
    Tokens,
    assert_equal_readings,
    encoded,
    exhaustive,
    little_lm,
    run,
)
from tests.ondevice.test_bias import bonus_of_text

# exhaustive search


@pytest.mark.parametrize(("symbols", "frames", "max_symbols"), [(3, 4, 2), (4, 3, 2), (3, 3, 3), (4, 5, 1)])
def test_a_beam_that_drops_nothing_equals_the_exhaustive_search(symbols: int, frames: int, max_symbols: int) -> None:
    for seed in range(3):
        model = Tables(symbols, seed)
        found = run(BeamSearch(model, SearchConfig(beam=EVERYTHING, max_symbols=max_symbols)), frames)
        assert_equal_readings(found, exhaustive(model, frames, max_symbols))


@pytest.mark.parametrize("seed", range(12))
def test_language_model_prior_bias_and_length_bonus_add_up_as_in_the_exhaustive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lm_weight, ilm_weight, length_bonus = (float(rng.choice(of)) for of in ([0, 0.4, 1], [0, 0.3], [-0.7, 0, 1.1]))
    weights = rng.uniform(0.1, 3.0, 4).tolist()
    model, lm = Tables(4, seed), little_lm(4, seed)
    pieces = Pieces(["<blk>", "▁a", "b", "▁ab"])
    phrases = list(zip(["a", "ab", "a ab", "ab a a"], weights, strict=True))

    def added(tokens: Tokens) -> float:
        total, state = length_bonus * len(tokens), lm.initial_state()
        for position, token in enumerate(tokens):
            state, logprob = lm.score(state, token)
            total += lm_weight * logprob
            prior = np.exp(model.row(0, tokens[:position]).astype(float))
            total -= ilm_weight * math.log(prior[token] / (1 - prior[0]))
        return total + bonus_of_text(pieces.text(tokens), phrases, pieces)

    config = SearchConfig(EVERYTHING, 2, lm_weight, ilm_weight, length_bonus)
    found = run(BeamSearch(model, config, lm, PhraseBias(phrases, pieces)), 3)
    assert_equal_readings(found, exhaustive(model, 3, 2, added))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_a_narrow_beam_never_claims_more_probability_than_there_is(seed: int, beam: int) -> None:
    model = Tables(3, seed)
    expected = exhaustive(model, 3, 2)
    found = run(BeamSearch(model, SearchConfig(beam, 2)), 3)
    assert 1 <= len(found) <= beam
    assert len({tuple(reading.tokens) for reading in found}) == len(found)
    for reading in found:
        assert reading.score <= expected[tuple(reading.tokens)] + 1e-5


# greedy


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(0, 12), st.integers(1, 4), st.floats(-2, 3))
def test_a_beam_of_one_is_greedy(seed: int, symbols: int, frames: int, max_symbols: int, blank: float) -> None:
    model = Tables(symbols, seed, blank)
    [greedy] = run(GreedySearch(model, max_symbols), frames)
    [beam] = run(BeamSearch(model, SearchConfig(1, max_symbols)), frames)
    assert beam == greedy


def test_a_beam_of_one_is_greedy_however_long_the_utterance() -> None:
    model = Bigrams(6, seed=3)
    [greedy] = run(GreedySearch(model), 2000)
    [beam] = run(BeamSearch(model, SearchConfig(1)), 2000)
    assert len(greedy.tokens) > 500
    assert beam == greedy


def test_greedy_takes_the_likeliest_symbol_and_adds_every_probability() -> None:
    model = Tables(5, seed=11)
    [found] = run(GreedySearch(model, max_symbols=2), 6)
    tokens: Tokens = ()
    frames, score = [], 0.0
    for frame in range(6):
        for emitted in range(3):
            row = model.row(frame + 1, tokens)
            token = int(row.argmax()) if emitted < 2 else 0
            score += float(row[token])
            if token == 0:
                break
            tokens += (token,)
            frames.append(frame)
    assert (found.tokens, found.frames) == (list(tokens), frames)
    assert found.score == pytest.approx(score, abs=1e-6)


# what comes out


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 3), st.integers(0, 10), st.booleans())
def test_readings_are_sorted_and_written_out_in_order(
    seed: int, beam: int, max_symbols: int, frames: int, fused: bool
) -> None:
    pieces = Pieces(["<blk>", "▁a", "b", "▁ab", "▁"])
    config = SearchConfig(beam, max_symbols, lm_weight=0.5 * fused, length_bonus=0.5 * fused)
    bias = PhraseBias([("a ab", 2.0), ("bb", 1.0)] if fused else [], pieces)
    found = run(BeamSearch(Tables(5, seed), config, little_lm(5), bias), frames)
    scores = [reading.score for reading in found]
    assert 1 <= len(found) <= beam
    assert scores == sorted(scores, reverse=True)
    for reading in found:
        assert len(reading.tokens) == len(reading.frames) == len(reading.confidences)
        assert all(0 < token < 5 for token in reading.tokens)
        assert all(0 <= frame < frames for frame in reading.frames)
        assert reading.frames == sorted(reading.frames)
        assert all(0.0 <= confidence <= 1.0 for confidence in reading.confidences)
        assert max(Counter(reading.frames).values(), default=0) <= max_symbols


def test_confidence_is_the_probability_of_the_token_among_the_tokens() -> None:
    model = Scripted([0.2, 0.6, 0.2])
    for searching in (GreedySearch(model, 1), BeamSearch(model, SearchConfig(2, 1))):
        best = run(searching, 1)[0]
        assert best.tokens == [1]
        assert best.confidences == [pytest.approx(0.6 / 0.8)]


def test_a_single_token_is_never_more_than_sure() -> None:
    for probability in np.linspace(0.001, 0.999, 300):
        model = Scripted([1 - probability, probability])
        confidences = [c for reading in run(BeamSearch(model, SearchConfig(2, 1)), 1) for c in reading.confidences]
        assert confidences == [pytest.approx(1.0, abs=1e-3)]
        assert confidences[0] <= 1.0


def test_a_frame_that_cannot_but_emit_gives_confidences_of_at_most_one() -> None:
    best = run(BeamSearch(Scripted([1e-9, 0.5, 0.5]), SearchConfig(2, 1)), 1)[0]
    assert best.confidences == [pytest.approx(0.5)]


def test_merged_readings_keep_the_likelier_time() -> None:
    late = Scripted([0.7, 0.3], [0.2, 0.8], words=1)
    early = Scripted([0.3, 0.7], [0.7, 0.3], words=1)
    for model, frame in ((late, 1), (early, 0)):
        reading = {tuple(r.tokens): r for r in run(BeamSearch(model, SearchConfig(8, 1)), 2)}[(1,)]
        assert reading.score == pytest.approx(math.log(0.7 * 0.8 + 0.3 if frame else 0.7 + 0.3 * 0.3), abs=1e-6)
        assert reading.frames == [frame]


def test_the_bonus_held_for_an_unfinished_phrase_does_not_count_at_the_end() -> None:
    pieces = Pieces(["<blk>", "▁new", "▁york", "▁newt"])
    model = Scripted([0.01, 0.44, 0.01, 0.54], words=1)  # "new", or a little rather "newt"
    searching = BeamSearch(model, SearchConfig(4, 1), bias=PhraseBias([("new york", 2.0)], pieces))
    found = run(searching, 1)
    assert searching.best().history.tokens() == [1]  # with york still to come
    assert [reading.tokens for reading in found[:2]] == [[3], [1]]
    assert found[1].score == pytest.approx(math.log(0.44), abs=1e-5)


# settings


def test_a_reading_worse_than_the_best_by_the_margin_is_dropped() -> None:
    for seed in range(10):
        model = Tables(3, seed)
        wide = run(BeamSearch(model, SearchConfig(EVERYTHING, 2, prune_margin=1e6)), 3)
        assert_equal_readings(wide, exhaustive(model, 3, 2))
        for margin in (0.0, 0.5, 3.0):
            narrow = run(BeamSearch(model, SearchConfig(EVERYTHING, 2, prune_margin=margin)), 3)
            assert all(narrow[0].score - reading.score <= margin for reading in narrow)
            assert len(narrow) < len(wide)


def test_a_margin_saves_joiner_calls() -> None:
    calls = []
    for margin in (math.inf, 2.0):
        searching = BeamSearch(Bigrams(6, blank_bonus=5.0), SearchConfig(8, prune_margin=margin))
        run(searching, 100)
        calls.append(searching.join_calls)
    assert calls[1] < 0.7 * calls[0]


def test_a_sure_blank_skips_the_other_hypotheses() -> None:
    model = Scripted([0.4, 0.3, 0.3], [0.96, 0.02, 0.02], [0.94, 0.03, 0.03])
    searching = BeamSearch(model, SearchConfig(4, 2, blank_skip=0.95))
    searching.advance(encoded(0))
    before, joins = searching.n_best(), searching.join_calls
    searching.advance(encoded(1))
    assert searching.join_calls == joins + 1  # the best alone was asked
    after = searching.n_best()
    assert [(r.tokens, r.frames) for r in after] == [(r.tokens, r.frames) for r in before]
    for old, new in zip(before, after, strict=True):
        assert new.score == pytest.approx(old.score + math.log(0.96), abs=1e-5)
    searching.advance(encoded(2))  # less sure than 0.95
    assert searching.join_calls > joins + 2
    assert searching.frame == 3


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 4.0))
def test_without_sure_blanks_skipping_changes_nothing(seed: int, blank: float) -> None:
    plain = run(BeamSearch(Tables(4, seed, blank), SearchConfig(3, 2)), 6)
    assert run(BeamSearch(Tables(4, seed, blank), SearchConfig(3, 2, blank_skip=1.0)), 6) == plain
    sure = max(math.exp(Tables(4, seed, blank).row(f + 1, ())[0]) for f in range(6))
    if sure < 0.9 and not any(r.tokens for r in plain):
        assert run(BeamSearch(Tables(4, seed, blank), SearchConfig(3, 2, blank_skip=0.9)), 6) == plain


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_greedy_results_survive_blank_skipping(seed: int) -> None:
    model = Tables(4, seed, blank_bonus=2.0)
    [greedy] = run(GreedySearch(model), 12)
    [found] = run(BeamSearch(model, SearchConfig(1, blank_skip=0.7)), 12)
    assert found == greedy


def test_the_language_model_decides_between_like_sounds_unless_its_weight_is_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, lm = Scripted([0.1, 0.46, 0.44], words=1), estimate([[2, 1], [2]], symbols=3, order=2)
    assert run(BeamSearch(model, SearchConfig(4, 1, lm_weight=0.5), lm), 1)[0].tokens == [2]
    without = run(BeamSearch(model, SearchConfig(4, 1)), 1)
    assert without[0].tokens == [1]
    monkeypatch.setattr(NgramLm, "scores", None)  # not even asked
    assert run(BeamSearch(model, SearchConfig(4, 1), lm), 1) == without


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam": 0}, {"max_symbols": 0}, {"prune_margin": -0.1}, {"prune_margin": math.nan}, {"blank_skip": 0.0},
        {"blank_skip": 1.1}, {"blank_skip": math.nan},
    ],
)  # fmt: skip
def test_settings_out_of_range_name_the_setting(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        SearchConfig(**wrong)  # type: ignore[arg-type]
