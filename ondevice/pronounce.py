"""Any text as the symbols of a voice, sentence by sentence.

pronouncer = Pronouncer(Path("pronunciation.npz"))
for sentence in pronouncer.sentences("Dr. Smith paid $5. Really?", warn=print):
    sentence.symbols  # ('D', 'AA1', 'K', 'T', 'ER0', ' ', 'S', ...)
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ondevice.errors import InputError
from ondevice.heteronyms import reading
from ondevice.letter_to_sound import Phones
from ondevice.lexicon import load
from ondevice.phonemes import LETTER_NAMES, PHONE_SET, PHONES, PUNCTUATION, SYMBOLS, is_vowel
from ondevice.sentences import FEWEST_SYMBOLS, Piece, chunks, finish, parts, spell, tidy
from ondevice.spoken_rules import Token
from ondevice.verbalize import tokens
from ondevice.word_parts import by_parts, plural
from ondevice.written import left_out

MOST_SYMBOLS = 160  # of a sentence, about ten seconds of speech
MOST_TOKENS = 400  # held back while no sentence ends
MOST_UNKNOWN = 200  # letters of words the lexicon lacks, held back likewise: each takes a third of a millisecond
MOST_REMEMBERED = 20_000  # words
_THE_BEFORE_VOWELS = ("DH", "IY0")


@dataclass(frozen=True)
class SpokenWord:
    """A piece of the writing and the symbols that say it: symbols[start:end] of its sentence."""

    text: str  # as written: "$5"
    spoken: str  # "five dollars"
    start: int
    end: int


@dataclass(frozen=True)
class SpokenSentence:
    """A sentence, or a part of a long one, as a voice takes it."""

    text: str  # as written, spaces evened
    words: tuple[SpokenWord, ...]
    symbols: tuple[str, ...]
    ids: tuple[int, ...]  # of the symbols


class Pronouncer:
    """Says how text is pronounced."""

    def __init__(self, path: str | os.PathLike[str], symbols: Sequence[str] = SYMBOLS) -> None:
        """Read a pronunciation file; `symbols` are the voice's, by id.

        Raises InputError: the file cannot be read or is none, or the voice lacks symbols.
        """
        self.lexicon, self.letter_to_sound, self.notes = load(Path(path))
        self._ids = {symbol: number for number, symbol in enumerate(symbols)}
        if missing := [symbol for symbol in SYMBOLS if symbol not in self._ids]:
            raise InputError(f"the voice has no symbol {missing[0]!r}; expected {' '.join(SYMBOLS)}")
        self._remembered: dict[str, Phones] = {}

    def sentences(
        self, text: str | Iterable[str], most_symbols: int = MOST_SYMBOLS, warn: Callable[[str], None] = lambda _: None
    ) -> Iterator[SpokenSentence]:
        """The sentences of a text or of lines as they come, each of at most `most_symbols`, none of them empty.

        `warn` is told, sentence by sentence, what cannot be spoken. Raises InputError for [[phones]] that are none.
        """
        if most_symbols < FEWEST_SYMBOLS:
            raise InputError(f"sentences of {most_symbols} symbols are too short; expected {FEWEST_SYMBOLS} or more")
        for chunk in chunks([text] if isinstance(text, str) else text):
            held: list[Token] = []
            unknown = 0
            for token in tokens(chunk, self.lexicon.__contains__):
                held.append(token)
                unknown += sum(len(word) for word in token.spoken if word[0].islower() and word not in self.lexicon)
                if token.ends or len(held) >= MOST_TOKENS or unknown >= MOST_UNKNOWN:
                    yield from self._sentence(held, most_symbols, token.ends, warn)
                    held, unknown = [], 0
            yield from self._sentence(held, most_symbols, True, warn)

    def say(self, text: str) -> SpokenSentence:
        """The whole text as one sentence of any length, for training. Raises InputError as `sentences` does."""
        found = list(tokens(" ".join(text.split()), self.lexicon.__contains__))
        return self._spoken(finish(tidy(self._pieces(found))), found)

    def encode(self, text: str) -> list[int]:
        """Ids of the symbols of the whole text; [] when nothing in it can be spoken."""
        return list(self.say(text).ids)

    def word(self, word: str, before: str = "", after: str = "") -> Phones:
        """Phones of a spoken word between others: in small letters, or the name of a letter in capitals ('A', 'B's').

        () for what has no sound, as an apostrophe alone.
        """
        if phones := reading(word, before, after):
            return phones
        if word not in self._remembered:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[word] = self._pronounce(word)
        return self._remembered[word]

    def _pronounce(self, word: str) -> Phones:
        if name := LETTER_NAMES.get(word[:1]):
            return plural(name) if word.endswith("s") else name
        known = self.lexicon.get(word) or by_parts(word, self.lexicon.get)
        if not known and (short := _without_repeats(word)) != word:
            known = self.lexicon.get(short) or self.lexicon.get(_without_repeats(word, most=1))
        if known:
            return known
        bare, genitive, _ = word.partition("'s") if word.endswith("'s") else (word, "", "")
        phones = tuple(p for part in bare.split("'") if part for p in self.letter_to_sound(part))
        if not phones:
            phones = tuple(p for letter in bare.upper() for p in LETTER_NAMES.get(letter, ()))
        return plural(phones) if genitive and phones else phones

    def _sentence(
        self, held: list[Token], most_symbols: int, ends: bool, warn: Callable[[str], None]
    ) -> Iterator[SpokenSentence]:
        for line in left_out(token.written for token in held if token.left_out):
            warn(line)
        for part in parts(finish(tidy(self._pieces(held)), ends), most_symbols):
            yield self._spoken(part, held)

    def _pieces(self, found: Sequence[Token]) -> Iterator[Piece]:
        """The words and marks of tokens as symbols."""
        spoken = [(word, number) for number, token in enumerate(found) for word in token.spoken]
        following = ""
        pieces: list[Piece] = []
        for place in range(len(spoken) - 1, -1, -1):  # backwards, for 'the' depends on the sound that comes
            word, number = spoken[place]
            before = spoken[place - 1][0] if place else ""
            if word in PUNCTUATION:
                pieces.append(Piece((word,), number))
                following = ""
                continue
            phones = escaped(word) if word.startswith("[[") else self.word(word, before, following)
            if word == "the" and pieces and is_vowel(pieces[-1].symbols[0]):
                phones = _THE_BEFORE_VOWELS
            if phones:
                pieces.append(Piece(phones, number))
                following = word
        return reversed(pieces)

    def _spoken(self, pieces: Sequence[Piece], found: Sequence[Token]) -> SpokenSentence:
        if not pieces:
            return SpokenSentence("", (), (), ())
        symbols, spans = spell(pieces)
        first, last = pieces[0].token, pieces[-1].token
        written = "".join(" " * token.spaced + token.written for token in found[first : last + 1])
        words = tuple(
            SpokenWord(found[number].written, " ".join(w for w in found[number].spoken if w not in PUNCTUATION), *span)
            for number, span in spans.items()
        )
        return SpokenSentence(written.strip(), words, symbols, tuple(self._ids[symbol] for symbol in symbols))


def escaped(escape: str) -> Phones:
    """Phones of '[[HH AH0 L OW1]]'. Raises InputError for anything that is no phone."""
    phones = tuple(escape[2:-2].upper().split())
    for phone in phones:
        if phone not in PHONE_SET:
            raise InputError(f"{escape}: {phone!r} is not a phone; expected some of {' '.join(PHONES)}")
    return phones


def _without_repeats(word: str, most: int = 2) -> str:
    """'sooooo' -> 'soo', or 'so' with most=1."""
    kept: list[str] = []
    for letter in word:
        if kept[-most:] != [letter] * most:
            kept.append(letter)
    return "".join(kept)
