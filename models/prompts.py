"""What synthetic voices are asked to read: book and everyday sentences, digit strings, spelled words, dates.

A prompt keeps two spellings: `spoken` (punctuated, lower case, for the engine) and `norm` (the transcript).
The mix follows what people say to small recognisers; rare words are favoured so that more of them are heard.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from models.numbers import cardinal, ordinal, words_of, year
from models.text import HeldOutFilter, book_sentences, normalize
from ondevice.errors import InputError

T = TypeVar("T")
SENTENCE_WORDS = (3, 34)  # about 1 to 14 s of reading
KINDS = {  # share of the prompts
    "book": 0.64,
    "everyday": 0.12,
    "short": 0.06,
    "digits": 0.06,
    "spelled": 0.06,
    "date": 0.03,
    "single": 0.03,
}
COVERAGE_CANDIDATES = 4  # sentences drawn for one that is kept when rare words are sought
DIGITS = words_of("zero one two three four five six seven eight nine")
_MONTHS = words_of("january february march april may june july august september october november december")
_ANSWERS = words_of("yes no go stop start help")
_COMMANDS = words_of("erase rubout repeat enter")
# Engines read a lone "a" as the article; these spellings are read as the letter's name by all of them.
_NAMES = words_of(
    "eigh bee see dee ee ef gee aitch eye jay kay ell em en oh pea queue are ess tea you vee double-you ex why zee"
)
LETTER_NAMES = dict(zip("abcdefghijklmnopqrstuvwxyz", _NAMES, strict=True))


@dataclass(frozen=True)
class Prompt:
    """One thing to read: engine text, transcript in the training alphabet, and its kind (a key of KINDS)."""

    spoken: str
    norm: str
    kind: str


@dataclass(frozen=True)
class Sources:
    """Sentences to draw prompts from, as (spoken, norm) pairs, and the words that may be spelled out."""

    book: tuple[tuple[str, str], ...]
    everyday: tuple[tuple[str, str], ...]
    words: tuple[str, ...]


def load_sources(books: Path, everyday: Path | None, lexicon: Path | None, held_out: HeldOutFilter) -> Sources:
    """Read and clean the sources: a book, a TSV with columns `split` and `en`, a CMUdict file (.gz or plain).

    Sentences overlapping held-out transcripts are left out, and with a lexicon those with words that it lacks
    (engines would guess their sounds). Raises InputError when a file cannot be read or nothing is left.
    """
    known = frozenset(_lexicon_words(lexicon)) if lexicon else frozenset()

    def usable(norm: str) -> bool:
        words = norm.split()
        if not SENTENCE_WORDS[0] <= len(words) <= SENTENCE_WORDS[1] or held_out.overlaps(norm):
            return False
        return not known or all(word.removesuffix("'s").strip("'") in known or word in known for word in words)

    book = tuple((spoken_form(text, norm), norm) for text, norm in book_sentences(books) if usable(norm))
    if not book:
        raise InputError(f"{books}: no usable sentence of {SENTENCE_WORDS[0]} to {SENTENCE_WORDS[1]} words")
    daily = everyday_sentences(everyday) if everyday else book
    words = sorted(word for word in known if word.isalpha() and 3 <= len(word) <= 9) or ["hello", "device"]
    return Sources(book, tuple(pair for pair in dict.fromkeys(daily) if usable(pair[1])) or book, tuple(words))


def _lexicon_words(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            yield from (line.split(maxsplit=1)[0].split("(")[0].lower() for line in file if line.strip())
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as a pronunciation lexicon ({error})") from error


def everyday_sentences(path: Path) -> Iterator[tuple[str, str]]:
    """(spoken, norm) of the train rows of a TSV with columns `split` and `en`; InputError when it is none."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if row["split"] == "train" and (norm := normalize(row["en"])):
                    yield spoken_form(row["en"], norm), norm
    except (OSError, UnicodeDecodeError, EOFError, KeyError, csv.Error) as error:
        raise InputError(f"{path}: expected a TSV with columns `split` and `en` ({error!r})") from error


def spoken_form(text: str, norm: str) -> str:
    """`text` with its punctuation where an engine cannot read it otherwise than `norm`, else `norm`.

    Titles, numbers and symbols are where engines differ from the transcript.
    """
    plain = text.translate({ord("’"): "'", ord("‘"): None, **dict.fromkeys(map(ord, '"“”_()[]'), None)}).lower()
    plain = plain.replace("—", ", ").replace("--", ", ")
    bare = "".join(letter if letter.isascii() and (letter.isalpha() or letter == "'") else " " for letter in plain)
    same = [word.strip("'") for word in bare.split()] == [word.strip("'") for word in norm.split()]
    return " ".join(plain.split()) if same and plain.isascii() else norm


class PromptMixer:
    """Draws prompts from sources in the mix of KINDS; equal random generators draw equal prompts."""

    def __init__(self, sources: Sources, held_out: HeldOutFilter) -> None:
        self.sources = sources
        self.held_out = held_out
        self._heard: Counter[str] = Counter()  # how often each word was drawn, to favour new ones
        self._by_length: dict[int, list[tuple[str, str]]] = {}
        for pair in sources.book:
            self._by_length.setdefault(pair[1].count(" ") + 1, []).append(pair)
        self._short = [pair for length, pairs in self._by_length.items() if length <= 7 for pair in pairs]
        self._makers: dict[str, Callable[[np.random.Generator], tuple[str, str]]] = {
            "book": self._book,
            "everyday": lambda rng: _pick(rng, sources.everyday),
            "short": lambda rng: _pick(rng, self._short or sources.book),
            "digits": _digit_string,
            "spelled": self._spelled,
            "date": _date_or_address,
            "single": lambda rng: (word := _pick(rng, (*DIGITS, *DIGITS, "oh", *_ANSWERS, *_COMMANDS)), word),
        }

    def draw(self, rng: np.random.Generator) -> Prompt:
        """The next prompt; none overlaps a held-out transcript, except single words of closed sets."""
        while True:
            kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
            spoken, norm = self._makers[kind](rng)
            if kind == "single" or not self.held_out.overlaps(norm):
                self._heard.update(norm.split())
                return Prompt(spoken, norm, kind)

    def _book(self, rng: np.random.Generator) -> tuple[str, str]:
        """A sentence of evenly spread length; every other one is the candidate with the least heard words."""
        length = _pick(rng, sorted(self._by_length))
        if rng.random() < 0.5:
            return _pick(rng, self._by_length[length])
        candidates = [_pick(rng, self._by_length[length]) for _ in range(COVERAGE_CANDIDATES)]
        return max(candidates, key=self._novelty)

    def _novelty(self, pair: tuple[str, str]) -> float:
        words = set(pair[1].split())
        return sum(1 / (1 + self._heard[word]) for word in words) / len(words)

    def _spelled(self, rng: np.random.Generator) -> tuple[str, str]:
        """Letters one by one: a word's, or random ones with a command and a number as in dictated records."""
        if rng.random() < 0.6:
            return _letters(_pick(rng, self.sources.words))
        spoken, norm = _letters("".join(rng.choice(list(LETTER_NAMES), size=rng.integers(1, 6))))
        if rng.random() < 0.5:
            number = cardinal(int(rng.integers(1, 100)))
            spoken, norm = f"{spoken}, {number}", f"{norm} {number}"
        if rng.random() < 0.5:
            command = _pick(rng, _COMMANDS)
            spoken, norm = f"{command} {spoken}", f"{command} {norm}"
        return spoken, norm


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _letters(word: str) -> tuple[str, str]:
    return ", ".join(LETTER_NAMES[letter] for letter in word), " ".join(word)


def _digit_string(rng: np.random.Generator) -> tuple[str, str]:
    """Two to seven digits; 0 is read as zero or oh throughout one string."""
    zero = "oh" if rng.random() < 0.4 else "zero"
    words = [zero if digit == 0 else DIGITS[digit] for digit in rng.integers(10, size=rng.integers(2, 8))]
    return " ".join(words), " ".join(words)


def _date_or_address(rng: np.random.Generator) -> tuple[str, str]:
    month, day = _pick(rng, _MONTHS), int(rng.integers(1, 32))
    if rng.random() < 0.5:
        said_day = ordinal(day) if rng.random() < 0.7 else cardinal(day)
        said_year = f" {year(int(rng.integers(1900, 2000)))}" if rng.random() < 0.6 else ""
        line = f"{month} {said_day}{said_year}"
    else:
        pairs = [cardinal(int(rng.integers(10, 100))) for _ in range(rng.integers(1, 4))]
        line = " ".join([_pick(rng, DIGITS[1:]), *pairs]) if rng.random() < 0.3 else " ".join(pairs)
    return line, line
