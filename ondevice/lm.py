"""Backoff n-gram language model over token ids, small enough to fuse with the recogniser on the device.

The continuations of a context lie side by side, sorted by token: an n-gram costs 4 bytes and a context 14, and
the scores of all tokens after a context come from one slice per order. Contexts are packed exactly into 64 bits
(token ids as digits of base V, oldest first), so nothing collides.

Legend: `V` tokens, `C` contexts of one length, `N` n-grams of one length.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError

Float32 = npt.NDArray[np.float32]
_CACHE_STATES = 4096
_FIELDS = ("contexts", "starts", "backoffs", "tokens", "logprobs")


class Continued(NamedTuple):
    """Where the continuations of a context are."""

    table: int
    start: int
    end: int
    backoff: float


class LmState(NamedTuple):
    """What the model remembers: the longest known context and where its suffixes are in the tables."""

    tokens: tuple[int, ...]  # oldest first
    rows: tuple[int, ...]  # row of the suffix of length 1, 2, ... in its table; -1 where it is unknown
    continued: tuple[Continued, ...]  # of the known suffixes, longest first


@dataclass(frozen=True)
class Table:
    """The n-grams whose context has one certain length."""

    contexts: npt.NDArray[np.uint64]  # [C] ascending
    starts: npt.NDArray[np.uint32]  # [C + 1] where a context's continuations begin
    backoffs: npt.NDArray[Any]  # [C] natural log of the weight of the shorter context
    tokens: npt.NDArray[np.uint16]  # [N] ascending within a context
    logprobs: npt.NDArray[Any]  # [N] natural log of the interpolated probability


class NgramLm:
    """Scores tokens after their history; the state is a value the caller keeps."""

    def __init__(self, unigrams: Float32, tables: Sequence[Table], bos: int = 0) -> None:
        """unigrams [V] natural log (-inf for what is never predicted), tables[k] for contexts of k + 1.

        `bos` stands for the beginning of a sentence; the blank serves, as it is never predicted.
        """
        self.unigrams = unigrams
        self.tables = tuple(tables)
        self.bos = bos
        self.symbols = len(unigrams)
        self._states: dict[tuple[int, ...], LmState] = {}
        if self.symbols > 2**16 or self.symbols ** len(self.tables) > 2**64:
            raise InputError(f"n-gram model: {self.symbols} tokens at order {self.order} do not fit 64-bit contexts")

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.tables) + 1

    @property
    def ngrams(self) -> int:
        """Stored n-grams, unigrams included."""
        return self.symbols + sum(len(t.tokens) for t in self.tables)

    @property
    def size_bytes(self) -> int:
        """Memory of the tables."""
        return self.unigrams.nbytes + sum(int(getattr(t, f).nbytes) for t in self.tables for f in _FIELDS)

    def initial_state(self) -> LmState:
        """The state at the beginning of a sentence."""
        return self._state((self.bos,)[: len(self.tables)])

    def advance(self, state: LmState, token: int) -> LmState:
        """The state after one more token."""
        return self._state((*state.tokens, token)[-len(self.tables) :] if self.tables else ())

    def shorter(self, state: LmState) -> LmState:
        """The state that remembers one token less, or fewer, of a state that remembers some."""
        return self._state(state.tokens[1:])

    def score(self, state: LmState, token: int) -> tuple[LmState, float]:
        """The next state and the natural log of the token's probability (-inf for an impossible one)."""
        return self.advance(state, token), self.logprob(state, token)

    def logprob(self, state: LmState, token: int) -> float:
        """The natural log of the token's probability alone."""
        logprob = 0.0
        for number, start, end, backoff in state.continued:
            table = self.tables[number]
            place = bisect_left(table.tokens, token, start, end)
            if place < end and table.tokens[place] == token:
                return logprob + float(table.logprobs[place])
            logprob += backoff
        return logprob + float(self.unigrams[token])

    def scores(self, state: LmState) -> Float32:
        """Natural log probability of every token, float32 [V]; the caller owns the array."""
        out = self.unigrams.astype(np.float32)
        for table, row in zip(self.tables, state.rows, strict=False):
            if row >= 0:
                low, high = int(table.starts[row]), int(table.starts[row + 1])
                out += table.backoffs[row]
                out[table.tokens[low:high]] = table.logprobs[low:high]
        return out

    def _state(self, tokens: tuple[int, ...]) -> LmState:
        state = self._states.get(tokens)
        if state is None:
            if len(self._states) >= _CACHE_STATES:
                self._states.clear()
            state = self._states[tokens] = self._look_up(tokens)
        return state

    def _look_up(self, tokens: tuple[int, ...]) -> LmState:
        if not tokens:
            return LmState((), (), ())
        key = 0
        for token in tokens:
            key = key * self.symbols + token
        table = self.tables[len(tokens) - 1]
        row = int(table.contexts.searchsorted(np.uint64(key)))
        shorter = self._state(tokens[1:])
        if row == len(table.contexts) or int(table.contexts[row]) != key:
            return shorter
        start, end = int(table.starts[row]), int(table.starts[row + 1])
        # Pruning may keep a context and drop its suffix, so the longest known one decides.
        unknown = (-1,) * (len(tokens) - 1 - len(shorter.rows))
        continued = Continued(len(tokens) - 1, start, end, float(table.backoffs[row]))
        return LmState(tokens, (*shorter.rows, *unknown, row), (continued, *shorter.continued))

    def final(self, state: LmState) -> float:
        """What the end of the text adds: nothing, ends are not modelled."""
        return 0.0

    def arrays(self) -> dict[str, Any]:
        """The model as named arrays, log probabilities in float16; `from_arrays` reads them."""
        arrays: dict[str, Any] = {"unigrams": self.unigrams.astype(np.float32), "bos": np.int64(self.bos)}
        arrays["order"] = np.int64(self.order)
        for length, table in enumerate(self.tables, start=1):
            for field in _FIELDS:
                array = getattr(table, field)
                arrays[f"{field}{length}"] = array.astype(np.float16) if array.dtype.kind == "f" else array
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> "NgramLm":
        """The model of `arrays`; ValueError, KeyError or TypeError when they are anything else."""
        order = int(arrays["order"])
        if not 1 <= order <= 64:
            raise ValueError(f"order {order}")
        tables = [Table(*(arrays[f"{field}{k}"] for field in _FIELDS)) for k in range(1, order)]
        lm = cls(arrays["unigrams"], tables, int(arrays["bos"]))
        if not lm._fits():
            raise ValueError("the tables do not fit together")
        return lm

    def save(self, path: Path) -> None:
        """Write `arrays` as a compressed .npz."""
        with path.open("wb") as file:
            np.savez_compressed(file, **self.arrays())

    def _fits(self) -> bool:
        good = self.unigrams.dtype == np.float32 and self.unigrams.ndim == 1 and 0 <= self.bos < self.symbols
        for t in self.tables:
            count = len(t.contexts)
            good = good and (
                [getattr(t, f).dtype.str[1:] for f in _FIELDS] == ["u8", "u4", "f2", "u2", "f2"]
                and all(getattr(t, f).ndim == 1 for f in _FIELDS)
                and len(t.starts) == count + 1
                and len(t.backoffs) == count
                and len(t.logprobs) == len(t.tokens) == int(t.starts[-1])
                and int(t.starts[0]) == 0
                and bool((t.starts[1:] > t.starts[:-1]).all() and (t.contexts[1:] > t.contexts[:-1]).all())
                and (not len(t.tokens) or int(t.tokens.max()) < self.symbols)
            )
        return good
