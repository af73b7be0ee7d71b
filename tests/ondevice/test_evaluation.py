"""Error rates known by hand, their intervals, and recordings scored."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import InputError
from ondevice.evaluation import (
    Errors,
    Score,
    Transcriber,
    aligned,
    evaluate,
    score,
    summarize,
)
from ondevice.normalize import basic, none
from ondevice.recognizer import Recognizer
from ondevice.utterances import Utterance, read_utterances
from tests.ondevice.manifests import FINE, RATE_HZ, sound, write_manifest


class Parrot:
    """Says the text that belongs to a number of milliseconds; other lengths are silence."""

    def __init__(self, said: dict[int, str]) -> None:
        self.said = said

    def __call__(self, samples: np.ndarray) -> str:
        assert samples.dtype == np.float32
        return self.said.get(len(samples) * 1000 // RATE_HZ, "")


def spoken(text: str, heard: str, corpus: str = "corpus", speaker: str | None = None) -> Score:
    return score(Utterance("a.wav", Path("a.wav"), text, corpus, speaker=speaker), heard, audio_s=2.0, processing_s=0.5)


def test_errors_counted_by_hand() -> None:
    one = spoken("The cat sat on the mat.", "the the cat sit on mat")
    assert one.words == Errors(substitutions=1, deletions=1, insertions=1, reference=6)
    assert one.words.rate == 0.5
    letters = spoken("abc", "axcd")
    assert letters.characters == Errors(substitutions=1, deletions=0, insertions=1, reference=3)
    assert letters.words == Errors(substitutions=1, reference=1)
    assert spoken("a b", "a b").characters.reference == 3  # the space counts
    assert spoken("two words", "").words == Errors(deletions=2, reference=2)


def test_numbers_and_case_are_no_errors_unless_they_are_asked_for() -> None:
    utterance = Utterance("a.wav", Path("a.wav"), "Mr. Bell has 2 cats", "corpus")
    assert score(utterance, "mister bell has two cats").words.total == 0
    assert score(utterance, "mister bell has two cats", basic).words.total == 2
    assert score(utterance, "mister bell has two cats", none).words.total == 3


def test_rates_are_pooled_not_averaged() -> None:
    report = summarize([spoken("one", "won"), spoken("a b c d e f g h i", "a b c d e f g h i")])
    assert report.overall.wer == 0.1
    assert report.overall.audio_s == 4.0
    assert report.overall.rtf == 0.25


def test_words_where_nobody_speaks_are_insertions_and_no_reference() -> None:
    silent = [spoken("", "oh no"), spoken("...", "")]
    report = summarize([spoken("four words are here", "four words are here"), *silent])
    assert report.overall.words == Errors(insertions=2, reference=4)
    assert report.overall.wer == 0.5
    assert (report.overall.nonspeech, report.overall.nonspeech_insertions) == (2, 2)
    alone = summarize(silent).overall
    assert (alone.wer, alone.cer, alone.wer_interval) == (None, None, None)
    assert alone.words.insertions == 2


_WORDS = st.lists(st.sampled_from(["a", "bc", "d"]), max_size=8).map(" ".join)


@given(_WORDS, _WORDS)
def test_errors_balance_and_the_alignment_shows_them(text: str, heard: str) -> None:
    one = spoken(text, heard)
    assert one.words.reference == len(text.split())
    assert one.words.insertions - one.words.deletions == len(heard.split()) - len(text.split())
    assert (one.words.total == 0) == (text == heard)
    pairs = aligned(one)
    assert [word.lower() for word, _ in pairs if "*" not in word] == text.split()
    assert [word.lower() for _, word in pairs if "*" not in word] == heard.split()
    assert sum(word != word.lower() or "*" in word for word, _ in pairs) == one.words.total


def many(speakers: int | None, corpus: str = "corpus") -> list[Score]:
    """500 utterances of two words; every second speaker is understood not at all."""
    return [
        spoken("good day", "" if i % 2 else "good day", corpus, f"s{i % speakers}" if speakers else None)
        for i in range(500)
    ]  # fmt: skip


def test_interval_over_utterances_is_the_binomial_one() -> None:
    corpus = summarize(many(None)).corpora[0]
    assert corpus.resampled == "utterances"
    assert corpus.wer_interval is not None
    spread = 1.96 * (0.5 * 0.5 / 500) ** 0.5
    assert corpus.wer_interval == pytest.approx((0.5 - spread, 0.5 + spread), abs=0.01)


def test_interval_over_speakers_is_wider_where_speakers_differ() -> None:
    corpus = summarize(many(20)).corpora[0]
    assert (corpus.resampled, corpus.speakers) == ("speakers", 20)
    assert corpus.wer_interval is not None
    spread = 1.96 * (0.5 * 0.5 / 20) ** 0.5
    assert corpus.wer_interval == pytest.approx((0.5 - spread, 0.5 + spread), abs=0.06)
    assert summarize(many(8)).corpora[0].resampled == "utterances"  # too few to draw from
    half_known = [*many(20), spoken("a", "b")]
    assert summarize(half_known).corpora[0].resampled == "utterances"


def test_intervals_follow_from_the_seed_and_the_corpus_alone() -> None:
    first, other = many(None, "first"), [spoken("yes", "no", "other"), spoken("no", "no", "other")]
    alone, both = summarize(first), summarize([*other, *first])
    assert [corpus.name for corpus in both.corpora] == ["other", "first"]
    assert both.corpora[1] == alone.corpora[0]
    assert summarize([*other, *first]) == both
    assert summarize(first, seed=1).corpora[0].wer_interval != alone.corpora[0].wer_interval
    assert both.overall.wer_interval is not None
    assert both.overall.wer_interval[0] < 0.5 < both.overall.wer_interval[1]


def test_one_utterance_has_no_interval_and_a_perfect_corpus_one_of_zero() -> None:
    assert summarize([spoken("a", "b")]).overall.wer_interval is None
    assert summarize([spoken("a", "a"), spoken("b", "b")]).overall.wer_interval == (0.0, 0.0)
    assert summarize([]).overall.wer is None


def test_what_cannot_be_decoded_is_a_failure_and_the_rest_is_scored(tmp_path: Path) -> None:
    rows = [{"file": "bad.wav", "text": "x"}, FINE, {"file": "cut.opus", "tar": "shard.tar", "text": "y"}]
    manifest = write_manifest(tmp_path, rows)
    (tmp_path / "bad.wav").write_bytes(b"RIFF and nothing else")
    (tmp_path / "cut.opus").write_bytes(sound(500, "OGG", "OPUS")[:-100])
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(tmp_path / "cut.opus", "cut.opus")
    seen: list[object] = []
    report = evaluate(Parrot({100: "fine"}), read_utterances([manifest]), on_outcome=seen.append)
    assert [type(outcome).__name__ for outcome in seen] == ["Failure", "Score", "Failure"]
    assert report.overall.words == Errors(reference=1)
    assert "bad.wav" in report.failures[0].message
    assert report.failures[1].message.startswith(f"{tmp_path / 'shard.tar'}:cut.opus is cut short")


def test_the_worst_come_first_and_those_without_errors_never(tmp_path: Path) -> None:
    texts = ["all right", "one wrong", "both wrong here", "both wrong"]
    rows = [{"file": f"{100 * n}.wav", "text": text} for n, text in enumerate(texts, start=1)]
    said = {100: "all right", 200: "one right", 300: "x y here", 400: ""}
    report = evaluate(Parrot(said), read_utterances([write_manifest(tmp_path, rows)]))
    assert [one.reference for one in report.worst(9)] == ["both wrong", "both wrong here", "one wrong"]
    assert [one.hypothesis for one in report.worst(1)] == [""]
    assert report.scores[0].audio_s == 0.1
    assert 0 < report.overall.processing_s < 1


def test_processes_side_by_side_find_the_same(tmp_path: Path) -> None:
    rows = [{"file": f"{100 * n}.wav", "text": "good morning"} for n in range(1, 6)]
    utterances = read_utterances([write_manifest(tmp_path, rows)])
    (tmp_path / "300.wav").write_bytes(b"")
    parrot = Parrot({100: "good morning", 200: "good evening"})
    alone, together = evaluate(parrot, utterances), evaluate(parrot, utterances, jobs=2)
    assert [one.hypothesis for one in together.scores] == [one.hypothesis for one in alone.scores]
    assert together.failures == alone.failures
    assert together.overall.words == alone.overall.words == Errors(1, 4, 0, 8)
    with pytest.raises(InputError, match="jobs 0"):
        evaluate(parrot, utterances, jobs=0)


def test_a_recogniser_hears_the_same_in_pieces_and_in_another_process(toy_asset: Path) -> None:
    samples = np.random.default_rng(5).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    recognizer = Recognizer.load(toy_asset)
    whole = Transcriber(recognizer)(samples)
    assert whole
    pieces = Transcriber(recognizer, chunk_ms=70)
    assert pieces(samples) == whole
    copy = pickle.loads(pickle.dumps(pieces))
    assert copy.chunk_ms == 70
    assert copy(samples) == whole
    with pytest.raises(InputError, match="chunk_ms 0"):
        Transcriber(recognizer, chunk_ms=0)


def test_manifests_of_one_name_stay_apart(tmp_path: Path) -> None:
    rows = [{"file": "100.wav", "text": "a"}]
    one, two = write_manifest(tmp_path / "x", rows, "test.jsonl"), write_manifest(tmp_path / "y", rows, "test.jsonl")
    report = evaluate(Parrot({100: "a"}), read_utterances([one, two]))
    assert [corpus.name for corpus in report.corpora] == ["test", str(two)]
