"""What the search promises about work and memory, and that it begins anew."""

from collections import Counter
from itertools import pairwise

import pytest

from ondevice import search
from ondevice.bias import PhraseBias
from ondevice.search import BeamSearch, Decoded, GreedySearch, SearchConfig
from ondevice.tokens import Pieces
from tests.ondevice.search_models import (
    Bigrams,
    Scripted,
    Tables,
    Tokens,
    encoded,
    little_lm,
    run,
)

# work and memory


def test_the_predictor_is_asked_once_for_each_history_in_use() -> None:
    model = Tables(5, seed=2, blank_bonus=1.0)
    searching = BeamSearch(model, SearchConfig(6, 2))
    run(searching, 150, model)
    last_use: dict[Tokens, int] = {}
    events = sorted([(frame, 0, h) for h, frame in model.joined] + [(frame, 1, h) for h, frame in model.predicted])
    predicted_before: set[Tokens] = set()
    again = 0
    for frame, is_predict, history in events:
        if not is_predict:
            last_use[history] = max(frame, last_use.get(history, 0))
            continue
        if history in predicted_before:
            again += 1
            used = max((f for h, f in model.joined if h == history and f < frame), default=0)
            assert frame - used >= search._SWEEP_FRAMES
        predicted_before.add(history)
    assert again < 0.1 * len(model.predicted)


def test_the_predictor_is_never_asked_twice_while_nothing_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_SWEEP_FRAMES", 10**9)
    model = Tables(5, seed=2, blank_bonus=1.0)
    run(BeamSearch(model, SearchConfig(6, 2)), 100)
    assert max(Counter(history for history, _ in model.predicted).values()) == 1


def test_counters_tell_the_calls_made_and_saved() -> None:
    for ilm_weight in (0.0, 0.5):
        model = Tables(5, seed=4, blank_bonus=1.0)
        searching = BeamSearch(model, SearchConfig(6, 2, ilm_weight=ilm_weight))
        run(searching, 40)
        searching.reset()
        run(searching, 40)
        assert searching.predict_calls == len(model.predicted)
        assert searching.join_calls == len(model.joined)
        # A history joined at a frame was predicted there or remembered; the roots of two utterances come on top.
        assert searching.predict_calls - 2 + searching.predict_saved == searching.join_calls - len(model.priors)
        assert len(model.priors) <= searching.predict_calls * bool(ilm_weight)  # asked once for each history


@pytest.mark.parametrize("fused", [False, True])
def test_forgetting_does_not_change_results(monkeypatch: pytest.MonkeyPatch, fused: bool) -> None:
    pieces = Pieces(["<blk>", "▁a", "b", "▁ab", "▁c"])
    found = []
    for sweep in (1, 3, 16, 10**9):
        monkeypatch.setattr(search, "_SWEEP_FRAMES", sweep)
        config = SearchConfig(5, 2, lm_weight=0.5 * fused, ilm_weight=0.2 * fused, length_bonus=0.3 * fused)
        bias = PhraseBias([("a ab", 2.0), ("c", 1.0)] if fused else [], pieces)
        found.append(run(BeamSearch(Tables(5, 7, blank_bonus=1.5), config, little_lm(5), bias), 120))
    assert len(found[0][0].tokens) > 20
    assert all(other == found[0] for other in found)


def test_memory_grows_with_the_words_but_not_with_the_time() -> None:
    searching = BeamSearch(Bigrams(6, blank_bonus=3.0), SearchConfig(4))
    most = holding = 0
    for frame in range(3000):
        searching.advance(encoded(frame))
        most = max(most, searching.remembered - len(searching.best().history.tokens()))
        if frame % 100 == 99:
            holding = max(holding, sum(h.predicted is not None for h in searching._remembered))
    assert len(searching.best().history.tokens()) > 400
    assert most < 300
    assert holding < 200  # what the models said is all but the token of a history


def test_an_hour_of_blanks_leaves_one_history() -> None:
    searching = BeamSearch(Scripted(*[[0.97, 0.02, 0.01]] * 5000), SearchConfig(4, prune_margin=3.0))
    run(searching, 5000)
    assert searching.n_best()[0].tokens == []
    assert searching.remembered < 50


def test_reset_begins_anew() -> None:
    searching = BeamSearch(Tables(5, 1), SearchConfig(4), little_lm(5))
    first = run(searching, 20)
    assert first[0].tokens
    searching.reset()
    assert searching.n_best() == [Decoded([], [], [], 0.0)]
    assert searching.remembered == 1
    assert run(searching, 20) == first


def test_frames_of_consecutive_tokens_count_from_the_reset() -> None:
    searching = GreedySearch(Scripted([0.1, 0.9], [0.9, 0.1], [0.1, 0.9]), max_symbols=1)
    for _ in range(2):
        [found] = run(searching, 3)
        assert found.frames == [0, 2]
        assert all(a <= b for a, b in pairwise(found.frames))
        searching.reset()
