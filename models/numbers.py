"""Numbers as a reader says them: cardinals, ordinals, years, Roman numerals, clock times and sums of money.

Everything here returns words in the training alphabet: lower case a-z, single spaces, no hyphens, no "and".
"""

import re

from ondevice.normalize import LARGEST, cardinal, digits, ordinal, year

__all__ = ["cardinal", "digits", "ordinal", "roman_value", "spell_numbers", "words_of", "year"]


def words_of(line: str) -> tuple[str, ...]:
    """The words of a line, for tables that read better as one."""
    return tuple(line.split())


_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
_ROMAN = re.compile(r"(?=[ivxlcdm])m{0,3}(cm|cd|d?c{0,3})(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})", re.IGNORECASE)
FIRST_SPOKEN_YEAR, LAST_SPOKEN_YEAR = 1100, 1999  # four bare digits in this range are read in pairs


def roman_value(numeral: str) -> int | None:
    """Value of a well-formed Roman numeral in either case, or None."""
    if not _ROMAN.fullmatch(numeral):
        return None
    digits = [_ROMAN_DIGITS[letter] for letter in numeral.lower()]
    following = [*digits[1:], 0]
    return sum(-digit if digit < after else digit for digit, after in zip(digits, following, strict=True))


_UNITS = {"$": ("dollar", "dollars"), "£": ("pound", "pounds")}
_TOKEN = re.compile(
    r"(?P<money>[$£])?(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
    r"(?:(?P<ordinal>st|nd|rd|th|d)\b|:(?P<minutes>[0-5][0-9])\b|\.(?P<fraction>[0-9]+)|(?P<percent>\s?%))?",
    re.IGNORECASE | re.ASCII,
)


def _say(match: re.Match[str]) -> str:
    """Words of one number token; numbers too large to read come back unchanged, for the caller to refuse."""
    whole = int(match["whole"].replace(",", ""))
    if whole > LARGEST or (match["fraction"] and match["money"] and len(match["fraction"]) != 2):
        return match[0]
    if match["ordinal"]:
        words = ordinal(whole)
    elif match["minutes"]:
        minutes = int(match["minutes"])
        words = cardinal(whole) + (f" {'o ' if minutes < 10 else ''}{cardinal(minutes)}" if minutes else "")
    elif match["money"]:
        one, many = _UNITS[match["money"]]
        words = f"{cardinal(whole)} {one if whole == 1 else many}"
        if match["fraction"] and int(match["fraction"]):
            words += f" {cardinal(int(match['fraction']))}"
    elif match["fraction"]:
        words = f"{cardinal(whole)} point {digits(match['fraction'])}"
    elif match["percent"]:
        words = f"{cardinal(whole)} per cent"
    elif FIRST_SPOKEN_YEAR <= whole <= LAST_SPOKEN_YEAR and "," not in match["whole"] and whole % 100:
        words = year(whole)
    elif match["whole"].startswith("0") and len(match["whole"]) > 1:
        words = digits(match["whole"])
    else:
        words = cardinal(whole)
    return f" {words} "


def spell_numbers(text: str) -> str:
    """`text` with every readable number replaced by its words; the rest is untouched."""
    return _TOKEN.sub(_say, text)
