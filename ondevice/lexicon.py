"""The pronunciation lexicon: words in order and their phones, in arrays small enough for any device.

The file holds the words as one string of lines and the phones as one string of bytes, a zero between words; looking a
word up is a binary search, so nothing but the arrays is ever in memory.
"""

import json
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.files import DAMAGED
from ondevice.letter_to_sound import LetterToSound, Phones
from ondevice.phonemes import PHONES

FORMAT = 1


class Lexicon:
    """Says how known words are pronounced."""

    def __init__(self, words: npt.NDArray[np.uint8], phones: npt.NDArray[np.uint8]) -> None:
        """words: bytes of sorted lines of a-z and apostrophes; phones: places in PHONES from 1 on, a 0 after each word.

        Raises ValueError when they do not fit together.
        """
        self._words, self._phones = words.tobytes(), phones.tobytes()
        self._word_ends = np.flatnonzero(words == ord("\n")).astype(np.uint32)
        self._phone_ends = np.flatnonzero(phones == 0).astype(np.uint32)
        if len(self._word_ends) != len(self._phone_ends) or (len(phones) and int(phones.max()) > len(PHONES)):
            raise ValueError("words and phones do not fit together")

    def __len__(self) -> int:
        """Number of words."""
        return len(self._word_ends)

    def _word(self, number: int) -> bytes:
        start = int(self._word_ends[number - 1]) + 1 if number else 0
        return self._words[start : int(self._word_ends[number])]

    def _find(self, word: str) -> int:
        """The word's number, -1 when it is not here."""
        wanted = word.encode("utf-8", "replace")
        number = bisect_left(range(len(self)), wanted, key=self._word)
        return number if number < len(self) and self._word(number) == wanted else -1

    def __contains__(self, word: str) -> bool:
        return self._find(word) >= 0

    def get(self, word: str) -> Phones | None:
        """Phones of a word in small letters, or None."""
        number = self._find(word)
        if number < 0:
            return None
        start = int(self._phone_ends[number - 1]) + 1 if number else 0
        return tuple(PHONES[code - 1] for code in self._phones[start : int(self._phone_ends[number])])


def arrays(words: Mapping[str, Phones], letter_to_sound: LetterToSound, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What `load` reads: the lexicon, the letter-to-sound model and notes, as named arrays without pickle."""
    codes = {phone: code for code, phone in enumerate(PHONES, start=1)}
    ordered = sorted(words, key=str.encode)
    spelled = "".join(f"{word}\n" for word in ordered).encode("ascii")
    spoken = bytes(code for word in ordered for code in (*(codes[phone] for phone in words[word]), 0))
    notes = json.dumps({"format": FORMAT, **metadata}, ensure_ascii=False).encode()
    return {
        "metadata": np.frombuffer(notes, np.uint8),
        "words": np.frombuffer(spelled, np.uint8),
        "phones": np.frombuffer(spoken, np.uint8),
        **letter_to_sound.arrays(),
    }


def load(path: Path) -> tuple[Lexicon, LetterToSound, dict[str, Any]]:
    """The lexicon, the letter-to-sound model and the notes of a file. Raises InputError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            read = dict(file)
        notes = json.loads(read["metadata"].tobytes())
        if notes["format"] != FORMAT:
            raise InputError(f"{path}: pronunciation format {notes['format']}; expected {FORMAT}")
        return Lexicon(read["words"], read["phones"]), LetterToSound.from_arrays(read), notes
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); expected a pronunciation file"
        ) from error
    except DAMAGED as error:
        raise InputError(f"{path}: not a pronunciation file ({error})") from error
