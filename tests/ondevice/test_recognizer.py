"""The four verbs of a stream, on a tiny model: the same to the bit however the audio comes."""

import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.assets import load_manifest
from ondevice.errors import InputError
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.results import Result
from tests.ondevice.hearing import AUDIO, HASTY, OFF, RATE_HZ, STEP_S, chunks, hear, recording

# any chunking


def test_the_recording_holds_words_and_endpoints(toy: Recognizer) -> None:
    results = hear(toy.stream(), [AUDIO])
    assert sum(result.endpoint for result in results) >= 3
    assert sum(bool(result.text) for result in results) >= 3
    assert not results[-1].endpoint


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([0, 1, 2, 159, 160, 959, 960, 961, 1200]) | st.integers(0, 20_000), max_size=40))
def test_any_chunking_gives_the_same_results_to_the_bit(toy: Recognizer, greedy: Recognizer, sizes: list[int]) -> None:
    for recognizer in (toy, greedy):
        whole = hear(recognizer.stream(), [AUDIO])
        assert hear(recognizer.stream(), chunks(AUDIO, sizes)) == whole


def test_sample_by_sample_equals_all_at_once(toy: Recognizer) -> None:
    samples = AUDIO[:4000]
    assert hear(toy.stream(), np.split(samples, len(samples))) == hear(toy.stream(), [samples])


def test_any_chunking_holds_with_language_model_and_bias(with_lm: Path) -> None:
    config = RecognizerConfig(bias=(("the tone", 2.0), ("no", 1.0)), endpoint=HASTY, n_best=4)
    recognizer = Recognizer.load(with_lm, config)
    whole = hear(recognizer.stream(), [AUDIO])
    for size in (1, 77, 960, 5000):
        if size == 1:
            assert hear(recognizer.stream(), np.split(AUDIO[:3000], 3000)) == hear(recognizer.stream(), [AUDIO[:3000]])
        else:
            assert hear(recognizer.stream(), chunks(AUDIO, [size] * (len(AUDIO) // size))) == whole


def test_partial_results_are_the_same_at_the_same_place(toy: Recognizer) -> None:
    steady, bursty = toy.stream(), toy.stream()
    for start in range(0, 16_000, 2000):
        for tenth in np.split(AUDIO[start : start + 2000], 10):
            steady.accept(tenth)
            steady.result()
        bursty.accept(AUDIO[start : start + 2000])
        assert steady.result() == bursty.result()


def test_transcribe_gives_the_utterances_with_words(toy: Recognizer) -> None:
    expected = [result for result in hear(toy.stream(), [AUDIO]) if result.text]
    assert toy.transcribe(AUDIO) == expected
    assert toy.transcribe(AUDIO) == expected  # nothing stays behind in the recogniser


# the verbs


def test_what_lies_behind_an_endpoint_waits_for_reset(toy: Recognizer) -> None:
    stream = toy.stream()
    stream.accept(AUDIO)
    first = stream.result()
    assert first.endpoint
    assert first.end_s < 1.5
    stream.accept(AUDIO[:0])
    assert stream.result() == first
    done = stream.finish()
    assert (done.endpoint, done.start_s, done.end_s) == (True, 0.0, first.end_s)
    stream.reset()
    second = stream.result()
    assert second.start_s == first.end_s  # heard without any more audio
    assert second.end_s > second.start_s


def test_utterances_follow_one_another_without_gaps(toy: Recognizer) -> None:
    results = hear(toy.stream(), chunks(AUDIO, [700] * 50))
    assert results[0].start_s == 0.0
    assert all(before.end_s == after.start_s for before, after in pairwise(results))
    assert results[-1].end_s == pytest.approx(len(AUDIO) / RATE_HZ, abs=STEP_S)


def test_reset_without_finish_goes_on_just_the_same(toy: Recognizer) -> None:
    stream, results = toy.stream(), []
    stream.accept(AUDIO)
    while (result := stream.result()).endpoint:
        results.append(result)
        stream.reset()
    expected = hear(toy.stream(), [AUDIO])
    assert [(r.start_s, r.end_s) for r in results] == [(r.start_s, r.end_s) for r in expected[:-1]]
    assert stream.finish() == expected[-1]


def test_reset_in_the_middle_drops_what_was_heard(patient: Recognizer) -> None:
    stream = patient.stream()
    stream.accept(AUDIO[:16_000])
    assert stream.result().text
    stream.reset()
    dropped = stream.result()
    assert (dropped.text, dropped.words, dropped.start_s) == ("", (), dropped.end_s)


def test_finish_twice_is_the_same(toy: Recognizer) -> None:
    for samples in (AUDIO[:8000], AUDIO):  # without and with an endpoint
        stream = toy.stream()
        stream.accept(samples)
        assert stream.finish() == stream.finish()


def test_a_finished_stream_takes_no_more_audio_until_reset(toy: Recognizer) -> None:
    stream = toy.stream()
    stream.accept(AUDIO[:8000])
    done = stream.finish()
    with pytest.raises(InputError, match=r"finished; reset\(\)"):
        stream.accept(AUDIO[8000:])
    assert stream.finish() == done
    stream.reset()
    stream.accept(AUDIO[8000:])
    assert stream.result().end_s > done.end_s


def test_the_next_utterance_remembers_nothing_but_the_time(patient: Recognizer) -> None:
    stream = patient.stream()
    stream.accept(recording(1.5, seed=5))
    before = stream.finish()
    stream.reset()
    stream.accept(AUDIO)
    after, [fresh] = stream.finish(), hear(patient.stream(), [AUDIO])
    assert after.start_s == before.end_s
    assert after.text == fresh.text != ""
    assert (after.confidence, after.n_best) == (fresh.confidence, fresh.n_best)
    for word, other in zip(after.words, fresh.words, strict=True):
        assert word.start_s - before.end_s == pytest.approx(other.start_s, abs=0.0011)
        assert word.end_s - before.end_s == pytest.approx(other.end_s, abs=0.0011)


def test_the_last_words_are_heard_although_the_audio_stops(patient: Recognizer) -> None:
    more = 0
    for end in range(960, 16_000, 960):
        stream = patient.stream()
        stream.accept(AUDIO[:end])
        partial, whole = stream.result(), stream.finish()
        more += len(whole.text) > len(partial.text)
        assert whole.end_s - partial.end_s == pytest.approx(STEP_S)
    assert more > 3


def test_finishing_one_stream_leaves_another_alone(patient: Recognizer) -> None:
    stream, other = patient.stream(), patient.stream()
    for samples in chunks(AUDIO, [5000] * 10):
        stream.accept(samples)
        before = stream.result()
        other.accept(samples)
        other.finish()
        other.reset()
        assert stream.result() == before


# what a result holds


@pytest.mark.parametrize("name", ["toy", "greedy", "patient"])
def test_words_lie_in_order_within_their_utterance(name: str, request: pytest.FixtureRequest) -> None:
    for result in hear(request.getfixturevalue(name).stream(), [AUDIO]):
        assert result.text == " ".join(word.text for word in result.words) == result.n_best[0].text
        times = [result.start_s, *(t for word in result.words for t in (word.start_s, word.end_s)), result.end_s]
        assert times == sorted(times)
        assert all(0.0 <= word.confidence <= 1.0 for word in result.words)
        assert all(word.text and " " not in word.text for word in result.words)
        if result.words:
            assert result.confidence == pytest.approx(np.mean([word.confidence for word in result.words]))
        else:
            assert (result.text, result.confidence) == ("", 0.0)


def test_words_are_earlier_by_the_delay_the_manifest_gives(toy_asset: Path, patient: Recognizer) -> None:
    manifest = load_manifest(toy_asset)
    late = Recognizer(replace(manifest, search={**manifest.search, "emission_delay_s": 0.12}), patient.config)
    [plain], [shifted] = (hear(r.stream(), [AUDIO]) for r in (patient, late))
    assert plain.text == shifted.text
    for word, moved in zip(plain.words, shifted.words, strict=True):
        if word.start_s > 0.3 and word.end_s < 3.9:
            assert word.end_s - moved.end_s == pytest.approx(0.12, abs=0.0011)


def test_n_best_is_sorted_and_no_longer_than_asked(toy_asset: Path) -> None:
    for n_best in (1, 3, 50):
        recognizer = Recognizer.load(toy_asset, RecognizerConfig(n_best=n_best, beam=8, endpoint=OFF))
        stream = recognizer.stream()
        stream.accept(AUDIO)
        assert len(stream.result().n_best) == 1
        found = stream.finish().n_best
        assert 1 <= len(found) <= min(n_best, 8)
        assert [a.score for a in found] == sorted((a.score for a in found), reverse=True)
        assert found[0].text == stream.finish().text


def test_no_audio_gives_no_words(toy: Recognizer, greedy: Recognizer) -> None:
    for recognizer in (toy, greedy):
        for pieces in ([], [AUDIO[:0]], [AUDIO[:1]], [AUDIO[:1199]]):
            [result] = hear(recognizer.stream(), pieces)
            assert not result.endpoint
            if not pieces or not len(pieces[0]):
                assert (result.text, result.words, result.confidence) == ("", (), 0.0)
            assert result.start_s == 0.0
            assert result.end_s == round(sum(map(len, pieces)) / RATE_HZ, 3)
    assert toy.transcribe(np.zeros(0, np.float32)) == []


def test_digital_silence_gives_no_words_and_begins_anew_again_and_again(toy_asset: Path) -> None:
    recognizer = Recognizer.load(toy_asset)
    silence = np.zeros(21 * RATE_HZ, np.int16)
    results = hear(recognizer.stream(), [silence])
    assert [result.text for result in results] == [""] * 5
    assert [result.endpoint for result in results] == [True] * 4 + [False]
    assert recognizer.transcribe(silence) == []


# what goes in


def test_integers_and_channels_equal_floats(toy: Recognizer) -> None:
    int16 = (AUDIO * 20_000).astype(np.int16)
    floats = int16.astype(np.float32) / 32_768
    expected = hear(toy.stream(), [floats])
    assert any(result.text for result in expected)
    for samples in (
        int16, floats.astype(np.float64), int16.astype(np.int32) << 16, np.stack([int16, int16], 1), floats[:, None],
        np.stack([floats] * 3, 1)[:, 1], floats[::-1][::-1],
    ):  # fmt: skip
        assert hear(toy.stream(), chunks(samples, [333, 5000])) == expected


WRONG: list[Any] = [
    np.zeros((2, 2, 2), np.float32), np.float32(0.5), np.zeros((5, 0), np.float32), np.zeros(5, np.int64),
    np.zeros(5, bool), np.zeros(5, complex), np.zeros(5, np.uint8), np.array(["a"]), np.array([None]), None, "abc",
    np.array([0, np.nan], np.float32), np.array([np.inf], np.float32), np.array([0.1, -np.inf]),
    np.array([[0, np.nan]], np.float16), np.array([1000.0], np.float32),
]  # fmt: skip


def test_wrong_samples_are_refused_and_leave_the_stream_as_it_was(toy: Recognizer) -> None:
    stream, results = toy.stream(), []
    for piece in chunks(AUDIO, [3000] * 25):
        for wrong in WRONG:
            with pytest.raises(InputError, match="samples"):
                stream.accept(wrong)
        stream.accept(piece)
        while stream.result().endpoint:
            results.append(stream.finish())
            stream.reset()
    assert [*results, stream.finish()] == hear(toy.stream(), [AUDIO])


def test_the_caller_may_reuse_its_buffer(toy: Recognizer) -> None:
    stream, buffer, results = toy.stream(), np.empty(500, np.float32), []
    for start in range(0, len(AUDIO), 500):
        piece = AUDIO[start : start + 500]
        buffer[: len(piece)] = piece
        stream.accept(buffer[: len(piece)])
        buffer.fill(0.9)
        while stream.result().endpoint:
            results.append(stream.finish())
            stream.reset()
    assert [*results, stream.finish()] == hear(toy.stream(), [AUDIO])


# several streams


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6000)), max_size=30))
def test_interleaved_streams_equal_separate_ones(toy: Recognizer, turns: list[tuple[bool, int]]) -> None:
    sources = [AUDIO, recording(3.5, seed=9)]
    streams, places = [toy.stream(), toy.stream()], [0, 0]
    results: list[list[Result]] = [[], []]

    def advance(which: int, size: int) -> None:
        stream = streams[which]
        stream.accept(sources[which][places[which] : places[which] + size])
        places[which] += size
        while stream.result().endpoint:
            results[which].append(stream.finish())
            stream.reset()

    for second, size in turns:
        advance(int(second), size)
    for which in (1, 0):
        advance(which, 10**6)
        results[which].append(streams[which].finish())
        assert results[which] == hear(toy.stream(), [sources[which]])


def test_threads_with_a_stream_each_hear_what_one_alone_hears(with_lm: Path) -> None:
    config = RecognizerConfig(bias=(("the tone", 2.0), ("no no", 1.0)), endpoint=HASTY)
    sources = [recording(4.0, seed=seed) for seed in range(4)]
    alone = Recognizer.load(with_lm, config)
    expected = [hear(alone.stream(), [samples]) for samples in sources]
    shared, found = Recognizer.load(with_lm, config), [[]] * len(sources)  # type: list[list[Result]]

    def work(number: int) -> None:
        found[number] = hear(shared.stream(), chunks(sources[number], [800] * 100))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
