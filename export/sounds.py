"""The lexicon of the second pass: how the language model's words sound, and which pieces write them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.lexicon import read_dictionary
from ondevice.errors import InputError
from ondevice.pronounce import Pronouncer
from ondevice.sound_lexicon import FIRST_PHONE, Runs, SoundLexicon


def sound_lexicon(
    words: Sequence[str], encode: Callable[[str], list[int]], phones: Sequence[str], dictionary: Path,
    pronunciation: Path | None = None,
) -> SoundLexicon:  # fmt: skip
    """All pronunciations in a CMUdict file of each word; those of others as a pronunciation file says, if there is one.

    phones: those of the recogniser's phone head, in its order, without stress. Raises InputError when the dictionary
    has others.
    """
    number = {phone: n for n, phone in enumerate(phones, start=FIRST_PHONE)}
    known, pronouncer = read_dictionary(dictionary), Pronouncer(pronunciation) if pronunciation else None
    found: set[tuple[tuple[int, ...], int]] = set()
    for word, text in enumerate(words):
        said = known.get(text) or ([pronouncer.word(text)] if pronouncer else [])
        for sounds in said:
            bare = [sound.rstrip("012") for sound in sounds]
            if unknown := set(bare) - set(number):
                raise InputError(f"{dictionary}: the recogniser was trained without the phone {min(unknown)!r}")
            if bare:
                found.add((tuple(number[sound] for sound in bare), word))
    ordered = sorted(found)
    return SoundLexicon(
        phones, np.array([word for _, word in ordered], np.int32), Runs.of(sounds for sounds, _ in ordered),
        Runs.of(map(encode, words)), pronouncer.letter_to_sound if pronouncer else None,
    )  # fmt: skip
