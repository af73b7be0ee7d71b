"""The recogniser's words by their sounds: a prefix tree of pronunciations, and the pieces that write each word.

A file holds, beside the letter-to-sound model for all other words, the phones of every pronunciation in order and the
pieces of every word, a zero behind each. The tree is made of them when it is read: pronunciations in order lie side by
side where they begin alike, so every level of the tree is one comparison of neighbours.

Legend: `W` words, `R` pronunciations, `L` phones of the longest, `N` nodes, `C` phones, blank included.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.files import DAMAGED
from ondevice.letter_to_sound import LetterToSound

Float32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Phones = tuple[int, ...]

BLANK, FIRST_PHONE = 0, 1  # of the phone head; the phones follow in order
ROOT = 0


class Tree(NamedTuple):
    """Pronunciations that begin alike share nodes; the children of a node lie side by side."""

    phone: npt.NDArray[np.uint8]  # [N] that leads to the node; BLANK at the root
    parent: Ints  # [N]
    levels: tuple[int, ...]  # where the nodes of one depth begin, and the end
    first_child: Ints  # [N]
    children: Ints  # [N] how many
    node: Ints  # [R] where each pronunciation ends
    first_end: Ints  # [N + 1] where a node's entries in `ends` begin
    ends: Ints  # [R] pronunciations by the node they end at


class SoundLexicon:
    """Says how known words sound and are written, and how any other word may sound."""

    def __init__(
        self, phones: Sequence[str], words: npt.NDArray[Any], sounds: "Runs", pieces: "Runs",
        letter_to_sound: LetterToSound | None = None,
    ) -> None:  # fmt: skip
        """Take the phones behind the blank, the word and the phones of each pronunciation, the pieces of each word.

        words            [R] numbers of the words
        sounds           [R] ascending
        pieces           [W]
        letter_to_sound  for all other words
        Raises ValueError when these do not fit together.
        """
        self.phones, self.letter_to_sound = tuple(phones), letter_to_sound
        self.word = words.astype(np.int32)  # [R]
        self._sounds, self._pieces = sounds, pieces
        if len(words) != len(sounds) or not (sounds.lengths > 0).all() or sounds.highest > len(phones):
            raise ValueError("pronunciations without phones or of phones that are not there")
        if not ((self.word >= 0) & (self.word < len(pieces))).all():
            raise ValueError("pronunciations of words that are not there")
        self._rows = np.argsort(self.word, kind="stable").astype(np.int32)  # [R] by word
        self._first_row = np.searchsorted(self.word[self._rows], np.arange(len(pieces) + 1)).astype(np.int32)
        self._number = {phone: number for number, phone in enumerate(self.phones, start=FIRST_PHONE)}
        self.tree = _grow(sounds)

    @classmethod
    def load(cls, path: Path) -> "SoundLexicon":
        """Read what `save` wrote; InputError names the file when it is anything else."""
        try:
            with np.load(path, allow_pickle=False) as data:
                letters = {k.removeprefix("letters."): data[k] for k in data if k.startswith("letters.")}
                return cls(
                    data["phones"].tobytes().decode("ascii").split("\n"), data["words"],
                    Runs.split(data["sounds"]), Runs.split(data["pieces"]),
                    LetterToSound.from_arrays(letters) if letters else None,
                )  # fmt: skip
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}; expected a lexicon (.npz)") from error
        except (*DAMAGED, InputError) as error:
            raise InputError(f"{path}: {error}; expected a lexicon (.npz)") from error

    def save(self, path: Path) -> None:
        """Write it as a compressed .npz."""
        letters = self.letter_to_sound.arrays() if self.letter_to_sound else {}
        arrays = {
            "phones": np.frombuffer("\n".join(self.phones).encode("ascii"), np.uint8),
            "words": self.word.astype(np.uint32),
            "sounds": self._sounds.joined(),
            "pieces": self._pieces.joined(),
            **{f"letters.{name}": array for name, array in letters.items()},
        }
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def __len__(self) -> int:
        """Number of known words."""
        return len(self._pieces)

    def sound(self, row: int) -> Phones:
        """Phones of a pronunciation."""
        return self._sounds[row]

    def pieces(self, word: int) -> Phones:
        """How the recogniser writes a known word."""
        return self._pieces[word]

    def variants(self, word: int) -> list[int]:
        """The pronunciations of a known word, which may be none."""
        rows: list[int] = self._rows[self._first_row[word] : self._first_row[word + 1]].tolist()
        return rows

    def guess(self, word: str) -> Phones:
        """Phones of a word that is not known, by its letters; () where nothing can be said of it."""
        letters = "".join(letter for letter in word.lower() if "a" <= letter <= "z")
        if self.letter_to_sound is None or not letters:
            return ()
        said = (phone.rstrip("012") for phone in self.letter_to_sound(letters))
        return tuple(self._number[phone] for phone in said if phone in self._number)

    def best_below(self, scores: Float32) -> Float32:
        """The highest score [W] among the words at or below each node, [N]."""
        tree = self.tree
        below = np.full(len(tree.phone), -np.inf, np.float32)
        np.maximum.at(below, tree.node, scores[self.word])
        for start, end in zip(tree.levels[-2::-1], tree.levels[:0:-1], strict=True):  # the deepest first
            np.maximum.at(below, tree.parent[start:end], below[start:end])
        return below


class Runs:
    """Short sequences of whole numbers from 1 on in one array, which takes a tenth of the memory of tuples."""

    def __init__(self, flat: npt.NDArray[np.uint16], lengths: Ints) -> None:
        self._flat, self.lengths = flat, lengths
        self._ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint32)
        self.highest = int(flat.max(initial=0))

    @classmethod
    def of(cls, runs: Iterable[Sequence[int]]) -> "Runs":
        """These sequences."""
        kept = list(runs)
        flat = np.array([number for run in kept for number in run], np.uint16)
        return cls(flat, np.array(list(map(len, kept)), np.int32))

    @classmethod
    def split(cls, joined: npt.NDArray[Any]) -> "Runs":
        """What `joined` made. Raises ValueError for anything else."""
        if joined.ndim != 1 or joined.dtype != np.uint16 or (len(joined) and joined[-1] != 0):
            raise ValueError("runs of numbers without an end")
        ends = np.flatnonzero(joined == 0)
        return cls(joined[joined != 0], (np.diff(ends, prepend=-1) - 1).astype(np.int32))

    def joined(self) -> npt.NDArray[np.uint16]:
        """One after another, a zero behind each."""
        return np.insert(self._flat, self._ends[1:].astype(np.int64), 0)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Phones:
        return tuple(self._flat[self._ends[number] : self._ends[number + 1]].tolist())

    def table(self) -> npt.NDArray[np.uint16]:
        """All of them [R, L], zeros behind their ends."""
        table = np.zeros((len(self), int(self.lengths.max(initial=0))), np.uint16)
        table[np.arange(table.shape[1]) < self.lengths[:, None]] = self._flat
        return table


def _grow(sounds: Runs) -> Tree:
    """The tree of pronunciations in order, level by level: what differs from the neighbour before begins a node.

    Raises ValueError when they are not in order.
    """
    lengths, table = sounds.lengths, sounds.table()
    phones, parents = [np.zeros(1, np.uint16)], [np.zeros(1, np.int32)]
    node = np.zeros(len(sounds), np.int32)  # that each pronunciation has come to
    count, levels = 1, [0, 1]
    for depth in range(table.shape[1]):
        rows = np.flatnonzero(lengths > depth)
        phone, above = table[rows, depth], node[rows]
        fresh = np.ones(len(rows), bool)
        fresh[1:] = (above[1:] != above[:-1]) | (phone[1:] != phone[:-1])
        if not (np.diff(above) >= 0).all() or not ((phone[1:] >= phone[:-1]) | (above[1:] != above[:-1])).all():
            raise ValueError("pronunciations out of order")
        phones.append(phone[fresh])
        parents.append(above[fresh])
        node[rows] = count - 1 + np.cumsum(fresh)
        count += int(fresh.sum())
        levels.append(count)
    parent = np.concatenate(parents)
    children = np.bincount(parent[1:], minlength=count).astype(np.int32)
    return Tree(
        phone=np.concatenate(phones).astype(np.uint8),
        parent=parent,
        levels=tuple(levels),
        first_child=np.concatenate([[1], 1 + np.cumsum(children)[:-1]]).astype(np.int32),
        children=children,
        node=node,
        first_end=np.concatenate([[0], np.cumsum(np.bincount(node, minlength=count))]).astype(np.int32),
        ends=np.argsort(node, kind="stable").astype(np.int32),
    )
