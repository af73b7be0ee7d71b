"""How written words are said: abbreviations, acronyms, Roman numerals, names with capitals inside."""

import re

from ondevice.normalize import cardinal, ordinal
from ondevice.spoken_addresses import pronounceable
from ondevice.spoken_rules import Answer, Context, Rule
from ondevice.spoken_tables import (
    APOSTROPHE_FIRST,
    BARE_ABBREVIATIONS,
    DOTTED_WORDS,
    LETTER_NOUNS,
    NAME_ABBREVIATIONS,
    NUMBER_ABBREVIATIONS,
    NUMBERED_THINGS,
    REGNAL_NAMES,
    SENTENCE_STARTERS,
    SPECIAL_CAPITALS,
    SPECIAL_WORDS,
    STOPPED_ABBREVIATIONS,
    UNITS,
)
from ondevice.written import LATIN, letters

LONGEST_WORD = 30  # letters; the rest is a word of its own
LONGEST_UNKNOWN_ACRONYM = 4  # in capitals; longer ones that can be pronounced are
_TITLES = frozenset(["mr", "mrs", "ms", "dr", "prof", "st"])
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z']+")
_ROMAN = re.compile(r"(?=[IVXLC])C{0,3}(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_ROMAN_ALONE = re.compile(r"[IVX]{3,}|I[IVX]|V[I]+|XI+|XV|XX")
_NEXT_NAME = re.compile(r"\s+[A-Z]")
_NEXT_NUMBER = re.compile(r"\s{0,3}[0-9]")
_NEXT_STARTER = re.compile(rf"\s+(?:{'|'.join(SENTENCE_STARTERS)})(?![\w'])")
_AFTER_REGNAL_ONE = re.compile(r"['.,;:)!?]|\s+(?:of|was|is|died|became|ruled|reigned|and)\b|\s*\Z")


def _special(found: re.Match[str], context: Context) -> Answer:
    return SPECIAL_WORDS[found[0].lower()]


def _dotted(found: re.Match[str], context: Context) -> Answer:
    """U.S.A., e.g., Ph.D., J. (an initial)."""
    small = found[0].lower()
    words = DOTTED_WORDS.get(small) or DOTTED_WORDS.get(small + ".") or DOTTED_WORDS.get(small.removesuffix("."))
    if not words:
        words = " ".join(letter.upper() for letter in small if letter != ".")
    if not found[0].endswith("."):
        return words
    if small in ("i.e.", "e.g."):
        return words
    return context.ended(found, words, any_capital=small in ("a.m.", "p.m."))


def _initial(found: re.Match[str], context: Context) -> Answer:
    return context.ended(
        found, "i" if found[0] == "I." and not _NEXT_NAME.match(context.text, found.end()) else found[1]
    )


def _abbreviation(found: re.Match[str], context: Context) -> Answer:
    small, stop = found[1].lower(), bool(found[2])
    follows = context.text
    if small in NUMBER_ABBREVIATIONS and _NEXT_NUMBER.match(follows, found.end()) and stop:
        return NUMBER_ABBREVIATIONS[small]
    if small in ("st", "dr"):
        return _saint_or_street(found, context, stop)
    if small in NAME_ABBREVIATIONS and stop and _NEXT_NAME.match(follows, found.end()):
        return None if _NEXT_STARTER.match(follows, found.end()) else NAME_ABBREVIATIONS[small]
    words = BARE_ABBREVIATIONS.get(small) or (STOPPED_ABBREVIATIONS.get(small) if stop else None)
    if not words or (not stop and found[1].isupper() and len(small) > 2):
        return None
    if not stop and not found[1][0].isupper() and small not in ("vs", "etc", "ok"):
        return None
    if not stop or small in ("mr", "mrs", "ms", "messrs"):
        return words
    return context.ended(found, words, any_capital=small == "etc")


def _saint_or_street(found: re.Match[str], context: Context, stop: bool) -> Answer:
    small = found[1].lower()
    honorific, way = ("saint", "street") if small == "st" else ("doctor", "drive")
    named = context.before[:1].isupper() and not context.before.endswith(".")
    name_before = named and not context.second
    name_after = bool(_NEXT_NAME.match(context.text, found.end()))
    if name_after and not (name_before and _NEXT_STARTER.match(context.text, found.end())):
        return honorific
    if name_before or (named and not name_after):
        return context.ended(found, way) if stop else way
    if found[1][0].isupper() or stop:
        return context.ended(found, honorific) if stop and small == "dr" else honorific
    return None


def roman_value(numeral: str) -> int | None:
    """Value of a Roman numeral in capitals below 400, or None."""
    if not _ROMAN.fullmatch(numeral):
        return None
    values = [_ROMAN_DIGITS[letter] for letter in numeral]
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))


def _roman(found: re.Match[str], context: Context) -> Answer:
    """Henry VIII, Elizabeth II's, Chapter IV, World War I, Rocky III."""
    numeral, before = found[1], context.before.lower()
    value = roman_value(numeral)
    if value is None or numeral in ("L", "C") or (numeral == "I" and not context.before[:1].isupper()):
        return None
    genitive = "'s" if found[2] else ""
    if before in NUMBERED_THINGS:
        return f"{cardinal(value)}{genitive}"
    if before in REGNAL_NAMES and (numeral != "I" or _AFTER_REGNAL_ONE.match(context.text, found.end(1))):
        return f"the {ordinal(value)}{genitive}"
    if len(numeral) > 1 and not context.shouted and _ROMAN_ALONE.fullmatch(numeral):
        return f"{cardinal(value)}{genitive}"
    return None


def _word(found: re.Match[str], context: Context) -> Answer:
    written = found[0]
    small = letters(written)
    if small is None:
        return ()
    bare = small.strip("'")
    if small.startswith("'") and small in APOSTROPHE_FIRST:
        bare = small
    if not bare.strip("'"):
        return ()
    if len(bare) == 1:
        return _letter(found, written, bare, context)
    if written in UNITS and not (written.islower() or written.isupper()):  # kHz
        return UNITS[written][1]
    plain, genitive = (bare[:-2], "'s") if bare.endswith("'s") else (bare, "")
    capitals = written.replace("'", "")
    if genitive:
        capitals = capitals[:-1]
    if capitals.endswith("s") and len(capitals) > 2 and capitals[:-1].isupper() and not context.known(plain):
        plain, capitals, genitive = plain[:-1], capitals[:-1], "'s"  # DVDs
    if capitals.isupper() and _spelt(capitals, plain, context):
        return " ".join(capitals.upper()) + genitive if capitals.isascii() else " ".join(plain.upper()) + genitive
    if context.known(bare) or capitals.isupper() or written[1:].replace("'", "").islower() or written.islower():
        if not re.search("[aeiouy]", plain) and len(plain) <= 5 and not context.known(bare):
            return " ".join(plain.upper()) + genitive
        return bare
    return _camel(written, bare, context)


def _spelt(capitals: str, small: str, context: Context) -> bool:
    """Whether capitals are spelt: BBC, and US but not in a shouted sentence; NASA and UNICORN are words."""
    if context.known(small) or (context.shouted and len(small) > 2 and pronounceable(small)):
        return capitals in SPECIAL_CAPITALS and not context.shouted
    return len(small) <= LONGEST_UNKNOWN_ACRONYM or not pronounceable(small)


def _letter(found: re.Match[str], written: str, small: str, context: Context) -> Answer:
    """The article 'a', the pronoun 'i', or the letter's name."""
    if small == "x" and context.before[-1:].isdigit():
        return "by" if re.compile(r"\s?[0-9]").match(context.text, found.end()) else "times"
    follows = re.compile(r"[\s\"'*_-]+[^\W\d_]").match(context.text, found.end())
    if small == "a":
        article = follows and context.before.lower() not in LETTER_NOUNS
        return "a" if (written == "a" and context.character(found.end()) != ")") or article else "A"
    if written.endswith("'") and small == "o":
        return "o'"
    if small == "n" and "'" in written:
        return "'n"
    if small == "i" and (written == "I" or not context.before):
        return "i"
    return small.upper()


def _camel(written: str, bare: str, context: Context) -> Answer:
    """YouTube and McDonald's when known or hard to part; iPhone, JavaScript in their parts."""
    parts = _CAMEL.findall("".join(letters(c) or "'" for c in written) if not written.isascii() else written)
    if len(parts) < 2 or parts[0] in ("Mc", "Mac", "De", "La", "Le", "Van", "Di", "Du") or written.isupper():
        return bare
    said = []
    for part in parts:
        small = part.lower().strip("'")
        spelt = len(small) == 1 or (
            part.isupper() and not context.known(small) and len(small) <= LONGEST_UNKNOWN_ACRONYM
        )
        said.append(" ".join(small.upper()) if spelt else small)
    return " ".join(said)


_SPECIAL = "|".join(sorted(map(re.escape, SPECIAL_WORDS), key=len, reverse=True))
_LETTER = rf"[{LATIN}]"
_DOTTED = (
    r"(?:[A-Za-z]\.){2,8}(?![A-Za-z0-9])",
    r"(?:[A-Za-z]\.){1,8}[A-Za-z](?![A-Za-z0-9'])",
    r"(?:[Pp]h|[MBmb])\.[DdSs][Cc]?\.?",
)
RULES: tuple[Rule, ...] = (
    (re.compile(rf"(?<![\w.])(?:{_SPECIAL})(?![\w+#/]|'[a-z])", re.IGNORECASE), _special),
    (re.compile("|".join(_DOTTED)), _dotted),
    (re.compile(r"(?<![\w'])([A-Z])\.(?=\s|[\"')\]]|\Z)"), _initial),
    (re.compile(r"([A-Za-z]{1,8})(\.?)(?![\w'])"), _abbreviation),
    (re.compile(r"([IVXLC]{1,9})('s)?(?![\w'])"), _roman),
    (re.compile(rf"'?{_LETTER}{{1,{LONGEST_WORD}}}(?:'{_LETTER}{{1,{LONGEST_WORD}}}){{0,3}}'?"), _word),
)  # fmt: skip
