"""Pronunciations of words no lexicon knows: the likeliest sequence of graphones (letters with their phones).

A graphone joins one or two letters with up to two phones. An n-gram model scores sequences of them (Bisani and
Ney 2008); a beam search over the letters finds the best one.

Legend: `B` hypotheses, `V` graphones, `C` candidates for the next letters.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.lm import LmState, NgramLm
from ondevice.phonemes import PHONES, is_vowel

BOS, END, FIRST = 0, 1, 2  # ids before those of the graphones
BEAM = 20
MOST_PHONES = 2  # of a graphone
Phones = tuple[str, ...]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A pronunciation of the first letters."""

    score: float  # natural log
    state: LmState
    stressed: bool  # has its primary stress
    scores: Float32  # [V] of what may follow
    phones: Phones


class LetterToSound:
    """Says how a word is pronounced by its letters."""

    def __init__(self, lm: NgramLm, letters: Sequence[str], phones: Sequence[Phones]) -> None:
        """The graphones FIRST, FIRST + 1, ... of `lm` join letters[0] with phones[0], and so on.

        Raises ValueError when there are more or fewer of them than the model scores.
        """
        if not len(letters) == len(phones) == lm.symbols - FIRST:
            raise ValueError(f"{len(letters)} spellings and {len(phones)} sounds, not {lm.symbols - FIRST}")
        self.lm = lm
        self.letters, self.phones = tuple(letters), tuple(phones)
        by_letters = defaultdict(list)
        for number, spelling in enumerate(self.letters, start=FIRST):
            by_letters[spelling].append(number)
        self._candidates = {spelling: np.array(numbers) for spelling, numbers in by_letters.items()}
        primary = [any(phone.endswith("1") for phone in sounds) for sounds in self.phones]
        self._primary = np.array([False] * FIRST + primary)

    def __call__(self, word: str, beam: int = BEAM) -> Phones:
        """Phones of a word in small letters; letters without any graphone are silent.

        One vowel at most has primary stress, and one does wherever the search finds a way to end so.
        """
        finished = sorted(self.search(word, beam), key=lambda h: -h.score - float(h.scores[END]))
        well_formed = (h for h in finished if h.stressed or not any(map(is_vowel, h.phones)))
        return next(well_formed, finished[0]).phones

    def search(self, word: str, beam: int) -> list[Hypothesis]:
        """The best pronunciations of the whole word, one for each of what the model remembers of them."""
        beams = [[self._hypothesis(0.0, self.lm.initial_state(), False, ())]]
        for end in range(1, len(word) + 1):
            beams.append(self._extend(beams, word, end, beam) or beams[-1])
        return beams[-1]

    def _extend(self, beams: Sequence[Sequence[Hypothesis]], word: str, end: int, beam: int) -> list[Hypothesis]:
        """The best hypotheses about word[:end], by the graphones of its last one or two letters."""
        parents, totals, graphones = [], [], []
        for start in (end - 1, end - 2):
            candidates = self._candidates.get(word[start:end]) if start >= 0 else None
            if candidates is None:
                continue
            for hypothesis in beams[start]:
                total = hypothesis.score + hypothesis.scores[candidates]  # [C]
                if hypothesis.stressed:
                    total[self._primary[candidates]] = -np.inf
                parents += [hypothesis] * len(candidates)
                totals.append(total)
                graphones.append(candidates)
        if not totals:
            return []
        total, graphone = np.concatenate(totals), np.concatenate(graphones)
        kept: dict[tuple[LmState, bool], Hypothesis] = {}
        for place in np.argsort(-total, kind="stable")[: 3 * beam]:
            if total[place] == -np.inf:
                break
            parent, token = parents[place], int(graphone[place])
            state = self.lm.advance(parent.state, token)
            stressed = parent.stressed or bool(self._primary[token])
            if (state, stressed) not in kept:  # what follows depends on nothing else, so the best one is enough
                phones = parent.phones + self.phones[token - FIRST]
                kept[state, stressed] = self._hypothesis(float(total[place]), state, stressed, phones)
                if len(kept) == beam:
                    break
        return list(kept.values())

    def _hypothesis(self, score: float, state: LmState, stressed: bool, phones: Phones) -> Hypothesis:
        return Hypothesis(score, state, stressed, self.lm.scores(state), phones)

    def arrays(self) -> dict[str, Any]:
        """The model as named arrays without pickle; `from_arrays` reads them."""
        codes = np.zeros((len(self.phones), MOST_PHONES), np.uint8)  # 1 and up; 0 where there is no phone
        for row, phones in enumerate(self.phones):
            codes[row, : len(phones)] = [PHONES.index(phone) + 1 for phone in phones]
        spellings = np.frombuffer("\n".join(self.letters).encode("ascii"), np.uint8)
        return {"spellings": spellings, "sounds": codes, **self.lm.arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "LetterToSound":
        """The model of `arrays`; ValueError, KeyError, IndexError or TypeError when they are anything else."""
        letters = arrays["spellings"].tobytes().decode("ascii").split("\n")
        phones = [tuple(PHONES[code - 1] for code in row if code) for row in arrays["sounds"].tolist()]
        return cls(NgramLm.from_arrays(arrays), letters, phones)
