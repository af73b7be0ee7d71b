"""Favouring phrases during the search: a prefix trie over letters, walked by word pieces (He et al. 2018, section 4.3).

The trie is over letters, not pieces, so a phrase earns the same bonus however the model happens to spell it. A phrase
must begin and end at word boundaries. Its bonus is handed out letter by letter, so that a hypothesis which begins the
phrase survives pruning, and is taken back when the phrase is not completed: "bonus held" below.
"""

import math
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.tokens import WORD_START, Pieces

Float32 = npt.NDArray[np.float32]

DEFAULT_WEIGHT = 1.5  # natural-log bonus per word piece of a phrase's shortest spelling
MAX_WEIGHT = 100.0
_CACHE_BYTES = 8 << 20


class BiasState:
    """Which phrases the text so far may be in the middle of. Kept by the search."""

    __slots__ = ("_next", "_scores", "active")

    def __init__(self, active: tuple[int, ...]) -> None:
        self.active = active  # trie nodes, ascending
        self._next: dict[int, tuple[int, ...]] = {}  # by token; nodes, as a state would keep all others in memory
        self._scores: Float32 | None = None


class PhraseBias:
    """Scores tokens by the phrases they begin, continue, complete or abandon."""

    def __init__(self, phrases: Sequence[tuple[str, float]], pieces: Pieces) -> None:
        """phrases: (text, weight) with a weight above 0 and up to MAX_WEIGHT, in natural log per word piece.

        Phrases that the pieces cannot write, in any letter case and with or without accents, are listed in
        `unspelled` and otherwise ignored. Raises InputError for a weight out of range.
        """
        self._pieces = pieces
        self._children: list[dict[str, int]] = [{}]
        self._bonus = [0.0]  # of the letters up to a node: the most any phrase through it gives
        self._earned = [0.0]  # of the phrase that ends at a node, or of a shorter one it begins with
        self._banked = [0.0]  # of that, what a completed shorter phrase has earned for good
        self._marks: set[int] = set()  # nodes reached by a word's mark
        self.unspelled: list[str] = []
        for text, weight in phrases:
            check_weight(weight, f"bias phrase {text!r}")
            spelling = _spelling(text, pieces)
            if spelling is not None:
                self._add(*spelling, weight)
            elif text.strip():
                self.unspelled.append(text)
        self._settle()
        self._tokens_by_letter = _piece_trie(pieces)
        self._several_words = [
            i for i in range(len(pieces)) if WORD_START in pieces.surface(i)[1:]
        ]  # the trie walk stops where no phrase is alive, but these may begin one again
        self._writes = np.array([bool(pieces.surface(i)) for i in range(len(pieces))])
        self._starts_word = np.array(pieces.starts_word)
        self._states: dict[tuple[int, ...], BiasState] = {}

    def __bool__(self) -> bool:
        """Whether there is any phrase to favour."""
        return len(self._children) > 1

    def initial_state(self) -> BiasState:
        """The state before any token, where a word may begin with or without its mark."""
        return self._state(self._letter((), WORD_START)[0])

    def advance(self, state: BiasState, token: int) -> BiasState:
        """The state after a token; tokens that write nothing leave it as it is."""
        active = state._next.get(token)
        if active is None:
            active = state._next[token] = self._walk(state.active, self._pieces.surface(token))[0]
        return self._state(active)

    def scores(self, state: BiasState) -> Float32:
        """What each token adds to a hypothesis' score, float32 [V]; do not change the array."""
        if state._scores is None:
            state._scores = self._all_scores(state.active)
        return state._scores

    def final(self, state: BiasState) -> float:
        """What the end of the text adds: bonus held for phrases it does not complete is taken back."""
        return self._completed(state.active) - self._held(state.active)

    def _add(self, letters: str, piece_count: int, weight: float) -> None:
        node = 0
        for position, letter in enumerate(letters):
            child = self._children[node].get(letter)
            if child is None:
                child = len(self._children)
                self._children[node][letter] = child
                self._children.append({})
                self._bonus.append(0.0)
                self._earned.append(0.0)
                self._banked.append(0.0)
                if letter == WORD_START:
                    self._marks.add(child)
            node = child
            share = position / (len(letters) - 1)  # none for the first word's mark, which begins every word
            self._bonus[node] = max(self._bonus[node], weight * piece_count * share)
        self._earned[node] = max(self._earned[node], weight * piece_count)

    def _settle(self) -> None:
        """Note what completed phrases on the way to each node have earned: a longer phrase gives at least that."""
        for node, children in enumerate(self._children):  # a child's number is above its parent's
            for letter, child in children.items():
                banked = self._earned[node] if letter == WORD_START else self._banked[node]
                self._banked[child] = banked
                self._earned[child] = max(self._earned[child], banked)
                self._bonus[child] = max(self._bonus[child], banked)

    def _state(self, active: tuple[int, ...]) -> BiasState:
        state = self._states.get(active)
        if state is None:
            if len(self._states) * 4 * len(self._pieces) > _CACHE_BYTES:
                self._states.clear()  # hypotheses keep the states they use
            state = self._states[active] = BiasState(active)
        return state

    def _held(self, active: tuple[int, ...]) -> float:
        return max((self._bonus[n] - self._banked[n] for n in active), default=0.0)

    def _completed(self, active: tuple[int, ...]) -> float:
        return max((self._earned[n] - self._banked[n] for n in active), default=0.0)

    def _letter(self, active: tuple[int, ...], letter: str) -> tuple[tuple[int, ...], float]:
        """One letter on: (nodes alive, bonus of a phrase completed before the letter)."""
        alive = [child for n in active if (child := self._children[n].get(letter)) is not None]
        if letter != WORD_START:
            return tuple(alive), 0.0
        alive += [n for n in active if n in self._marks]  # marks in a row are one space
        if (begun := self._children[0].get(WORD_START)) is not None:
            alive.append(begun)
        return tuple(sorted(set(alive))), self._completed(active)

    def _walk(self, active: tuple[int, ...], letters: str) -> tuple[tuple[int, ...], float]:
        """All letters on: (nodes alive, change of the score)."""
        change = -self._held(active)
        for letter in letters:
            active, earned = self._letter(active, letter)
            change += earned
        return active, change + self._held(active)

    def _all_scores(self, active: tuple[int, ...]) -> Float32:
        held, completed = self._held(active), self._completed(active)
        out = np.where(self._starts_word, np.float32(completed - held), np.float32(-held)).astype(np.float32)
        out[~self._writes] = 0.0
        todo: list[tuple[dict[str, Any], tuple[int, ...], float]] = [(self._tokens_by_letter, active, 0.0)]
        while todo:
            branch, alive, earned = todo.pop()
            for letter, below in branch.items():
                if letter == "":
                    out[below] = earned + self._held(alive) - held
                    continue
                after, more = self._letter(alive, letter)
                if after:
                    todo.append((below, after, earned + more))
        for token in self._several_words:
            out[token] = self._walk(active, self._pieces.surface(token))[1]
        return out


def read_bias_file(path: str | os.PathLike[str]) -> tuple[tuple[str, float], ...]:
    """Phrases and weights of a UTF-8 file with one phrase per line, optionally a tab and a weight.

    Raises InputError naming file and line: unreadable file, not UTF-8, a weight that is no number or out of range.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a file of phrases") from error
    except UnicodeDecodeError as error:
        where = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {where}: not UTF-8 text; expected one phrase per line") from error
    except ValueError as error:  # a zero byte in the name
        raise InputError(f"{os.fspath(path)!r}: {error}; expected a file of phrases") from error
    phrases = []
    for number, line in enumerate(text.split("\n"), start=1):
        phrase, tab, weight_text = line.strip("\r\n").partition("\t")
        if not phrase.strip():
            continue
        weight = DEFAULT_WEIGHT
        if tab and weight_text.strip():
            try:
                weight = float(weight_text)
            except ValueError:
                weight = math.nan
            check_weight(weight, f"{path}, line {number}", weight_text.strip())
        phrases.append((phrase.strip(), weight))
    return tuple(phrases)


def check_weight(weight: float, where: str, written: str | None = None) -> None:
    """InputError unless 0 < weight <= MAX_WEIGHT."""
    if not 0 < weight <= MAX_WEIGHT:
        got = written if written is not None else weight
        raise InputError(f"{where}: the weight must be a number above 0 and up to {MAX_WEIGHT:g}, got {got!r}")


def _spelling(text: str, pieces: Pieces) -> tuple[str, int] | None:
    """(letters with WORD_START marks, fewest pieces that write them) of a phrase, None if it cannot be written."""
    plain = unicodedata.normalize("NFKC", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    bare = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    for form in (plain, plain.lower(), plain.upper(), bare, bare.lower(), bare.upper()):
        words = form.replace(WORD_START, " ").split()
        letters = "".join(WORD_START + word for word in words)
        tokens = pieces.spell(letters) if words else None
        if tokens:
            return letters, len(tokens)
    return None


def _piece_trie(pieces: Pieces) -> dict[str, Any]:
    """Tokens by their letters: nested dicts, with the token's id under the key ""."""
    root: dict[str, Any] = {}
    for token in range(len(pieces)):
        surface = pieces.surface(token)
        branch = root
        for letter in surface:
            branch = branch.setdefault(letter, {})
        if surface:
            branch[""] = token
    return root
