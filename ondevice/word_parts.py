"""Pronunciations of words a lexicon lacks from words it has: endings, contractions and compounds.

Each rule here is right about as often as the letter-to-sound model on CMUdict's own words, or more often; prefixes and
compounds of short words were not, and names that only look like compounds are why.
"""

from collections.abc import Callable, Iterator

from ondevice.letter_to_sound import Phones

Lookup = Callable[[str], Phones | None]

_SIBILANTS = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))
_VOICELESS = frozenset(("P", "T", "K", "F", "TH", "S", "SH", "CH"))
_CONTRACTIONS = {
    **{"'ll": ("AH0", "L"), "'re": ("ER0",), "'ve": ("AH0", "V"), "'m": ("M",), "n't": ("AH0", "N", "T")},
    "'n": ("AH0", "N"),  # more'n
}
_ELIDED = {"d": ("D",), "o": ("OW0",), "l": ("L",), "t": ("T",), "y": ("Y",)}  # d'you, O'Leary
_BRITISH = (
    *(("our", "or"), ("ise", "ize"), ("isi", "izi"), ("isa", "iza"), ("yse", "yze"), ("ence", "ense"), ("tre", "ter")),
    *(("ogue", "og"), ("ae", "e"), ("oe", "e")),
)
_ENDINGS = {
    **{"ness": ("N", "AH0", "S"), "less": ("L", "AH0", "S"), "ful": ("F", "AH0", "L"), "ly": ("L", "IY0")},
    "able": ("AH0", "B", "AH0", "L"),
    **{
        "ers": ("ER0", "Z"),
        "er": ("ER0",),
        "ing": ("IH0", "NG"),
        "ings": ("IH0", "NG", "Z"),
        "ment": ("M", "AH0", "N", "T"),
    },
}
SHORTEST_STEM, SHORTEST_PART = 3, 5  # letters
_OPEN_ENDS, _OPEN_STARTS = "aiou", "aeiouy"  # of letters between which two words are seldom joined
MOST_ENDINGS = 3  # on one word


def plural(phones: Phones) -> Phones:
    """The word with -s or 's: 'dogz', 'cats', 'boxiz'."""
    if phones[-1] in _SIBILANTS:
        return (*phones, "IH0", "Z")
    return (*phones, "S" if phones[-1] in _VOICELESS else "Z")


def past(phones: Phones) -> Phones:
    """The word with -ed: 'playd', 'walkt', 'wantid'."""
    if phones[-1] in ("T", "D"):
        return (*phones, "IH0", "D")
    return (*phones, "T" if phones[-1] in _VOICELESS else "D")


def by_parts(word: str, lookup: Lookup, depth: int = MOST_ENDINGS) -> Phones | None:
    """Phones of a word made of known ones, or None."""
    return (
        _contraction(word, lookup, depth)
        or _ending(word, lookup, depth)
        or _respelled(word, lookup)
        or compound(word, lookup)
    )


def _stem(word: str, lookup: Lookup, depth: int) -> Phones | None:
    return lookup(word) or (by_parts(word, lookup, depth - 1) if depth > 1 else None)


def _respelled(word: str, lookup: Lookup) -> Phones | None:
    """A British spelling as its American one: 'colour', 'organised', 'defence'; a dropped g: 'doin'."""
    if word.endswith("in") and (found := lookup(word + "g")) and found[-1] == "NG":
        return (*found[:-1], "N")
    return next((found for old, new in _BRITISH if old in word and (found := lookup(word.replace(old, new)))), None)


def _contraction(word: str, lookup: Lookup, depth: int) -> Phones | None:
    if word.endswith("'s") and (stem := _stem(word[:-2], lookup, depth)):
        return plural(stem)
    if word.endswith("'d") and (stem := _stem(word[:-2], lookup, depth)):
        return (*stem, "AH0", "D") if stem[-1] in ("T", "D") else (*stem, "D")
    if word.endswith("'"):
        return _stem(word[:-1], lookup, depth)
    head, apostrophe, rest = word.partition("'")
    if apostrophe and head in _ELIDED and (stem := _stem(rest, lookup, depth)):
        return (*_ELIDED[head], *stem)
    for ending, phones in _CONTRACTIONS.items():
        if word.endswith(ending) and (stem := _stem(word.removesuffix(ending), lookup, depth)):
            return (*stem, *phones)
    return None


def _ending(word: str, lookup: Lookup, depth: int) -> Phones | None:
    if "'" in word:
        return None
    many = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    if many and (stem := _first(_singular(word), lookup, depth)):
        return plural(stem)
    if word.endswith("ed") and (stem := _first(_bare(word[:-2]), lookup, depth)):
        return past(stem)
    for ending, phones in _ENDINGS.items():
        if word.endswith(ending) and (stem := _first(_before(word, ending), lookup, depth)):
            return (*stem[: -1 if stem[-1] == phones[0] == "L" else None], *phones)  # real, really
    return None


def _singular(word: str) -> Iterator[str]:
    yield word[:-1]
    if word.endswith("es"):
        yield word[:-2]
    if word.endswith("ies"):
        yield word[:-3] + "y"


def _before(word: str, ending: str) -> Iterator[str]:
    """The stems an ending may follow."""
    start = word.removesuffix(ending)
    if ending[0] in _OPEN_STARTS:
        yield from _bare(start)
        return
    yield start
    if start.endswith("i"):
        yield start[:-1] + "y"


def _bare(start: str) -> Iterator[str]:
    """What a word may be before an ending with a vowel: hop(p), bak(e), tr(i) with y."""
    if len(start) > 2 and start[-1] == start[-2]:
        yield start[:-1]
    else:
        yield start + "e"
    yield start
    if start.endswith("i"):
        yield start[:-1] + "y"


def _first(stems: Iterator[str], lookup: Lookup, depth: int) -> Phones | None:
    return next((found for stem in stems if len(stem) >= SHORTEST_STEM and (found := _stem(stem, lookup, depth))), None)


def compound(word: str, lookup: Lookup) -> Phones | None:
    """Two known words as one, the stress on the first: 'touch' + 'screen'. The most even parting is taken."""
    middle = len(word) // 2
    for cut in sorted(range(SHORTEST_PART, len(word) - SHORTEST_PART + 1), key=lambda cut: abs(cut - middle)):
        if word[cut] in _OPEN_STARTS or word[cut - 1] in _OPEN_ENDS or word[cut - 1] == word[cut]:
            continue
        first, second = lookup(word[:cut]), lookup(word[cut:])
        if first and second:
            return (*first, *(phone[:-1] + "2" if phone.endswith("1") else phone for phone in second))
    return None
