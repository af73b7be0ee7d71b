"""What the verbaliser's rules share: a token, what a rule sees around it, and what it answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ondevice.phonemes import SENTENCE_ENDS
from ondevice.spoken_tables import SENTENCE_STARTERS, WEEKDAYS

_CLOSING = r"[\"')\]]*"
_OPENING = r"[\"'(\[]*"
_STARTER = re.compile(rf"{_CLOSING}\s+{_OPENING}(?:{'|'.join(SENTENCE_STARTERS)})(?![\w'])")
_DAYS = "|".join(day.capitalize() for day in (*WEEKDAYS.values(), "today", "tomorrow"))
_CAPITAL = re.compile(rf"{_CLOSING}\s+{_OPENING}(?!{_DAYS}|[A-Z]{{2}})[A-Z]")
_NOTHING_MORE = re.compile(rf"{_CLOSING}\s*\Z")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of writing and how it is said."""

    written: str
    spoken: tuple[str, ...]  # words in small letters, names of letters in capitals, punctuation, [[PH OW1 N Z]]
    ends: bool = False  # a sentence ends after it
    left_out: bool = False  # nothing says it
    spaced: bool = False  # a space goes before it


class Said(NamedTuple):
    """A rule's answer where a sentence may end with it."""

    words: str
    ends: bool


@dataclass(slots=True)
class Context:
    """What a rule may look at besides its match."""

    text: str
    known: Callable[[str], bool]  # whether a word in small letters is in the lexicon
    shouted: bool  # all in capitals, so that capitals mean nothing
    before: str = ""  # the word or number written before, "" at the start of a sentence
    second: bool = False  # `before` is the first of its sentence

    def character(self, place: int) -> str:
        """The character at `place`; "" outside the text."""
        return self.text[place] if 0 <= place < len(self.text) else ""

    def ended(self, found: re.Match[str], words: str, *, any_capital: bool = False) -> Said:
        """`words` for what was found, which ends with a full stop: a sentence ends too where a new one seems to begin.

        Most abbreviations go before names, so only words that often begin sentences count, unless `any_capital`.
        """
        starts = (_CAPITAL if any_capital else _STARTER).match(self.text, found.end())
        ends = bool(starts or _NOTHING_MORE.match(self.text, found.end()))
        return Said(f"{words} ." if ends else words, ends)


Answer = str | Said | tuple[str, ...] | None  # None: the rule does not apply after all
Rule = tuple[re.Pattern[str], Callable[[re.Match[str], Context], Answer]]


def token(written: str, answer: str | Said | tuple[str, ...]) -> Token:
    """The token of a rule's answer; a mark that ends sentences ends one unless the answer says otherwise."""
    if isinstance(answer, Said):
        return Token(written, tuple(answer.words.split()), answer.ends)
    spoken = tuple(answer.split()) if isinstance(answer, str) else answer
    return Token(written, spoken, bool(spoken) and spoken[-1] in SENTENCE_ENDS)
