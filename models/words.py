"""Language models over words that score word pieces: which words are known, how they follow each other, and how an
unknown one may be spelt.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from models.ngram import estimate
from ondevice.errors import InputError
from ondevice.tokens import Pieces
from ondevice.wordlm import BOS, FIRST_WORD, LONGEST_WORD, UNKNOWN_WORD, WordLm

MOST_WORDS = 2**16 - FIRST_WORD  # the tables hold 16-bit ids
SPELLING_ORDER = 4


def estimate_words(
    sentences: Iterable[str],
    pieces: Pieces,
    encode: Callable[[str], Sequence[int]],
    *,
    most_words: int = MOST_WORDS,
    min_count: int = 2,
    order: int = 3,
    min_counts: Sequence[int] = (),
    min_gain: float = 0.0,
) -> WordLm:
    """Train a model of `order` words on normalised sentences; `encode` gives the pieces of a text.

    The `most_words` commonest words that occur at least `min_count` times are known. How words are spelt is learnt from
    all the different words, as a new one resembles rare words more than common ones. `min_counts` and `min_gain` make
    the n-grams fewer, as in `models.ngram.estimate`.
    """
    text = [sentence.split() for sentence in sentences]
    counts = Counter(word for sentence in text for word in sentence if len(word) <= LONGEST_WORD)
    common = [w for w, n in counts.most_common(min(most_words, MOST_WORDS)) if n >= min_count]
    if not common:
        raise InputError(f"word model: no word occurs {min_count} times; expected more text")
    known = sorted(common)
    ids = {word: i for i, word in enumerate(known, start=FIRST_WORD)}
    sequences = [np.array([ids.get(word, UNKNOWN_WORD) for word in sentence], np.int64) for sentence in text]
    ngrams = estimate(sequences, len(known) + FIRST_WORD, order, min_counts=min_counts, min_gain=min_gain, bos=BOS)
    spelt = ([*encode(word), len(pieces)] for word in sorted(counts))
    spelling = estimate(spelt, len(pieces) + 1, SPELLING_ORDER, min_counts=(1, 1, 2), bos=pieces.blank)
    return WordLm(known, ngrams, spelling, pieces)
