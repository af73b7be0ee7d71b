"""Word pieces to text and words (SentencePiece, Kudo and Richardson 2018); needs only the list of pieces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"  # "▁", SentencePiece's mark for the space before a word
UNKNOWN = "\N{DOUBLE QUESTION MARK}"  # "⁇", what SentencePiece prints for <unk>
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class WordSpan:
    """A word and the positions [start, end) of its tokens in the token sequence."""

    text: str
    start: int
    end: int


class Pieces:
    """The token inventory of a model."""

    def __init__(self, pieces: Sequence[str], blank: int = 0) -> None:
        self.pieces = tuple(pieces)
        self.blank = blank
        self._bytes = [int(m[1], 16) if (m := _BYTE.fullmatch(p)) else None for p in self.pieces]
        self._surface = [self._surface_of(i) for i in range(len(self.pieces))]
        self.starts_word = tuple(text.startswith(WORD_START) for text in self._surface)
        self._spelling = {
            text: i
            for i, text in reversed(list(enumerate(self._surface)))
            if text and i != blank and self._bytes[i] is None and UNKNOWN not in text
        }
        self._longest = max(map(len, self._spelling), default=0)

    def __len__(self) -> int:
        return len(self.pieces)

    def surface(self, token: int) -> str:
        """What a token writes, with WORD_START for a space; "" for the blank and other control pieces."""
        return self._surface[token]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of a token sequence, words separated by one space."""
        return " ".join(span.text for span in self.words(tokens))

    def words(self, tokens: Sequence[int]) -> list[WordSpan]:
        """The words of a token sequence in order; tokens that write nothing make no words."""
        spans: list[WordSpan] = []
        start = 0
        for end in range(1, len(tokens) + 1):
            if end == len(tokens) or WORD_START in self._surface[tokens[end]]:
                # One piece may hold several words ("▁of▁the"): they share its position.
                texts = self._join(tokens[start:end]).split(WORD_START)
                spans += [WordSpan(text, start, end) for text in texts if text]
                start = end
        return spans

    def spell(self, text: str) -> list[int] | None:
        """The shortest token sequence that writes `text` (with WORD_START marks), or None."""
        best: list[tuple[int, int, int] | None] = [(0, -1, -1)] + [None] * len(text)  # (pieces, token, from)
        for end in range(1, len(text) + 1):
            for start in range(max(0, end - self._longest), end):
                before, token = best[start], self._spelling.get(text[start:end])
                if before is not None and token is not None:
                    now = best[end]
                    if now is None or before[0] + 1 < now[0]:
                        best[end] = (before[0] + 1, token, start)
        tokens: list[int] = []
        end = len(text)
        while end > 0:
            entry = best[end]
            if entry is None:
                return None
            tokens.append(entry[1])
            end = entry[2]
        return tokens[::-1]

    def _surface_of(self, token: int) -> str:
        piece = self.pieces[token]
        if token == self.blank:
            return ""
        if piece == "<unk>":
            return WORD_START + UNKNOWN
        if piece in ("<s>", "</s>", "<pad>", "<blk>", "<blank>"):
            return ""
        return piece

    def _join(self, tokens: Sequence[int]) -> str:
        """Surfaces joined; runs of byte pieces (<0xE2>) become the UTF-8 characters they spell."""
        parts: list[str] = []
        run = bytearray()
        for token in tokens:
            byte = self._bytes[token]
            if byte is not None:
                run.append(byte)
                continue
            if run:
                parts.append(run.decode("utf-8", "replace"))
                run.clear()
            parts.append(self._surface[token])
        if run:
            parts.append(run.decode("utf-8", "replace"))
        return "".join(parts)
