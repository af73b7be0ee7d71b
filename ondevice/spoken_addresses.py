"""How web and e-mail addresses, user names and file names are said: 'example dot com slash about'."""

import re
from collections.abc import Iterator

from ondevice.normalize import cardinal, digits
from ondevice.spoken_rules import Answer, Context, Rule
from ondevice.spoken_tables import ADDRESS_SIGNS, words_of

LONGEST_ADDRESS = 200  # characters in one token
_SAID_AS_WORDS = frozenset(words_of("com org net info gov biz app dev shop mobi co me int mil wiki"))
_DOMAINS = words_of(
    "com org net edu gov mil int info biz io co ai app dev me tv uk us ca au nz ie de fr es it nl be ch at se "
    "no fi dk pl cz pt gr ru ua jp cn kr in br mx ar za eu xyz online site tech store shop blog cloud wiki ly "
    "gg fm"
)
_FILES = words_of(
    "txt pdf doc docx xls xlsx ppt pptx csv tsv json xml yaml yml html htm css js ts py rs go c h cpp java sh "
    "md rst jpg jpeg png gif svg bmp mp3 mp4 wav ogg flac avi mov zip tar gz tgz exe dll iso log ini cfg toml "
    "npz tflite"
)
_PIECE = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^A-Za-z0-9]")
_SCHEME = re.compile(r"(?:https?|ftp)://|mailto:", re.IGNORECASE)
SHORTEST_GUESS = 4  # letters; shorter unknown names are spelt


def _address(found: re.Match[str], context: Context) -> Answer:
    return " ".join(_pieces(_SCHEME.sub("", found[0]), context))


def _pieces(address: str, context: Context) -> Iterator[str]:
    for found in _PIECE.finditer(address.removesuffix("/")):
        piece = found[0]
        if piece.isdigit():
            yield digits(piece) if len(piece) > 2 or piece.startswith("0") else cardinal(int(piece))
        elif piece.isascii() and piece.isalpha():
            yield name(piece.lower(), context)
        else:
            yield ADDRESS_SIGNS.get(piece, "")


def name(piece: str, context: Context) -> str:
    """A known or pronounceable name as a word, any other spelt: 'github', 'W W W'."""
    if len(piece) == 1:
        return piece.upper()
    if piece in _SAID_AS_WORDS or (len(piece) > 2 and context.known(piece)):
        return piece
    if len(piece) == 2 and piece in _WORDS_OF_TWO:
        return piece
    return piece if len(piece) >= SHORTEST_GUESS and pronounceable(piece) else " ".join(piece.upper())


def pronounceable(word: str) -> bool:
    """Whether the letters look like a word's: a vowel, and no long row of consonants or of vowels."""
    return bool(re.search("[aeiouy]", word)) and not re.search("[^aeiouy]{5}|[aeiou]{4}|^[^aeiouy]{4}", word)


_WORDS_OF_TWO = frozenset(words_of("an as at be by do go he if in is it me my no of on or so to up we"))


def _handle(found: re.Match[str], context: Context) -> Answer:
    return f"at {' '.join(_pieces(found[1], context))}"


def _hashtag(found: re.Match[str], context: Context) -> Answer:
    return f"hashtag {' '.join(_pieces(found[1].replace('_', ''), context))}"


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})"
_REST = rf"(?:[/?#][^\s<>\"()\[\]{{}}|]{{0,{LONGEST_ADDRESS}}}(?<![.,;:!?']))?"
_NOT_BEFORE = r"(?<![\w.@])"
RULES: tuple[Rule, ...] = (
    (
        re.compile(
            rf"(?:https?|ftp)://[^\s<>\"()\[\]{{}}|]{{1,{LONGEST_ADDRESS}}}(?<![.,;:!?'])|"
            rf"www\.{_LABEL}(?:\.{_LABEL}){{1,5}}{_REST}",
            re.IGNORECASE,
        ),
        _address,
    ),
    (re.compile(rf"(?:mailto:)?[A-Za-z0-9][\w.+%-]{{0,63}}@{_LABEL}(?:\.{_LABEL}){{1,5}}", re.ASCII), _address),
    (
        re.compile(
            rf"{_NOT_BEFORE}{_LABEL}(?:\.{_LABEL}){{0,4}}\.(?:{'|'.join(_DOMAINS)}|{'|'.join(_FILES)})"
            rf"(?![\w-]|\.[A-Za-z]){_REST}"
        ),
        _address,
    ),
    (re.compile(r"(?<![\w@])@([A-Za-z_][A-Za-z0-9_]{1,30})(?![\w@])"), _handle),
    (re.compile(r"(?<![\w#])#([A-Za-z_][A-Za-z0-9_]{0,40})(?![\w#])"), _hashtag),
)
