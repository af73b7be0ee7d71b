"""Word n-gram language model that scores word pieces, so that the search can ask it about half-spelt words.

A weak or small recogniser hears the sounds of a word and misspells it; a model of whole words knows which spellings
are words. What it gives a piece is exact, not an estimate to be corrected at the word's end: the probability of all
words that begin as the text now does, after the words before (look-ahead over the full model, Ortmanns et al. 1997).
Known words lie in a sorted list, so those with a common beginning are a range of it, and the probability of a range
is a difference of running sums. A word that is not in the list is spelt by an n-gram model over pieces, weighed by
the probability of meeting an unknown word here (multi-level modelling, Hori et al. 2017).

Legend: `W` known words, `V` pieces.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.files import DAMAGED
from ondevice.lm import LmState, NgramLm
from ondevice.tokens import WORD_START, Pieces

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]

BOS, UNKNOWN_WORD, FIRST_WORD = 0, 1, 2  # ids of the word model; known words follow in order
LONGEST_WORD = 24  # letters
_FLOOR = 1e-30  # of a probability, so that no text is impossible
_BEYOND = b"\xff"  # sorts behind every letter in UTF-8
_CACHE_STATES = 4096
_CACHE_SUMS = 2**18  # numbers in the running sums of all histories remembered: 2 MB
_CACHE_PREFIXES = 512


class Words(NamedTuple):
    """The distribution of the word after a history: its known n-grams order by order, corrections to the one below."""

    state: LmState
    scale: float  # of the unigrams
    levels: tuple[tuple[npt.NDArray[np.uint16], Float64, float], ...]  # (words, running sum of corrections, its weight)
    unknown: float  # probability of a word that is not in the list


class Ranges(NamedTuple):
    """Known words that begin with a prefix and each piece: [low, high) as word ids, both [V]."""

    low: Ints
    high: Ints


class WordState:
    """The words so far and the beginning of the next one. Kept by the search; the same text gives the same state."""

    __slots__ = ("known", "logmass", "prefix", "spelling", "spelt", "words")

    def __init__(self, words: Words, prefix: bytes, spelling: LmState, spelt: float, known: int, mass: float) -> None:
        self.words = words
        self.prefix = prefix  # letters of the unfinished word, UTF-8
        self.spelling = spelling  # of the unfinished word, should it be unknown
        self.spelt = spelt  # natural log probability of these pieces, should it be unknown
        self.known = known  # id of the word that the prefix is; UNKNOWN_WORD if it is none
        self.logmass = math.log(max(mass, _FLOOR))  # natural log probability of all words that begin so


class WordLm:
    """Scores pieces after their history as `NgramLm` does; the state is a value the caller keeps."""

    def __init__(self, words: Sequence[str], ngrams: NgramLm, spelling: NgramLm, pieces: Pieces) -> None:
        """Take the list of known words and the models over it and over the pieces.

        words     [W] ascending, without repeats; the id of the first is FIRST_WORD
        ngrams    over BOS, UNKNOWN_WORD and the words
        spelling  over the pieces and, last, the end of a word; its `bos` begins one
        """
        self.ngrams, self.spelling = ngrams, spelling
        if ngrams.symbols != len(words) + FIRST_WORD or spelling.symbols != len(pieces) + 1:
            raise InputError(
                f"word model: {ngrams.symbols} words and {spelling.symbols - 1} pieces, "
                f"but {len(words) + FIRST_WORD} and {len(pieces)} are expected"
            )
        encoded = [word.encode() for word in words]
        # one letter wider than the longest, so that something is left of every word behind any prefix
        self._words = np.array(encoded, f"S{max(map(len, encoded), default=0) + 1}")
        if max(map(len, words), default=0) > LONGEST_WORD or not (self._words[1:] > self._words[:-1]).all():
            raise InputError(f"word model: expected words of up to {LONGEST_WORD} letters in ascending order")
        surfaces = [pieces.surface(i) for i in range(len(pieces))]
        if any(WORD_START in surface[1:] for surface in surfaces):
            raise InputError("word model: expected pieces that do not reach over the end of a word")
        self._letters = [surface.removeprefix(WORD_START).encode() for surface in surfaces]
        self._from, self._to = np.array(self._letters), np.array([letters + _BEYOND for letters in self._letters])
        self._starts = np.array(pieces.starts_word)
        self._silent = np.array([not surface for surface in surfaces])
        self._unigram_sums = np.concatenate([[0.0], np.cumsum(np.exp(ngrams.unigrams.astype(np.float64)))])
        self._ranges: dict[bytes, Ranges] = {}
        self._none = np.zeros(len(pieces), np.int32)
        self._histories: dict[tuple[int, ...], Words] = {}
        self._sums = 0  # numbers in them
        self._begin_spelling = spelling.initial_state()

    @property
    def known_words(self) -> list[str]:
        """The list of known words [W], ascending."""
        return [word.decode() for word in self._words.tolist()]

    def place(self, word: str) -> int | None:
        """Where a word stands in the list of known words, or None."""
        encoded = word.encode()
        place = int(self._words.searchsorted(encoded)) if len(word) <= LONGEST_WORD else len(self._words)
        return place if place < len(self._words) and self._words[place] == encoded else None

    @property
    def symbols(self) -> int:
        """Pieces it scores."""
        return len(self._letters)

    def initial_state(self) -> WordState:
        """The state at the beginning of a sentence."""
        return self._begin(self._after_words(self.ngrams.initial_state()))

    def advance(self, state: WordState, token: int) -> WordState:
        """The state after one more piece; pieces that write nothing leave it as it is."""
        if self._silent[token]:
            return state
        if self._starts[token]:
            state = self._begin(self._finished(state))
        prefix = state.prefix + self._letters[token]
        spelling, logprob = self.spelling.score(state.spelling, token)
        ranges = self._prefix_ranges(state.prefix)
        low, high = int(ranges.low[token]), int(ranges.high[token])
        known = low if low < high and self._words[low - FIRST_WORD] == prefix else UNKNOWN_WORD
        spelt = state.spelt + logprob
        mass = self._one_mass(state.words, low, high) + state.words.unknown * math.exp(spelt)
        return WordState(state.words, prefix, spelling, spelt, known, mass)

    def scores(self, state: WordState) -> Float32:
        """Natural log probability of every piece, float32 [V]; the caller owns the array."""
        inside = self._masses(state.words, state.prefix, state.spelling, state.spelt)
        fresh = self._masses(self._finished(state), b"", self._begin_spelling, 0.0)
        logprobs = np.where(self._starts, np.log(fresh) + self._log_end(state), np.log(inside)) - state.logmass
        logprobs[self._silent] = 0.0
        return logprobs.astype(np.float32)

    def score(self, state: WordState, token: int) -> tuple[WordState, float]:
        """The state after one more piece and the piece's natural log probability: cheaper than all `scores`."""
        if self._silent[token]:
            return state, 0.0
        after = self.advance(state, token)
        before = state.logmass
        return after, after.logmass - before + (self._log_end(state) if self._starts[token] else 0.0)

    def final(self, state: WordState) -> float:
        """What the end of the text adds: natural log probability that the unfinished word ends here."""
        return self._log_end(state) - state.logmass

    def _begin(self, words: Words) -> WordState:
        return WordState(words, b"", self._begin_spelling, 0.0, UNKNOWN_WORD, 1.0)

    def _finished(self, state: WordState) -> Words:
        """The history with the unfinished word at its end."""
        if not state.prefix:
            return state.words
        return self._after_words(self.ngrams.advance(state.words.state, state.known))

    def _log_end(self, state: WordState) -> float:
        """Natural log probability of the unfinished word as a whole."""
        if not state.prefix:  # no word has begun, at most its mark stands there
            return state.logmass
        mass = 0.0
        if state.known != UNKNOWN_WORD:
            mass = self._one_mass(state.words, state.known, state.known + 1)
        ends = self.spelling.score(state.spelling, self.symbols)[1]
        return math.log(max(mass + state.words.unknown * math.exp(state.spelt + ends), _FLOOR))

    def _masses(self, words: Words, prefix: bytes, spelling: LmState, spelt: float) -> Float64:
        """Probability of all words that begin with a prefix and each piece, [V]."""
        ranges = self._prefix_ranges(prefix)
        unknown = words.unknown * np.exp(spelt + self.spelling.scores(spelling)[:-1].astype(np.float64))
        return np.maximum(self._range_mass(words, ranges.low, ranges.high) + unknown, _FLOOR)

    def _one_mass(self, words: Words, low: int, high: int) -> float:
        """Probability of the known words in one range."""
        mass = words.scale * float(self._unigram_sums[high] - self._unigram_sums[low])
        for known, sums, weight in words.levels:
            mass += weight * float(sums[bisect_left(known, high)] - sums[bisect_left(known, low)])
        return max(mass, 0.0)

    def _range_mass(self, words: Words, low: Ints, high: Ints) -> Float64:
        """The same of many ranges at once."""
        mass = words.scale * (self._unigram_sums[high] - self._unigram_sums[low])
        for known, sums, weight in words.levels:
            mass += weight * (sums[known.searchsorted(high)] - sums[known.searchsorted(low)])
        return np.asarray(np.maximum(mass, 0.0))

    def _after_words(self, state: LmState) -> Words:
        """The next word's distribution after a word history."""
        found = self._histories.get(state.tokens)
        if found is not None:
            return found
        words = Words(state, 1.0, (), 0.0)
        if state.tokens:
            shorter = self._after_words(self.ngrams.shorter(state))
            table, row = self.ngrams.tables[len(state.tokens) - 1], state.rows[-1]
            backoff = math.exp(float(table.backoffs[row]))
            here = slice(int(table.starts[row]), int(table.starts[row + 1]))
            known = table.tokens[here]
            ids = known.astype(np.int64)
            extra = np.exp(table.logprobs[here].astype(np.float64)) - backoff * self._range_mass(shorter, ids, ids + 1)
            sums = np.concatenate([[0.0], np.cumsum(extra)])
            lower = tuple((tokens, sums, weight * backoff) for tokens, sums, weight in shorter.levels)
            words = Words(state, shorter.scale * backoff, (*lower, (known, sums, 1.0)), 0.0)
            self._sums += len(sums)
        words = words._replace(unknown=self._one_mass(words, UNKNOWN_WORD, UNKNOWN_WORD + 1))
        if len(self._histories) >= _CACHE_STATES or self._sums > _CACHE_SUMS:
            self._histories.clear()  # states keep the histories they use
            self._sums = 0
        self._histories[state.tokens] = words
        return words

    def _prefix_ranges(self, prefix: bytes) -> Ranges:
        found = self._ranges.get(prefix)
        if found is None:
            if len(self._ranges) >= _CACHE_PREFIXES:
                self._ranges.clear()
            found = self._ranges[prefix] = Ranges(*self._continued(prefix))
        return found

    def _continued(self, prefix: bytes) -> tuple[Ints, Ints]:
        """Where known words begin with a prefix and each piece, and where they end."""
        first, end = 0, 0
        if len(prefix) < self._words.itemsize:
            first, end = self._words.searchsorted([prefix, prefix + _BEYOND]).tolist()
        if first == end:
            return self._none, self._none
        letters = self._words[first:end].view(np.uint8).reshape(end - first, -1)[:, len(prefix) :]
        rest = np.ascontiguousarray(letters).view(f"S{letters.shape[1]}")[:, 0]
        first += FIRST_WORD
        low, high = (rest.searchsorted(keys) + first for keys in (self._from, self._to))
        return low.astype(np.int32), high.astype(np.int32)

    def save(self, path: Path) -> None:
        """Write a compressed .npz with float16 log probabilities."""
        letters = np.frombuffer("\n".join(self.known_words).encode(), np.uint8)
        arrays: dict[str, Any] = {"words": letters}
        for name, model in (("ngrams", self.ngrams), ("spelling", self.spelling)):
            arrays |= {f"{name}.{key}": array for key, array in model.arrays().items()}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)


def load_lm(path: Path, pieces: Pieces) -> NgramLm | WordLm:
    """Read what `NgramLm.save` or `WordLm.save` wrote; InputError names the file when it is anything else."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if "words" not in data:
                return _check_symbols(NgramLm.from_arrays(data), pieces)
            words = data["words"].tobytes().decode().split("\n")
            parts = [
                NgramLm.from_arrays({k.removeprefix(f"{name}."): data[k] for k in data if k.startswith(f"{name}.")})
                for name in ("ngrams", "spelling")
            ]
            return WordLm(words, parts[0], parts[1], pieces)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a language model (.npz)") from error
    except (*DAMAGED, InputError) as error:
        raise InputError(f"{path}: {error}; expected a language model (.npz)") from error


def _check_symbols(lm: NgramLm, pieces: Pieces) -> NgramLm:
    if lm.symbols != len(pieces):
        raise ValueError(f"a language model of {lm.symbols} symbols, but {len(pieces)} are expected")
    return lm
