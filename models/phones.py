"""Phones of a sentence by CMUdict, for the auxiliary loss that teaches the encoder sounds before spelling."""

import gzip
import re
from pathlib import Path

BLANK = 0
_STRESS = re.compile(r"\d")


class Lexicon:
    """Word -> phone numbers (1 and up; 0 is the CTC blank), from a CMUdict file, gzipped or not."""

    def __init__(self, path: Path) -> None:
        opener = gzip.open if path.suffix == ".gz" else open
        words: dict[str, list[str]] = {}
        with opener(path, "rt", encoding="utf-8") as file:
            for line in file:
                word, _, rest = line.split(" #")[0].strip().partition(" ")
                if rest and "(" not in word:  # the first pronunciation of each word
                    words[word.lower()] = _STRESS.sub("", rest).split()
        self.phones = sorted({p for phones in words.values() for p in phones})
        number = {phone: i + 1 for i, phone in enumerate(self.phones)}
        self._words = {word: [number[p] for p in phones] for word, phones in words.items()}

    def __len__(self) -> int:
        """Number of phones, the blank included."""
        return len(self.phones) + 1

    def __call__(self, text: str) -> list[int]:
        """Phones of the sentence, or nothing when one of its words is unknown."""
        found = [self._lookup(word) for word in text.split()]
        return [] if any(f is None for f in found) else [p for f in found for p in f]

    def _lookup(self, word: str) -> list[int] | None:
        known = self._words.get(word) or self._words.get(word.replace("'", ""))
        if known is None and word.endswith("'s") and (stem := self._words.get(word[:-2])):
            known = [*stem, self._words["zoos"][-1]]
        return known
