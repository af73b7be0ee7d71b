"""Text as it is compared when speech recognition is scored: the same words, however they are written.

`english` follows Whisper's EnglishTextNormalizer (Radford et al. 2022, appendix C) in spirit. It differs in spelling
numbers out, since a speech model writes what it hears, and in leaving contractions, fillers and British or American
spelling alone. Every normaliser takes any text, and normalising twice is the same as once.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ondevice.errors import InputError

LARGEST = 10**12 - 1  # longer numbers are read digit by digit
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_POWERS = {"billion": 10**9, "million": 10**6, "thousand": 1000, "hundred": 100}
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}


def cardinal(number: int) -> str:
    """Words of 0..LARGEST: 1234 -> 'one thousand two hundred thirty four'. Raises ValueError outside."""
    if not 0 <= number <= LARGEST:
        raise ValueError(f"number {number} is outside 0..{LARGEST}")
    if number < 20:
        return (*_DIGITS, *_TEENS)[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f" {_DIGITS[number % 10]}" if number % 10 else "")
    name, power = next((name, power) for name, power in _POWERS.items() if number >= power)
    rest = number % power
    return f"{cardinal(number // power)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """Words of the ordinal: 43 -> 'forty third'. Same range as `cardinal`."""
    head, space, last = cardinal(number).rpartition(" ")
    if last == "twelve":
        last = "twelfth"
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last = _ORDINALS.get(last, last + "th")
    return head + space + last


def year(number: int) -> str:
    """Words of a year in 1000..9999 in pairs: 1862 -> 'eighteen sixty two', 1905 -> 'nineteen o five'."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:  # 2007, 1000: not read in pairs
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'o ' if rest < 10 else ''}{cardinal(rest)}"


def digits(text: str) -> str:
    """Each ASCII digit of `text` as a word: '07' -> 'zero seven'."""
    return " ".join(_DIGITS[int(character)] for character in text if character in "0123456789")


_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
_NUMBER = re.compile(
    r"(?P<minus>(?<!\S)-)?(?P<money>[$£€])?"
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
    r"(?:(?P<ordinal>st|nd|rd|th)(?!\w)|:(?P<minutes>[0-5][0-9])(?![0-9])|(?P<fraction>(?:\.[0-9]+)+))?"
    r"(?P<plural>'?s(?!\w))?(?P<percent>\s?%)?(?P<scale>\s(?:thousand|million|billion|trillion)(?!\w))?"
)


def _say(found: re.Match[str]) -> str:
    whole, fraction = found["whole"].replace(",", ""), found["fraction"] or ""
    if found["money"]:
        words = _say_money(found["money"], whole, fraction, (found["scale"] or "").strip())
    else:
        words = _say_whole(found, whole) + _say_fraction(fraction)
        if minutes := int(found["minutes"] or 0):
            words += f" {'o ' if minutes < 10 else ''}{cardinal(minutes)}"
        words += found["scale"] or ""
        if found["plural"]:
            words = words[:-1] + "ies" if words.endswith("y") else words + "s"
    return f" {'minus ' if found['minus'] else ''}{words}{' percent' if found['percent'] else ''} "


def _say_whole(found: re.Match[str], whole: str) -> str:
    if len(whole) > len(str(LARGEST)) or (len(whole) > 1 and whole.startswith("0") and not found["ordinal"]):
        return digits(whole)
    number = int(whole)
    if found["ordinal"]:
        return ordinal(number)
    bare = whole == found["whole"] and not (found["minutes"] or found["fraction"] or found["percent"])
    if bare and (1100 <= number <= 1999 or 2010 <= number <= 2099):  # what four digits mean most of the time
        return year(number)
    return cardinal(number)


def _say_fraction(fraction: str) -> str:
    return "".join(f" point {digits(part)}" for part in fraction.split(".")[1:])


def _say_money(sign: str, whole: str, fraction: str, scale: str) -> str:
    """$2.50 -> 'two dollars and fifty cents', $1.5 million -> 'one point five million dollars'."""
    one, many, small_one, small_many = _MONEY[sign]
    amount = cardinal(int(whole)) if len(whole) <= len(str(LARGEST)) else digits(whole)
    if scale or (fraction and not re.fullmatch(r"\.[0-9]{2}", fraction)):
        return " ".join(f"{amount}{_say_fraction(fraction)} {scale} {many}".split())
    cents = int(fraction[1:] or 0)
    parts = [f"{amount} {one if amount == 'one' else many}"] if amount != "zero" or not cents else []
    if cents:
        parts.append(f"{cardinal(cents)} {small_one if cents == 1 else small_many}")
    return " and ".join(parts)


def _say_part(found: re.Match[str]) -> str:
    """1/2 -> 'one half', 2 3/4 -> 2 'and three quarters'; 9/2 is more likely a date and stays."""
    after, above, below = found[1], int(found[2]), int(found[3])
    if not 0 < above < below:
        return found[0]
    part = {2: "half", 4: "quarter"}.get(below, ordinal(below))
    if above != 1:
        part = "halves" if below == 2 else part + "s"
    number = "a" if after and above == 1 else cardinal(above)
    return f"{f'{after} and' if after else ''} {number} {part} "


# Short forms written with or without a full stop, and those that are other words without one.
ABBREVIATIONS: Mapping[str, str] = MappingProxyType(
    {
        "mr": "mister", "mrs": "missus", "messrs": "messieurs", "dr": "doctor", "st": "saint", "prof": "professor",
        "capt": "captain", "lt": "lieutenant", "lieut": "lieutenant", "sgt": "sergeant", "jr": "junior",
        "sr": "senior", "esq": "esquire", "etc": "et cetera", "vs": "versus", "ok": "okay",
    }
)  # fmt: skip
DOTTED_ABBREVIATIONS: Mapping[str, str] = MappingProxyType(
    {
        "gen": "general", "col": "colonel", "rev": "reverend", "hon": "honorable", "gov": "governor",
        "sen": "senator", "rep": "representative", "pres": "president", "mt": "mount", "vol": "volume",
    }
)  # fmt: skip

_LETTER = r"[^\W\d_]"
_BARE = "|".join(ABBREVIATIONS)
_DOTTED = "|".join(DOTTED_ABBREVIATIONS)
_TEN_UP = "|".join((*_TEENS, *_TENS))
_NUMBER_WORDS = "|".join((*_DIGITS, *_TEENS, *_TENS, *_POWERS))
_Rules = tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]
_WRITTEN: _Rules = (  # on folded text with its punctuation
    (re.compile(r"\[[^\[\]]*\]|<[^<>]*>"), " "),  # [laughter], <unk>
    (re.compile(r"&"), " and "),
    (re.compile(rf"(?<!{_LETTER})no\.(?=\s?[0-9])"), "number "),
    (re.compile(rf"(?<=[0-9])\s?([ap])\.?m(?!{_LETTER})"), r" \1 m"),
    (re.compile(r"(?<![^\s$£€-])\.(?=[0-9])"), "0."),
    (re.compile(r"(?:(?<![0-9/⁄.])([0-9]+) +)?(?<![0-9/⁄.])([0-9])[/⁄]([2-9]|10)(?![0-9/⁄])"), _say_part),
    (_NUMBER, _say),
    (re.compile(rf"(?<!{_LETTER})({_BARE})(?!{_LETTER})\.?"), lambda found: f"{ABBREVIATIONS[found[1]]} "),
    (re.compile(rf"(?<!{_LETTER})({_DOTTED})\.(?=\s+{_LETTER})"), lambda found: DOTTED_ABBREVIATIONS[found[1]]),
    (re.compile(r"[^\w']|_|''+"), " "),
    (re.compile(rf"(?<={_LETTER})\s+('(?:s|d|m|ll|re|ve))(?![\w'])"), r"\1"),  # some corpora print them apart
)
_SPOKEN: _Rules = (  # on words with single spaces; these are written in more than one way
    (re.compile(r"(?<=[a-z]) (?=n't\b)"), ""),
    (re.compile(rf"\b({'|'.join(_POWERS)}) and (?=(?:{_NUMBER_WORDS})\b)"), r"\1 "),
    (re.compile(rf"\b({_TEN_UP}) oh (?=(?:{'|'.join(_DIGITS[1:])})\b)"), r"\1 o "),
    (re.compile(r"\bper cent\b"), "percent"),
)

_PLAIN = str.maketrans({**dict.fromkeys("‘’‛´`′ʼʹ＇", "'"), **dict.fromkeys("−‐‑‒–—", "-")})
_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
_VULGAR = re.compile(r"(?=[¼-¾⅐-⅞])")  # 2½ is not 21/2


def english(text: str) -> str:
    """English words as they are spoken: small letters without accents, apostrophes inside words, single spaces.

    Numbers, sums of money, common abbreviations and & are spelled out, [notes] and <marks> dropped. Letters of other
    scripts stay, so that they count as errors.
    """
    text = unicodedata.normalize("NFD", _fold(text))
    text = "".join(_decimal(character) for character in text if not unicodedata.category(character).startswith("M"))
    text = _apply(_WRITTEN, unicodedata.normalize("NFC", text).translate(_LETTERS))
    return _apply(_SPOKEN, " ".join(_words(text.split())))


def basic(text: str) -> str:
    """Words of any language: small letters, marks, digits, apostrophes inside words, single spaces."""
    kept = (c if c == "'" or c.isalnum() or unicodedata.category(c).startswith("M") else " " for c in _fold(text))
    return " ".join(_words("".join(kept).replace("''", " ").split()))


def none(text: str) -> str:
    """The text as it is, with single spaces."""
    return " ".join(text.split())


NORMALIZERS: Mapping[str, Callable[[str], str]] = MappingProxyType({"none": none, "basic": basic, "english": english})


def normalizer(name: str) -> Callable[[str], str]:
    """The normaliser called `name`. Raises InputError if there is none."""
    if name not in NORMALIZERS:
        raise InputError(f"normalisation {name!r} is not known; expected one of {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]


def _fold(text: str) -> str:
    """Small letters in Unicode's compatibility form (NFKC_Casefold), plain apostrophes and hyphens."""
    shown = (character for character in text if unicodedata.category(character) != "Cf")  # no soft hyphens
    text = _VULGAR.sub(" ", "".join(shown))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).casefold())
    return unicodedata.normalize("NFKC", folded.casefold()).translate(_PLAIN)


def _decimal(character: str) -> str:
    return str(unicodedata.decimal(character, character))  # Arabic or Devanagari digits as ours


def _apply(rules: _Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _words(words: Iterable[str]) -> Iterable[str]:
    """Words without apostrophes at their ends, where they cannot be told from quotation marks."""
    return (bare for word in words if (bare := word.strip("'")))
