"""How well a recogniser hears: word and character error rates on labelled recordings, with confidence intervals.

    utterances = ondevice.utterances.read_utterances(["corpus/manifest.jsonl"], split="test")
    report = evaluate(Recognizer.load("rnnt"), utterances)
    print(report.overall.wer, report.overall.wer_interval)

Any function from samples to text can stand in for the recogniser. Errors are counted by jiwer on normalised text
(`ondevice.normalize`) and pooled as NIST's sclite does: words heard where nobody speaks are insertions, and such
recordings add nothing to the number of reference words.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt

from ondevice.audio import RATE_HZ, Samples
from ondevice.errors import FailureError, InputError
from ondevice.normalize import english
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.utterances import Utterance

RESAMPLES = 1000  # of the bootstrap
MIN_SPEAKERS = 10  # with fewer, the spread between speakers says nothing and utterances are drawn instead

Recognize = Callable[[Samples], str]  # mono float32[n] in -1..1 -> what was said


class Transcriber:
    """A recogniser as a function from samples to text; sent to another process, it loads its model there."""

    def __init__(self, recognizer: Recognizer, chunk_ms: int | None = None) -> None:
        """`chunk_ms` feeds the audio in pieces of that length, as a microphone does; None: all at once."""
        self.recognizer, self.chunk_ms = recognizer, chunk_ms
        self.rate_hz = recognizer.rate_hz
        if chunk_ms is not None and chunk_ms < 1:
            raise InputError(f"chunk_ms {chunk_ms}: expected at least 1")

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_transcriber, (self.recognizer.manifest.directory, self.recognizer.config, self.chunk_ms)

    def __call__(self, samples: Samples) -> str:
        """The words of all utterances in float32[n] at `rate_hz`."""
        if self.chunk_ms is None:
            return " ".join(result.text for result in self.recognizer.transcribe(samples))
        stream, texts = self.recognizer.stream(), []
        step = max(1, self.rate_hz * self.chunk_ms // 1000)
        for start in range(0, len(samples), step):
            stream.accept(samples[start : start + step])
            while stream.result().endpoint:
                texts.append(stream.finish().text)
                stream.reset()
        texts.append(stream.finish().text)
        return " ".join(text for text in texts if text)


def _load_transcriber(model: Path, config: RecognizerConfig, chunk_ms: int | None) -> Transcriber:
    return Transcriber(Recognizer.load(model, config), chunk_ms)


@dataclass(frozen=True)
class Errors:
    """Errors against a reference, in words or characters."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference: int = 0  # words or characters there are

    def __add__(self, other: Errors) -> Errors:
        mine, theirs = vars(self), vars(other)
        return Errors(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def total(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per unit of reference; above 1 where much is made up; None without a reference."""
        return self.total / self.reference if self.reference else None


@dataclass(frozen=True)
class Score:
    """One utterance heard and compared."""

    utterance: Utterance
    reference: str  # normalised, as is the hypothesis
    hypothesis: str
    words: Errors
    characters: Errors
    audio_s: float
    processing_s: float  # recognition alone, without decoding the sound file


@dataclass(frozen=True)
class Failure:
    """One utterance that could not be decoded and is not scored."""

    utterance: Utterance
    message: str


@dataclass(frozen=True)
class Summary:
    """The scores of one corpus, or of all."""

    name: str
    utterances: int
    speakers: int  # known ones
    words: Errors
    characters: Errors
    wer_interval: tuple[float, float] | None  # 95 %, percentile bootstrap; None: fewer than two units to draw
    cer_interval: tuple[float, float] | None
    resampled: str  # "speakers", "utterances" or, over several corpora, "both"
    audio_s: float
    processing_s: float
    nonspeech: int  # recordings with an empty reference
    nonspeech_insertions: int  # words heard in them, also among the insertions of `words`

    @property
    def wer(self) -> float | None:
        """Word error rate; None if nobody speaks."""
        return self.words.rate

    @property
    def cer(self) -> float | None:
        """Character error rate, spaces between words counted; None if nobody speaks."""
        return self.characters.rate

    @property
    def rtf(self) -> float | None:
        """Real-time factor: seconds of processing per second of audio."""
        return self.processing_s / self.audio_s if self.audio_s else None


@dataclass(frozen=True)
class Report:
    """What `evaluate` found."""

    overall: Summary
    corpora: tuple[Summary, ...]
    scores: tuple[Score, ...]
    failures: tuple[Failure, ...]

    def worst(self, count: int) -> list[Score]:
        """The utterances with the most word errors, among equals the shorter reference first; none without errors."""
        wrong = [score for score in self.scores if score.words.total]
        return sorted(wrong, key=lambda score: (-score.words.total, score.words.reference))[:count]


def evaluate(
    recognizer: Recognizer | Recognize,
    utterances: Sequence[Utterance],
    *,
    normalize: Callable[[str], str] = english,
    chunk_ms: int | None = None,
    jobs: int = 1,
    seed: int = 0,
    on_outcome: Callable[[Score | Failure], object] | None = None,
) -> Report:
    """Recognise and score utterances; those that cannot be decoded become failures of the report.

    `recognizer` is a Recognizer, fed in pieces of `chunk_ms` if given, or any function of float32[n] samples at
    16 kHz (or its attribute `rate_hz`) that returns text. With several `jobs`, processes share the work: a function
    must then be picklable, and times include what the processes take from each other. `on_outcome` is called after
    every utterance, in order. The intervals depend on `seed` and the scores alone.
    """
    if jobs < 1:
        raise InputError(f"jobs {jobs}: expected at least 1")
    recognize = Transcriber(recognizer, chunk_ms) if isinstance(recognizer, Recognizer) else recognizer
    scores: list[Score] = []
    failures: list[Failure] = []
    for utterance, heard in zip(utterances, _hear_all(recognize, utterances, jobs), strict=True):
        outcome: Score | Failure
        if isinstance(heard, str):
            outcome = Failure(utterance, heard)
            failures.append(outcome)
        else:
            text, audio_s, processing_s = heard
            outcome = score(utterance, text, normalize, audio_s, processing_s)
            scores.append(outcome)
        if on_outcome:
            on_outcome(outcome)
    return summarize(scores, failures, seed)


_Heard = tuple[str, float, float]  # text, seconds of audio, seconds of processing


def _hear(recognize: Recognize, utterance: Utterance) -> _Heard | str:
    """What was heard, or the line that says why nothing was."""
    rate_hz: int = getattr(recognize, "rate_hz", RATE_HZ)
    try:
        samples = utterance.samples(rate_hz)
        begin = time.perf_counter()
        text = recognize(samples)
    except InputError as error:
        return str(error)
    return text, len(samples) / rate_hz, time.perf_counter() - begin


def _hear_all(recognize: Recognize, utterances: Sequence[Utterance], jobs: int) -> Iterator[_Heard | str]:
    if jobs == 1:
        yield from (_hear(recognize, utterance) for utterance in utterances)
        return
    # A fresh interpreter for each: a fork would inherit the locks of the model's threads.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(jobs, context, _start_worker, (recognize,)) as pool:
            yield from pool.map(_hear_in_worker, utterances)
    except BrokenProcessPool:
        raise FailureError("a worker process ended too early (out of memory?); try fewer --jobs") from None


_worker_recognize: Recognize


def _start_worker(recognize: Recognize) -> None:
    global _worker_recognize
    _worker_recognize = recognize
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _hear_in_worker(utterance: Utterance) -> _Heard | str:
    return _hear(_worker_recognize, utterance)


def score(
    utterance: Utterance,
    heard: str,
    normalize: Callable[[str], str] = english,
    audio_s: float = 0.0,
    processing_s: float = 0.0,
) -> Score:
    """Compare what was heard in an utterance with its text, both normalised."""
    reference, hypothesis = normalize(utterance.text), normalize(heard)
    if reference:
        words, characters = (
            Errors(out.substitutions, out.deletions, out.insertions, out.hits + out.substitutions + out.deletions)
            for out in (jiwer.process_words(reference, hypothesis), jiwer.process_characters(reference, hypothesis))
        )
    else:  # jiwer 3 refuses these
        words, characters = Errors(insertions=len(hypothesis.split())), Errors(insertions=len(hypothesis))
    return Score(utterance, reference, hypothesis, words, characters, audio_s, processing_s)


def aligned(score: Score) -> list[tuple[str, str]]:
    """Pairs of words (reference, hypothesis) as sclite shows them: errors in capitals, *** where a word is missing."""
    reference, hypothesis = score.reference.split(), score.hypothesis.split()
    if not reference:
        return [("*" * len(word), word.upper()) for word in hypothesis]
    pairs: list[tuple[str, str]] = []
    for part in jiwer.process_words(score.reference, score.hypothesis).alignments[0]:
        there = reference[part.ref_start_idx : part.ref_end_idx]
        heard = hypothesis[part.hyp_start_idx : part.hyp_end_idx]
        if part.type == "equal":
            pairs += zip(there, heard, strict=True)
        elif part.type == "substitute":
            pairs += [(one.upper(), other.upper()) for one, other in zip(there, heard, strict=True)]
        else:
            pairs += [(word.upper(), "*" * len(word)) for word in there]
            pairs += [("*" * len(word), word.upper()) for word in heard]
    return pairs


def summarize(scores: Iterable[Score], failures: Iterable[Failure] = (), seed: int = 0) -> Report:
    """The report on scored utterances, corpus by corpus in their order and over all of them."""
    scores = tuple(scores)
    by_corpus: dict[str, list[Score]] = {}
    for one in scores:
        by_corpus.setdefault(one.utterance.corpus, []).append(one)
    replicates, corpora = np.zeros((RESAMPLES, 4), np.int64), []
    for name, its_scores in by_corpus.items():
        units, resampled = _units(its_scores)
        drawn = _resample(units, [seed, zlib.crc32(name.encode("utf-8", "replace"))])
        replicates += drawn
        corpora.append(_summary(name, its_scores, drawn if len(units) > 1 else None, resampled))
    kinds = {corpus.resampled for corpus in corpora}
    # Drawing within each corpus: how many recordings each of them has is a choice, not chance.
    overall = _summary(
        "overall", scores, replicates if len(scores) > 1 else None, kinds.pop() if len(kinds) == 1 else "both"
    )
    return Report(overall, tuple(corpora), scores, tuple(failures))


def _units(scores: Sequence[Score]) -> tuple[npt.NDArray[np.int64], str]:
    """What the bootstrap draws [n, 4]: word errors, words, character errors, characters; and what a unit is.

    Errors of one speaker go together, so speakers are drawn (Liu and Peng 2020, arXiv 1912.09508) where they are
    known and not too few, else utterances (Bisani and Ney 2004).
    """
    speakers = {one.utterance.speaker for one in scores}
    by_speaker = None not in speakers and len(speakers) >= MIN_SPEAKERS
    units: dict[str | int | None, npt.NDArray[np.int64]] = {}
    for number, one in enumerate(scores):
        key = one.utterance.speaker if by_speaker else number
        counts = (one.words.total, one.words.reference, one.characters.total, one.characters.reference)
        units[key] = units.get(key, np.zeros(4, np.int64)) + np.array(counts)
    return np.array(list(units.values())), "speakers" if by_speaker else "utterances"


def _resample(units: npt.NDArray[np.int64], seed: Sequence[int]) -> npt.NDArray[np.int64]:
    """Sums [RESAMPLES, 4] over as many units as there are, drawn with replacement."""
    generator, count = np.random.default_rng(seed), len(units)
    sums = [np.bincount(generator.integers(count, size=count), minlength=count) @ units for _ in range(RESAMPLES)]
    return np.array(sums, np.int64)


def _interval(errors: npt.NDArray[np.int64], reference: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    some = reference > 0
    if not some.any():
        return None
    low, high = np.percentile(errors[some] / reference[some], (2.5, 97.5))
    return float(low), float(high)


def _summary(name: str, scores: Sequence[Score], drawn: npt.NDArray[np.int64] | None, resampled: str) -> Summary:
    nonspeech = [one for one in scores if not one.reference]
    return Summary(
        name=name,
        utterances=len(scores),
        speakers=len({(one.utterance.corpus, one.utterance.speaker) for one in scores if one.utterance.speaker}),
        words=sum((one.words for one in scores), Errors()),
        characters=sum((one.characters for one in scores), Errors()),
        wer_interval=None if drawn is None else _interval(drawn[:, 0], drawn[:, 1]),
        cer_interval=None if drawn is None else _interval(drawn[:, 2], drawn[:, 3]),
        resampled=resampled,
        audio_s=math.fsum(one.audio_s for one in scores),
        processing_s=math.fsum(one.processing_s for one in scores),
        nonspeech=len(nonspeech),
        nonspeech_insertions=sum(one.words.insertions for one in nonspeech),
    )
