"""N-gram models over token ids: interpolated modified Kneser-Ney (Chen and Goodman 1998, section 3).

Everything is whole-array NumPy: n-grams of length k are numbered by sorting (number of their first k - 1 tokens,
last token), which keeps keys small at any order and leaves them in the order the runtime's tables need.

Legend: `P` positions of the text, `G` different n-grams of one length, `V` tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.lm import NgramLm, Table
from ondevice.search import LanguageModel

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # where the text is too small or too regular for the estimate


@dataclass(frozen=True)
class _Grams:
    """All n-grams of one length, numbered in lexicographic order."""

    prefix: Ints  # [G] number of the n-gram without its last token
    last: Ints  # [G] last token
    count: Ints  # [G] occurrences
    place: Ints  # [G] a position where it begins
    at: npt.NDArray[np.int32]  # [P] number of the n-gram that begins at a position; -1 where none fits


def estimate(
    sequences: Iterable[Sequence[int] | Ints],
    symbols: int,
    order: int,
    *,
    min_counts: Sequence[int] = (),
    min_gain: float = 0.0,
    bos: int = 0,
) -> NgramLm:
    """Train a model of `order` on token sequences (sentences); probabilities float32 in natural log.

    symbols     V; the ids are 0 to V - 1, and `bos` (which must not occur in a sequence) is never predicted
    min_counts  occurrences an n-gram of length 1, 2, ... needs to be kept; the last one holds for longer
    min_gain    drop n-grams whose count times log-probability gain over backing off is less (Seymore and
                Rosenfeld 1996): the knob that makes a model small
    """
    text = _concatenate(sequences, symbols, bos)
    if order < 1:
        raise InputError(f"order must be at least 1, got {order}")
    grams = _count(text, symbols, order, bos)
    adjusted = [_adjusted_counts(grams, k, bos) for k in range(len(grams))]
    probabilities = _unigrams(adjusted[0], symbols, bos)
    with np.errstate(divide="ignore"):
        unigrams = np.log(probabilities).astype(np.float32)
    tables: list[Table] = []
    packed = np.arange(symbols, dtype=np.uint64)  # of the n-grams one shorter
    for k in range(1, len(grams)):
        need = min_counts[min(k, len(min_counts) - 1)] if min_counts else 1
        probabilities, backoffs, kept = _interpolate(grams, adjusted[k], k, probabilities, need, min_gain)
        tables.append(_table(grams[k], probabilities, backoffs, kept, packed))
        packed = packed[grams[k].prefix] * np.uint64(symbols) + grams[k].last.astype(np.uint64)
    return NgramLm(unigrams, tables, bos)


def perplexity(lm: LanguageModel, sequences: Iterable[Sequence[int]]) -> float:
    """exp of the mean negative log probability per token, each sequence from the beginning of a sentence to its end."""
    total, count = 0.0, 0
    for sequence in sequences:
        state = lm.initial_state()
        for token in sequence:
            total -= float(lm.scores(state)[token])
            state = lm.advance(state, int(token))
            count += 1
        total -= lm.final(state)
    if count == 0:
        raise InputError("perplexity: expected at least one token")
    return float(np.exp(total / count))


def _concatenate(sequences: Iterable[Sequence[int] | Ints], symbols: int, bos: int) -> Ints:
    """Every sentence with `bos` in front, one after another: [P]."""
    parts: list[Ints] = []
    start = np.array([bos], np.int64)
    for sequence in sequences:
        parts += [start, np.asarray(sequence, np.int64)]
    text = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    if len(text) == len(parts) // 2:
        raise InputError("n-gram model: expected at least one token of text")
    if text.min() < 0 or text.max() >= symbols or np.count_nonzero(text == bos) != len(parts) // 2:
        raise InputError(f"n-gram model: tokens must be 0 to {symbols - 1} and other than {bos} (beginning)")
    return text


def _count(text: Ints, symbols: int, order: int, bos: int) -> list[_Grams]:
    """The n-grams of length 1 to `order` that lie within a sentence (fewer if no sentence is that long)."""
    begins = np.flatnonzero(text == bos)
    ends = np.append(begins[1:], len(text))
    room = np.repeat(ends, ends - begins) - np.arange(len(text))  # tokens from here to the sentence's end
    count = np.bincount(text, minlength=symbols)
    everything = np.arange(symbols)
    place = np.zeros(symbols, np.int64)
    place[text[::-1]] = np.arange(len(text))[::-1]
    grams = [_Grams(np.zeros(symbols, np.int64), everything, count, place, text.astype(np.int32))]
    for length in range(2, order + 1):
        positions = np.flatnonzero(room >= length)
        if not len(positions):
            break
        keys = grams[-1].at[positions].astype(np.int64) * symbols + text[positions + length - 1]
        unique, first, inverse, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        at = np.full(len(text), -1, np.int32)
        at[positions] = inverse
        grams.append(_Grams(unique // symbols, unique % symbols, count, positions[first], at))
    return grams


def _adjusted_counts(grams: list[_Grams], k: int, bos: int) -> Ints:
    """Kneser-Ney counts of the n-grams of length k + 1, [G].

    How many different tokens come before the n-gram; occurrences for the longest, and for those that begin a
    sentence, before which nothing can come.
    """
    mine = grams[k]
    if k == len(grams) - 1:
        counts = mine.count.copy()
    else:
        longer = grams[k + 1]
        counts = np.bincount(mine.at[longer.place + 1], minlength=len(mine.count))
        begins = grams[0].at[mine.place] == bos
        counts[begins] = mine.count[begins]
    if k == 0:
        counts[bos] = 0  # never predicted
    return counts.astype(np.int64)


def _discounts(counts: Ints) -> Floats:
    """What to take from n-grams counted 0, 1, 2, 3 and more times: [4] (Chen and Goodman 1998, eq. 26)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    if n[1:5].min() > 0:
        y = n[1] / (n[1] + 2 * n[2])
        d = [j - (j + 1) * y * n[j + 1] / n[j] for j in (1, 2, 3)]
        if all(0 < x < j for j, x in enumerate(d, start=1)):
            return np.array([0.0, *d])
    return np.array([0.0, *FALLBACK_DISCOUNTS])


def _unigrams(counts: Ints, symbols: int, bos: int) -> Floats:
    """Probability of each token without context [V]: discounted counts interpolated with the uniform one."""
    discount = _discounts(counts[counts > 0])[np.minimum(counts, 3)]
    taken = np.maximum(counts - discount, 0.0) / counts.sum()
    uniform = np.full(symbols, 1.0 / (symbols - 1))
    uniform[bos] = 0.0
    return np.asarray(taken + (1.0 - taken.sum()) * uniform)


def _interpolate(
    grams: list[_Grams], counts: Ints, k: int, shorter: Floats, need: int, min_gain: float
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Probabilities [G] of length k + 1 n-grams, backoff weights of their contexts, and which n-grams to keep.

    The mass of n-grams not kept goes to the backoff weight, so every distribution still sums to one.
    """
    mine = grams[k]
    contexts = len(grams[k - 1].count)
    lower = shorter[grams[k - 1].at[mine.place + 1]]  # the same last token after a context one shorter
    total = np.bincount(mine.prefix, weights=counts, minlength=contexts)
    taken = (counts - _discounts(counts)[np.minimum(counts, 3)]) / total[mine.prefix]
    kept = mine.count >= need

    def mix() -> tuple[Floats, Floats]:
        direct = np.where(kept, taken, 0.0)
        weights = np.maximum(1.0 - np.bincount(mine.prefix, weights=direct, minlength=contexts), 1e-12)
        return direct + weights[mine.prefix] * lower, weights

    probabilities, weights = mix()
    if min_gain > 0:
        gain = counts * (np.log(probabilities) - np.log(weights[mine.prefix] * lower))
        kept &= gain >= min_gain
        probabilities, weights = mix()
    return probabilities, weights, kept


def _table(
    grams: _Grams,
    probabilities: Floats,
    weights: Floats,
    kept: npt.NDArray[np.bool_],
    packed: npt.NDArray[np.uint64],
) -> Table:
    """The runtime's layout of the kept n-grams; `packed` holds the 64-bit keys of the possible contexts."""
    prefix = grams.prefix[kept]
    contexts, first = np.unique(prefix, return_index=True)
    return Table(
        contexts=packed[contexts],
        starts=np.append(first, len(prefix)).astype(np.uint32),
        backoffs=np.log(weights[contexts]).astype(np.float32),
        tokens=grams.last[kept].astype(np.uint16),
        logprobs=np.log(probabilities[kept]).astype(np.float32),
    )
