"""Text in lines as chunks that end where a sentence surely does, and long sentences in parts a voice can say.

Nothing waits for the whole text: what surely ends a sentence is passed on before more is read.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from ondevice.phonemes import GAP, PUNCTUATION, SENTENCE_ENDS, STRENGTHS
from ondevice.spoken_tables import (
    BARE_ABBREVIATIONS,
    MONTH_NUMBERS,
    NAME_ABBREVIATIONS,
    NUMBER_ABBREVIATIONS,
    STOPPED_ABBREVIATIONS,
)
from ondevice.verbalize import MOST_ESCAPED

LONGEST_PART = 8_192  # characters of a line taken in at a time
LONGEST_CHUNK = 2_000  # characters of lines without a sure end before they are passed on anyway
FEWEST_SYMBOLS = 40  # of the limit of a sentence: room for any word
_CUT_COSTS = {",": 0.2, "-": 0.1, ":": 0.0, ";": 0.0, ".": 0.0, "!": 0.0, "?": 0.0}  # as parts of the limit
_CUT_AT_WORD_COST = 1.0
_END = re.compile(r"(\S*?)[.!?…]+[\"'”’)\]]*\s*\Z")
_END_WITHIN = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s+[^\sa-z]|\s*\Z)")
_OPEN_ESCAPE = re.compile(rf"\[(?:\[(?:[^\[\]]{{0,{MOST_ESCAPED}}}\]?)?)?\Z")
_SHORT_FORMS = frozenset(
    (
        *BARE_ABBREVIATIONS,
        *STOPPED_ABBREVIATIONS,
        *NAME_ABBREVIATIONS,
        *NUMBER_ABBREVIATIONS,
        *MONTH_NUMBERS,
        "sat",
        "sun",
    )
)
_BULLET = re.compile(r"\s*(?:[-*•‣◦]|[0-9]{1,3}\))\s")


def text_parts(blocks: Iterable[str]) -> Iterator[str]:
    """The text in lines, or what there is of one where a sentence surely ends; "" among the blocks is a pause.

    The longest lines come in parts that end between words where they can, never in [[phones]]: no text is waited for
    without end.
    """
    rest = ""
    for block in blocks:
        rest += block
        while cut := _cut(rest, paused=not block):
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _cut(text: str, paused: bool) -> int:
    """Where the next part ends; 0: more text is needed."""
    if line := text.find("\n", 0, LONGEST_PART) + 1:
        return line
    if len(text) >= LONGEST_PART:
        part = text[:LONGEST_PART]
        part = part[: max(part.rfind(" "), part.rfind("\t")) + 1 or None]
        inside = _OPEN_ESCAPE.search(part)
        return inside.start() if inside and inside.start() else len(part)
    ends = [found.end() for found in _END_WITHIN.finditer(text) if paused or found.end() < len(text.rstrip())]
    return next((end for end in reversed(ends) if surely_ends(text[:end][-100:])), 0)


def chunks(lines: Iterable[str]) -> Iterator[str]:
    """The lines joined by spaces, cut at empty lines, before bullets, and after lines that end a sentence."""
    kept: list[str] = []
    length = 0
    for line in chain.from_iterable(line.splitlines() or [""] for line in lines):
        bare = line.strip()
        if kept and (not bare or _BULLET.match(line)):
            yield " ".join(kept)
            kept, length = [], 0
        if bare:
            kept.append(bare)
            length += len(bare)
        if kept and (surely_ends(bare[-100:]) or length > LONGEST_CHUNK):
            yield " ".join(kept)
            kept, length = [], 0
    if kept:
        yield " ".join(kept)


def surely_ends(line: str) -> bool:
    """Whether a sentence ends with the line, as after an abbreviation it may not."""
    found = _END.search(line)
    if not found:
        return False
    last = found[1].lstrip("\"'“‘([").lower()
    return "." not in last and len(last) != 1 and last not in _SHORT_FORMS


@dataclass(frozen=True, slots=True)
class Piece:
    """A spoken word or a punctuation mark of a sentence."""

    symbols: tuple[str, ...]
    token: int  # place of the token it belongs to

    @property
    def is_mark(self) -> bool:
        """Whether it is punctuation."""
        return self.symbols[0] in PUNCTUATION


def tidy(pieces: Iterable[Piece]) -> list[Piece]:
    """The pieces without marks before the first word, and with the strongest of marks that follow each other."""
    kept: list[Piece] = []
    for piece in pieces:
        if not piece.symbols:
            continue
        if not piece.is_mark:
            kept.append(piece)
        elif kept and kept[-1].is_mark:
            kept[-1] = max(kept[-1], piece, key=lambda p: STRENGTHS[p.symbols[0]])
        elif kept:
            kept.append(piece)
    return kept


def finish(pieces: list[Piece], ends: bool = True) -> list[Piece]:
    """A sentence's pieces with a mark that ends it, a full stop unless there is ! or ?; with any mark if not `ends`."""
    if not pieces or (pieces[-1].is_mark and (not ends or pieces[-1].symbols[0] in SENTENCE_ENDS)):
        return pieces
    mark = Piece(("." if ends else ",",), pieces[-1].token)
    return [*(pieces[:-1] if pieces[-1].is_mark else pieces), mark]


def parts(pieces: Sequence[Piece], most_symbols: int) -> Iterator[list[Piece]]:
    """The tidied pieces of a sentence in parts of at most `most_symbols`, cut at marks that lie well, else at words."""
    pieces = [short for piece in pieces for short in _short(piece, most_symbols - 1)]
    while pieces:
        ends = _ends(pieces, most_symbols)
        if len(ends) == len(pieces) and ends[-1] <= most_symbols:
            yield list(pieces)
            return
        total = sum(len(piece.symbols) + 1 for piece in pieces[: 4 * most_symbols])
        target = max(total / -(-total // most_symbols), most_symbols / 2)
        best = min(
            (place for place in range(1, len(ends)) if ends[place - 1] < most_symbols and not pieces[place].is_mark),
            key=lambda place: abs(ends[place - 1] - target) + most_symbols * _cost(pieces[place - 1]),
            default=1,
        )
        part = list(pieces[:best])
        yield part if part[-1].is_mark else [*part, Piece((",",), part[-1].token)]
        pieces = pieces[best:]


def _cost(piece: Piece) -> float:
    return _CUT_COSTS[piece.symbols[0]] if piece.is_mark else _CUT_AT_WORD_COST


def _ends(pieces: Sequence[Piece], most_symbols: int) -> list[int]:
    """Where each piece ends in symbols, up to the first that ends beyond the limit."""
    ends: list[int] = []
    for piece in pieces:
        gap = bool(ends) and not piece.is_mark
        ends.append((ends[-1] if ends else 0) + gap + len(piece.symbols))
        if ends[-1] > most_symbols:
            break
    return ends


def _short(piece: Piece, most: int) -> Iterator[Piece]:
    for start in range(0, len(piece.symbols), most):
        yield replace(piece, symbols=piece.symbols[start : start + most])


def spell(pieces: Sequence[Piece]) -> tuple[tuple[str, ...], dict[int, tuple[int, int]]]:
    """The symbols of the pieces, a gap before every word but the first, and the span of each token's words."""
    symbols: list[str] = []
    spans: dict[int, tuple[int, int]] = {}
    for piece in pieces:
        if symbols and not piece.is_mark:
            symbols.append(GAP)
        start = len(symbols)
        symbols += piece.symbols
        if not piece.is_mark:
            spans[piece.token] = spans.get(piece.token, (start, 0))[0], len(symbols)
    return tuple(symbols), spans
