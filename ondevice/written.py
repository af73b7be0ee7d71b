"""Any Unicode text in the few characters that the verbaliser reads, and names for those that nothing says."""

import re
import unicodedata
from collections.abc import Iterable

MOST_MARKS = 4  # on one letter; more would take unicodedata quadratic time to put in order
SHOWN_CHARACTERS, SHOWN_RUNS = 20, 8  # of what a warning names

_SUPERSCRIPT = re.compile("[⁻⁰¹²³⁴-⁹]+")
_DIGITS_UP = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_AS_IT_IS = frozenset("™…–—−´¨¸·ªº℠")  # the compatibility form of these says something else
_REWRITTEN = {
    **dict.fromkeys("‘’‛`´′ʼʹ＇‚", "'"),
    **dict.fromkeys("“”„‟«»‹›″〝〞「」『』＂", '"'),
    **dict.fromkeys("‐‑‒﹣－", "-"),
    **dict.fromkeys("―⸺⸻", "—"),
    **dict.fromkeys("。｡।", "."),
    **dict.fromkeys("、،", ","),
    **{
        "؟": "?",
        "؛": ";",
        "º": "°",
        "˚": "°",
        "ª": "a",
        "№": "No.",
        "℀": "a/c",
        "⁄": "/",
        "∕": "/",
        "∶": ":",
        "µ": "μ",
    },
    **dict.fromkeys("¿¡", ""),
}
_OTHER_LETTERS = str.maketrans(
    {
        **{"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "th", "þ": "th", "ß": "ss", "ẞ": "ss", "ı": "i"},
        **{"ħ": "h", "ŋ": "ng", "ĸ": "k", "ŧ": "t", "ſ": "s", "ə": "e", "ɔ": "o", "ɛ": "e", "ƒ": "f", "ŉ": "n"},
    }
)
_KINDS = {"Cc": "control character", "Cs": "surrogate", "Co": "private use", "Cn": "unassigned", "Cf": "invisible"}
_EMOJI = ((0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F000, 0x1FAFF))


def plain(text: str) -> str:
    """`text` in compatibility form with ASCII digits, quotes and hyphens; letters keep their accents."""
    if text.isascii():
        return text
    text = _SUPERSCRIPT.sub(lambda found: "^" + found[0].translate(_DIGITS_UP), "".join(_few_marks(text)))
    return unicodedata.normalize("NFC", text).translate(_PLAIN)


def letters(word: str) -> str | None:
    """A word of Latin letters in a-z and apostrophes, accents removed; None when it has other letters."""
    if not word.isascii():
        decomposed = unicodedata.normalize("NFKD", word.lower().translate(_OTHER_LETTERS))
        word = "".join(c for c in decomposed if not unicodedata.combining(c))
    word = word.lower()
    return word if word.isascii() and word.replace("'", "").isalpha() else None


def kind(character: str) -> str:
    """What a character that cannot be spoken is: its script, 'emoji', 'symbol', 'control character', ..."""
    category = unicodedata.category(character)
    if category in _KINDS:
        return _KINDS[category]
    if character.isascii():
        return "emoticon"
    if any(low <= ord(character) <= high for low, high in _EMOJI):
        return "emoji"
    if category[0] in "LMN":
        script = unicodedata.name(character, "unknown").split()[0].split("-")[0]
        return script if script == "CJK" else script.capitalize()
    return "symbol"


def run_of_one_kind(text: str, start: int) -> int:
    """Where the characters of one kind that begin at `start` end; digits, spaces and ASCII end them too."""
    first = kind(text[start])
    end = start + 1
    while end < len(text) and not text[end].isascii() and kind(text[end]) == first:
        end += 1
    return end


def left_out(runs: Iterable[str]) -> tuple[str, ...]:
    """One warning that names what was not spoken, none for nothing: "left out: '你好' (CJK), '🙂' (emoji)"."""
    named = list(dict.fromkeys(f"{_shown(run)} ({kind(run[0])})" for run in runs))
    if not named:
        return ()
    more = f" and {len(named) - SHOWN_RUNS} more" if len(named) > SHOWN_RUNS else ""
    return (f"left out: {', '.join(named[:SHOWN_RUNS])}{more}",)


def _shown(run: str) -> str:
    if unicodedata.category(run[0]) in _KINDS:
        return " ".join(f"U+{ord(character):04X}" for character in run[:SHOWN_RUNS])
    return f"'{run[:SHOWN_CHARACTERS]}{'…' if len(run) > SHOWN_CHARACTERS else ''}'"


def _few_marks(text: str) -> Iterable[str]:
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= MOST_MARKS:
            yield character


class _Plain(dict[int, str]):
    """Translation table that works each character out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = _plain_character(chr(code))
        return self[code]


def _plain_character(character: str) -> str:
    if character in _REWRITTEN:
        return _REWRITTEN[character]
    category = unicodedata.category(character)
    if character.isspace():
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Cf" or (category[0] == "M" and unicodedata.name(character, "").startswith(("COMB", "VARIATION"))):
        return ""
    if character in _AS_IT_IS:
        return character
    compatible = unicodedata.normalize("NFKC", character)
    if "⁄" in compatible:
        return f" {compatible}".replace("⁄", "/")  # 2½ is not 21/2
    return compatible


_PLAIN = _Plain()


# For character classes of patterns: the letters that `letters` can fold.
LATIN = "A-Za-z" + "".join(c for c in map(chr, (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))) if letters(c))
