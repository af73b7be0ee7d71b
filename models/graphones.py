"""Letters and phones of words aligned into graphones: pairs of one or two letters with up to two phones.

Expectation maximisation over all alignments (Bisani and Ney 2008, section 3; Jiampojamarn et al. 2007), done for all
words of one size at once. Stress takes no part: a vowel is spelled alike with and without it.

Legend: `W` words of one size, `L` letters, `P` phones, `G` possible graphones.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Phones = tuple[str, ...]
Graphone = tuple[str, Phones]  # ("x", ("K", "S"))

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIZES = ((1, 0), (1, 1), (1, 2), (2, 1))  # letters and phones of a graphone; two with two are made of these
FIRST_GUESS = (0.1, 1.0, 0.02, 0.1)  # weight of each size before the first iteration: mostly one to one
ITERATIONS = 12
SMALLEST = 1e-12  # probability below which a graphone is impossible


@dataclass(frozen=True)
class _Group:
    """All words with as many letters and phones."""

    rows: Ints  # [W] their places in the list of words
    graphones: tuple[Ints, ...]  # per size, [W, L - letters + 1, P - phones + 1]


def align(words: Sequence[tuple[str, Phones]], iterations: int = ITERATIONS) -> list[tuple[Graphone, ...]]:
    """Most likely graphones of each word, phones with the stress they came with; () where there are none.

    Words are of the letters a-z. A word with more than two phones a letter cannot be aligned.
    """
    groups, starts = _groups(words)
    probabilities = np.concatenate(
        [np.full(end - start, guess) for start, end, guess in zip(starts, starts[1:], FIRST_GUESS, strict=False)]
    )
    probabilities /= probabilities.sum()
    for _ in range(iterations):
        counts = np.zeros(len(probabilities))
        for group in groups:
            _expect(group, probabilities, counts)
        probabilities = counts / max(counts.sum(), SMALLEST)
        probabilities[probabilities < SMALLEST] = 0.0
    aligned: list[tuple[Graphone, ...]] = [()] * len(words)
    for group in groups:
        for row, sizes in zip(group.rows, _best(group, probabilities), strict=True):
            aligned[row] = tuple(_cut(*words[row], sizes))
    return aligned


def _groups(words: Sequence[tuple[str, Phones]]) -> tuple[list[_Group], list[int]]:
    """Words by size with the number of every graphone they may hold, and where each size's numbers start."""
    bare = [tuple(phone.rstrip("012") for phone in phones) for _, phones in words]
    number = {phone: n for n, phone in enumerate(sorted({phone for phones in bare for phone in phones}))}
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, (word, phones) in enumerate(words):
        if 0 < len(phones) <= 2 * len(word):
            by_size[len(word), len(phones)].append(row)
    symbols = (len(LETTERS), len(number))
    starts = [0]
    for letters, phones in SIZES:
        starts.append(starts[-1] + symbols[0] ** letters * symbols[1] ** phones)
    groups = []
    for rows in by_size.values():
        spelled = np.array([[LETTERS.index(letter) for letter in words[row][0]] for row in rows])
        spoken = np.array([[number[phone] for phone in bare[row]] for row in rows])
        numbers = tuple(
            start
            + _windows(spelled, letters, symbols[0])[:, :, None] * symbols[1] ** phones
            + _windows(spoken, phones, symbols[1])[:, None, :]
            for start, (letters, phones) in zip(starts, SIZES, strict=False)
        )
        groups.append(_Group(np.array(rows), numbers))
    return groups, starts


def _windows(sequences: Ints, length: int, symbols: int) -> Ints:
    """Number of the `length` symbols from each place on: [W, places]; no places for too long a window."""
    places = max(sequences.shape[1] - length + 1, 0)
    numbers = np.zeros((len(sequences), places), np.int64)
    for shift in range(length):
        numbers = numbers * symbols + sequences[:, shift : shift + places]
    return numbers


def _expect(group: _Group, probabilities: Floats, counts: Floats) -> None:
    """Add to `counts` [G] how often each graphone is expected in the words of a group."""
    likely = [probabilities[numbers] for numbers in group.graphones]
    letters, phones = likely[0].shape[1], likely[0].shape[2] - 1
    forward = np.zeros((letters + 1, len(group.rows), phones + 1))
    backward = np.zeros_like(forward)
    forward[0, :, 0] = 1.0
    backward[letters, :, phones] = 1.0
    for i in range(1, letters + 1):
        for (a, b), p in zip(SIZES, likely, strict=True):
            if i >= a and phones >= b:
                forward[i, :, b:] += forward[i - a, :, : phones + 1 - b] * p[:, i - a]
    for i in range(letters - 1, -1, -1):
        for (a, b), p in zip(SIZES, likely, strict=True):
            if i + a <= letters and phones >= b:
                backward[i, :, : phones + 1 - b] += backward[i + a, :, b:] * p[:, i]
    total = np.maximum(forward[letters, :, phones], 1e-300)[:, None]
    for (a, b), p, numbers in zip(SIZES, likely, group.graphones, strict=True):
        if numbers.size:
            before = forward[: letters - a + 1, :, : phones + 1 - b].swapaxes(0, 1)
            after = backward[a:, :, b:].swapaxes(0, 1)
            posterior = before * p * after / total[:, None]
            counts += np.bincount(numbers.ravel(), posterior.ravel(), minlength=len(counts))


def _best(group: _Group, probabilities: Floats) -> Iterator[list[int]]:
    """For each word the sizes (as places in SIZES) of its most likely graphones; [] where none fit."""
    with np.errstate(divide="ignore"):
        likely = [np.log(probabilities[numbers]) for numbers in group.graphones]
    letters, phones = likely[0].shape[1], likely[0].shape[2] - 1
    score = np.full((letters + 1, len(group.rows), phones + 1), -np.inf)
    came = np.full(score.shape, -1, np.int8)
    score[0, :, 0] = 0.0
    for i in range(1, letters + 1):
        for size, ((a, b), p) in enumerate(zip(SIZES, likely, strict=True)):
            if i < a or phones < b:
                continue
            reached = score[i - a, :, : phones + 1 - b] + p[:, i - a]
            better = reached > score[i, :, b:]
            score[i, :, b:][better] = reached[better]
            came[i, :, b:][better] = size
    for w in range(len(group.rows)):
        i, j, sizes = letters, phones, list[int]()
        while (i or j) and came[i, w, j] >= 0:
            sizes.append(int(came[i, w, j]))
            i, j = i - SIZES[sizes[-1]][0], j - SIZES[sizes[-1]][1]
        yield sizes[::-1] if i == j == 0 else []


def _cut(word: str, phones: Phones, sizes: Sequence[int]) -> Iterator[Graphone]:
    i = j = 0
    for size in sizes:
        a, b = SIZES[size]
        yield word[i : i + a], phones[j : j + b]
        i, j = i + a, j + b
