"""Numbers as a reader says them: cardinals, ordinals, years, Roman numerals, clock times and sums of money.

Everything here returns words in the training alphabet: lower case a-z, single spaces, no hyphens, no "and".
"""

import re


def words_of(line: str) -> tuple[str, ...]:
    """The words of a line, for tables that read better as one."""
    return tuple(line.split())


_ONES = words_of(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = words_of("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
_SCALES = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
_ROMAN = re.compile(r"(?=[ivxlcdm])m{0,3}(cm|cd|d?c{0,3})(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})", re.IGNORECASE)
LARGEST = 10**12 - 1
FIRST_SPOKEN_YEAR, LAST_SPOKEN_YEAR = 1100, 1999  # four bare digits in this range are read in pairs


def cardinal(number: int) -> str:
    """Words of 0..LARGEST: 1234 -> 'one thousand two hundred thirty four'. Raises ValueError outside."""
    if not 0 <= number <= LARGEST:
        raise ValueError(f"number {number} is outside 0..{LARGEST}")
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    for scale, name in _SCALES:
        if number >= scale:
            high, low = divmod(number, scale)
            return f"{cardinal(high)} {name}" + (f" {cardinal(low)}" if low else "")
    raise AssertionError("the scales reach down to 100")


def ordinal(number: int) -> str:
    """Words of the ordinal: 43 -> 'forty third'. Same range as `cardinal`."""
    *head, last = cardinal(number).split()
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return " ".join([*head, last])


def year(number: int) -> str:
    """Words of a year in 1000..9999 in pairs: 1862 -> 'eighteen sixty two', 1905 -> 'nineteen o five'."""
    high, low = divmod(number, 100)
    if high % 10 == 0 and low < 10:  # 2007, 1000: not read in pairs
        return cardinal(number)
    if low == 0:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'o ' if low < 10 else ''}{cardinal(low)}"


def roman_value(numeral: str) -> int | None:
    """Value of a well-formed Roman numeral in either case, or None."""
    if not _ROMAN.fullmatch(numeral):
        return None
    digits = [_ROMAN_DIGITS[letter] for letter in numeral.lower()]
    following = [*digits[1:], 0]
    return sum(-digit if digit < after else digit for digit, after in zip(digits, following, strict=True))


def digits(text: str) -> str:
    """Each decimal digit of `text` as a word: '07' -> 'zero seven'."""
    return " ".join(_ONES[int(character)] for character in text if character in "0123456789")


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
