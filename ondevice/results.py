"""What a recogniser hears, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word with its place in the audio."""

    text: str
    start_s: float  # from the beginning of the stream
    end_s: float
    confidence: float  # 0..1


@dataclass(frozen=True)
class Alternative:
    """One of the n best readings of an utterance."""

    text: str
    score: float  # natural log, not normalised: comparable within one result only


@dataclass(frozen=True)
class Result:
    """One utterance: what was heard so far (partial) or altogether."""

    text: str
    words: tuple[Word, ...]
    confidence: float  # 0..1, mean over the words; 0 without words
    n_best: tuple[Alternative, ...]  # best first; the best alone in a partial result
    start_s: float  # where the utterance begins in the stream
    end_s: float  # how far it was heard
    endpoint: bool  # the speaker has stopped: `finish` and `reset`, then go on with the next utterance
