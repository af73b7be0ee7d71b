"""Written English as it is spoken: '$5 on May 3rd' -> 'five dollars on may third'.

One pass from left to right: at every place the first rule that fits says a token. Rules match bounded pieces, so any
text takes time in proportion to its length.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ondevice import spoken_addresses, spoken_dates, spoken_numbers, spoken_words
from ondevice.phonemes import PUNCTUATION, STRENGTHS
from ondevice.spoken_addresses import pronounceable
from ondevice.spoken_rules import Answer, Context, Rule, Said, Token, token
from ondevice.spoken_tables import SYMBOLS_SPOKEN
from ondevice.written import LATIN, left_out, plain, run_of_one_kind

MOST_ESCAPED = 2_000  # characters between [[ and ]]
_TIME_BEFORE = re.compile(r"[0-9]:[0-9]{2}$|[0-9]\s?[ap]\.?m\.?$", re.IGNORECASE)
FEWEST_SHOUTED = 12  # capitals; fewer may be an acronym on its own
_EMOTICON = re.compile(r"(?<![\w)])(?:[:;=]-?[)(DPp|]|<3)(?![\w(])")
_SILENT = frozenset("\"'*_`{}[]#´¨¸·^~¦")
_PAUSES = {"(": ",", ")": ",", "•": ",", "|": ",", "‣": ",", "◦": ",", "▪": ","}


@dataclass(frozen=True)
class Verbalized:
    """A text in spoken words, and what of it could not be spoken."""

    text: str  # small letters, names of letters in capitals, punctuation, [[phones]]
    warnings: tuple[str, ...]


def verbalize(text: str, known: Callable[[str], bool] = pronounceable) -> Verbalized:
    """Any text in spoken words; `known` tells which words in small letters are no acronyms, as a lexicon does."""
    found = list(tokens(text, known))
    words = " ".join(_one_mark_at_a_time(word for piece in found for word in piece.spoken))
    return Verbalized(
        re.sub(r" ([,.!?;:])(?![^ ])", r"\1", words), left_out(piece.written for piece in found if piece.left_out)
    )


def _one_mark_at_a_time(words: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for word in words:
        if word in STRENGTHS and kept and kept[-1] in STRENGTHS:
            kept[-1] = max(kept[-1], word, key=STRENGTHS.__getitem__)
        else:
            kept.append(word)
    return kept


def tokens(text: str, known: Callable[[str], bool] = pronounceable) -> Iterator[Token]:
    """The pieces of any text, each with its spoken words, and which of them end a sentence."""
    text = plain(text)
    capitals = sum(map(str.isupper, text))
    context = Context(text, known, shouted=capitals >= FEWEST_SHOUTED and capitals > 5 * sum(map(str.islower, text)))
    place, first = 0, True
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        piece = _next(context, place)
        if context.character(place - 1).isspace():
            piece = replace(piece, spaced=True)
        place += len(piece.written)
        if piece.ends:
            context.before, first = "", True
        elif piece.spoken and piece.spoken[-1] not in PUNCTUATION:
            context.before, context.second, first = piece.written, first, False
        elif piece.spoken:
            context.before = ""
        yield piece


def _next(context: Context, place: int) -> Token:
    """The token at `place`, which is not a space."""
    text = context.text
    if emoticon := _EMOTICON.match(text, place):
        return Token(emoticon[0], (), left_out=True)
    for pattern, say in _rules(text[place]):
        found = pattern.match(text, place)
        if found and (answer := say(found, context)) is not None:
            return token(found[0], answer)
    character = text[place]
    if character in _PAUSES:
        return Token(character, (_PAUSES[character],))
    if character in SYMBOLS_SPOKEN:
        return token(character, SYMBOLS_SPOKEN[character])
    if character in _SILENT or (character.isascii() and character.isprintable()):
        return Token(character, ())
    return Token(text[place : run_of_one_kind(text, place)], (), left_out=True)


def _escape(found: re.Match[str], context: Context) -> Answer:
    return (f"[[{' '.join(found[1].split())}]]",)


def _stop(found: re.Match[str], context: Context) -> Answer:
    """. ! ? and rows of them: the end of a sentence, a pause within one, or 'dot'."""
    marks, following = found["marks"], found["space"] or not found["next"]
    mark = "?" if "?" in marks else "!" if "!" in marks else "."
    small = found["next"].islower()
    if mark == ".":
        if "…" in marks or len(marks) > 1:
            return (",",) if small else (".",)
        if not following and not found["quotes"] and (small or found["next"].isdigit()):
            return "dot"
        return (".",)
    if small and (found["quotes"] or not following):  # "Why?" he asked
        return Said(mark, ends=False)
    return (mark,)


def _mark(found: re.Match[str], context: Context) -> Answer:
    return (found[0],)


def _dash(found: re.Match[str], context: Context) -> Answer:
    """A dash that is heard as a pause; a hyphen between words or before a suffix is not."""
    before, after = context.character(found.start() - 1).strip(), context.character(found.end()).strip()
    if len(found[0]) == 1 and found[0] != "—" and after.isdigit():
        if _TIME_BEFORE.search(context.before):
            return "to"
        if before.isdigit() and found[0] == "-":
            return "minus"
    return ("-",) if "—" in found[0] or len(found[0]) > 1 or not (before or after) else ()


def _sign(found: re.Match[str], context: Context) -> Answer:
    """-5 and 7 - 5 = 2; not F-16."""
    if found[0][-1].isspace():
        return "minus" if context.before[-1:].isdigit() else None
    return None if re.match(r"[\w).]", context.character(found.start() - 1)) else "minus"


def _about(found: re.Match[str], context: Context) -> Answer:
    return "about"


def _times(found: re.Match[str], context: Context) -> Answer:
    return "times" if context.before[-1:].isdigit() else None


def _power(found: re.Match[str], context: Context) -> Answer:
    """x², 10^6; a small figure after a word is a note's."""
    if len(context.before) > 3 and not context.before[-1].isdigit():
        return ()
    power = {"2": "squared", "3": "cubed"}.get(found[1])
    sign = "minus " if found[1].startswith("-") else ""
    return power or f"to the power of {sign}{spoken_numbers.say_number(found[1].lstrip('-'))}"


def _number_sign(found: re.Match[str], context: Context) -> Answer:
    return "number"


def _line(found: re.Match[str], context: Context) -> Answer:
    return (",",)


_SIGNS: tuple[Rule, ...] = (
    (re.compile(rf"\[\[([^\[\]]{{0,{MOST_ESCAPED}}})\]\]"), _escape),
    (re.compile(r"([=_~*#+<>\\/|])\1{2,}|[-=]>|<[-=]"), _line),
    (re.compile(r"[-−](?=\.?[0-9]|[$£€¥₹])|-\s(?=[0-9])"), _sign),
    (re.compile(r"[~≈]\s?(?=[0-9$£€])"), _about),
    (re.compile(r"[*·](?=\s?[0-9(])"), _times),
    (re.compile(r"\^(-?[0-9]{1,3})(?![0-9])"), _power),
    (re.compile(r"#\s?(?=[0-9])"), _number_sign),
    (re.compile(r"[-–—]+"), _dash),
    (
        re.compile(
            r"(?P<marks>[.!?…]+)(?P<quotes>[\"')\]]*)(?=(?P<space>\s{0,3})[\"'(\[]{0,3}(?P<next>\S?))",
        ),
        _stop,
    ),
    (re.compile(r"[,;:]"), _mark),
)
_NUMBERS = (*spoken_addresses.RULES, *spoken_dates.NUMERIC_RULES, *spoken_numbers.RULES, *_SIGNS)
_WORDS = (*spoken_addresses.RULES, *spoken_dates.WORDED_RULES, *spoken_words.RULES)
_QUOTED = (*spoken_numbers.RULES, *spoken_words.RULES)
_MIXED = (*spoken_addresses.RULES, *spoken_numbers.RULES, *spoken_words.RULES, *_SIGNS)
_IS_LATIN = re.compile(f"[{LATIN}]")


def _rules(character: str) -> tuple[Rule, ...]:
    """The rules that may fit where `character` begins."""
    if character in "0123456789$£€¥₹(+":
        return _NUMBERS
    if _IS_LATIN.match(character):
        return _WORDS
    if character == "'":
        return _QUOTED
    return _MIXED if character in ".@#" else _SIGNS
