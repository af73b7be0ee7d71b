"""Words from the sounds heard: beam search over the phone head's CTC through a tree of pronunciations.

A hypothesis is what the language model remembers of its words, a node of the tree (the phones of the word being said)
and the last phone. Hypotheses that agree in all three are one: their probabilities are summed (prefix search, Graves
2006; Hannun et al. 2014) and the likelier words are kept. The language model speaks at once through the best word
below a node and exactly at the word's end (look-ahead, Ortmanns et al. 1997). All hypotheses advance in arrays.

Legend: `C` phones, blank included; `H` hypotheses; `N` nodes of the tree.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ondevice.bias import BiasState, PhraseBias
from ondevice.lm import LmState, NgramLm
from ondevice.sound_lexicon import BLANK, ROOT, SoundLexicon
from ondevice.wordlm import FIRST_WORD

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_FORGET_FRAMES = 512  # between two looks at what nobody remembers any more


@dataclass(frozen=True)
class SoundSearchConfig:
    """Settings of the search; scores are natural logs."""

    beam: int = 60  # hypotheses kept
    margin: float = 10.0  # hypotheses so much worse than the best are dropped
    phone_margin: float = 8.0  # phones so much less likely than the likeliest are not tried
    lm_weight: float = 0.9
    word_bonus: float = 0.5


class Spoken(NamedTuple):
    """A word that was said, linked to the one before."""

    pronunciation: int  # row of the lexicon
    frame: int  # of its last phone
    before: "Spoken | None"


class Heard(NamedTuple):
    """A sequence of words by their pronunciations (rows of the lexicon), the frames they end at, and the score."""

    pronunciations: tuple[int, ...]
    frames: tuple[int, ...]
    score: float


def look_ahead(lexicon: SoundLexicon, lm: NgramLm) -> Float32:
    """Natural log probability, without history, of the likeliest word at or below each node [N]; 0 at the root."""
    below = lexicon.best_below(lm.unigrams[FIRST_WORD:])
    below[ROOT] = 0.0
    return below


class _Context(NamedTuple):
    """What is remembered of the words so far."""

    lm: LmState
    bias: BiasState | None


class _Beam(NamedTuple):
    """All hypotheses, [H] each."""

    context: Ints  # its number
    node: Ints
    last: Ints  # phone
    said: Ints  # number of the words so far
    blank: Float64  # log probability of all paths that end in a blank, language model included
    sound: Float64  # of those that end in the last phone


class SoundSearch:
    """Keeps the likeliest words of an utterance, frame by frame."""

    def __init__(
        self, lexicon: SoundLexicon, lm: NgramLm, config: SoundSearchConfig, best_below: Float32,
        bias: PhraseBias | None = None,
    ) -> None:  # fmt: skip
        """`lm` scores the lexicon's words, numbered from FIRST_WORD; `best_below` is `look_ahead` of the two.

        `bias` favours phrases, word by word as they end.
        """
        self._lexicon, self._lm, self._config, self._bias = lexicon, lm, config, bias
        tree = lexicon.tree
        self._phone = tree.phone.astype(np.int64)
        self._ahead = config.lm_weight * best_below  # [N]
        self._contexts: list[_Context] = []
        self._numbers: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        self._known: dict[tuple[int, int], float] = {}  # of a word after a context
        self._after: dict[tuple[int, int], int] = {}  # the context after both
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self.frame = 0
        self._contexts.clear()
        self._numbers.clear()
        self._known.clear()
        self._after.clear()
        self._spoken: list[Spoken | None] = [None]
        bias = self._bias.initial_state() if self._bias else None
        first = self._number(_Context(self._lm.initial_state(), bias))
        zero = np.zeros(1, np.int64)
        self._beam = _Beam(zero + first, zero, zero, zero, np.zeros(1), np.full(1, -np.inf))

    def advance(self, logprobs: Float32) -> None:
        """Take one frame of natural log probabilities [C]."""
        beam, heard = self._beam, logprobs.astype(np.float64)
        total = np.logaddexp(beam.blank, beam.sound)
        blank = total + heard[BLANK]
        sound = beam.sound + np.where(beam.last == BLANK, -np.inf, heard[beam.last])
        floor = float(np.logaddexp(blank, sound).max()) - self._config.margin
        tried = heard >= heard.max() - self._config.phone_margin
        tried[BLANK] = False
        kept = beam._replace(blank=blank, sound=sound)
        if tried.any():
            kept = self._merged(kept, *self._extended(beam, total, heard, tried, floor))
        self._beam = self._pruned(kept)
        self.frame += 1
        if self.frame % _FORGET_FRAMES == 0:
            self._forget()

    def n_best(self) -> list[Heard]:
        """The words heard if the utterance ended here, best first; a word begun but not finished is left out."""
        beam = self._beam
        done = np.flatnonzero(beam.node == ROOT)
        scores = np.logaddexp(beam.blank, beam.sound)[done]
        if self._bias:
            held = (self._contexts[number].bias for number in beam.context[done].tolist())
            scores += np.array([self._bias.final(state) for state in held if state])
        found: dict[tuple[int, ...], Heard] = {}
        for place in np.argsort(-scores, kind="stable").tolist():
            heard = self._written(int(beam.said[done[place]]), float(scores[place]))
            words = tuple(self._lexicon.word[list(heard.pronunciations)].tolist())
            found.setdefault(words, heard)
        return list(found.values())

    def _written(self, said: int, score: float) -> Heard:
        rows, frames, link = [], [], self._spoken[said]
        while link is not None:
            rows.append(link.pronunciation)
            frames.append(link.frame)
            link = link.before
        return Heard(tuple(rows[::-1]), tuple(frames[::-1]), score)

    def _extended(
        self, beam: _Beam, total: Float64, heard: Float64, tried: npt.NDArray[np.bool_], floor: float
    ) -> tuple[list[Ints], Float64]:
        """(context, node, last, said) and score of hypotheses one phone longer, those at or above `floor`."""
        tree = self._lexicon.tree
        parent, child = _spread(tree.first_child[beam.node], tree.children[beam.node])
        likely = tried[self._phone[child]]
        parent, child = parent[likely], child[likely]
        phone = self._phone[child]
        before = np.where(phone == beam.last[parent], beam.blank[parent], total[parent])
        score = before + heard[phone] + self._ahead[child] - self._ahead[beam.node[parent]]
        good = score >= floor
        parent, child, phone, score = parent[good], child[good], phone[good], score[good]
        ended = self._ended(beam, parent, child, phone, score, floor)
        inner = tree.children[child] > 0
        parent, child, phone, score = parent[inner], child[inner], phone[inner], score[inner]
        words = [np.array([row[i] for row in ended], np.int64) for i in range(3)]
        rows = [
            np.concatenate([beam.context[parent], words[0]]),
            np.concatenate([child, np.zeros(len(ended), np.int64)]),
            np.concatenate([phone, words[1]]),
            np.concatenate([beam.said[parent], words[2]]),
        ]
        return rows, np.concatenate([score, np.array([row[3] for row in ended], np.float64)])

    def _ended(
        self, beam: _Beam, parent: Ints, child: Ints, phone: Ints, score: Float64, floor: float
    ) -> list[tuple[int, int, int, float]]:
        """(context, last, said, score) of hypotheses whose word is finished."""
        tree, config = self._lexicon.tree, self._config
        base = score - self._ahead[child] + config.word_bonus
        first = tree.first_end[child]
        owner, place = _spread(first, tree.first_end[child + 1] - first)
        rows, hypothesis = tree.ends[place], parent[owner]
        candidates = (
            rows, self._lexicon.word[rows], beam.context[hypothesis], beam.said[hypothesis], phone[owner], base[owner]
        )  # fmt: skip
        found = []
        for row, word, context, said, last, before in zip(*(part.tolist() for part in candidates), strict=True):
            reached = before + self._worth(context, word)
            if reached >= floor:
                self._spoken.append(Spoken(row, self.frame, self._spoken[said]))
                found.append((self._context_after(context, word), last, len(self._spoken) - 1, reached))
        return found

    def _worth(self, context: int, word: int) -> float:
        """What language model and bias say of a word, weighed."""
        known = self._known.get((context, word))
        if known is None:
            lm_state, bias_state = self._contexts[context]
            known = self._config.lm_weight * self._lm.logprob(lm_state, word + FIRST_WORD)
            if self._bias and bias_state:
                for token in self._lexicon.pieces(word):
                    known += float(self._bias.scores(bias_state)[token])
                    bias_state = self._bias.advance(bias_state, token)
            self._known[context, word] = known
        return known

    def _context_after(self, context: int, word: int) -> int:
        """The context after a word."""
        after = self._after.get((context, word))
        if after is None:
            lm_state, bias_state = self._contexts[context]
            if self._bias and bias_state:
                for token in self._lexicon.pieces(word):
                    bias_state = self._bias.advance(bias_state, token)
            lm_state = self._lm.advance(lm_state, word + FIRST_WORD)
            after = self._after[context, word] = self._number(_Context(lm_state, bias_state))
        return after

    def _number(self, context: "_Context") -> int:
        key = (context.lm.tokens, context.bias.active if context.bias else ())
        number = self._numbers.setdefault(key, len(self._contexts))
        if number == len(self._contexts):
            self._contexts.append(context)
        return number

    def _merged(self, stayed: _Beam, rows: list[Ints], score: Float64) -> _Beam:
        """Hypotheses that stayed and new ones as one beam, equal ones summed."""
        context, node, last, said = (np.concatenate([old, new]) for old, new in zip(stayed[:4], rows, strict=True))
        blank = np.concatenate([stayed.blank, np.full(len(score), -np.inf)])
        sound = np.concatenate([stayed.sound, score])
        phones = len(self._lexicon.phones) + 1
        key = (context * len(self._phone) + node) * phones + last
        total = np.logaddexp(blank, sound)
        order = np.lexsort((-total, key))
        fresh = np.ones(len(order), bool)
        fresh[1:] = key[order][1:] != key[order][:-1]
        starts = np.flatnonzero(fresh)
        first = order[starts]  # the likeliest of those that are equal
        with np.errstate(invalid="ignore"):
            summed = [np.logaddexp.reduceat(part[order], starts) for part in (blank, sound)]
        return _Beam(context[first], node[first], last[first], said[first], summed[0], summed[1])

    def _pruned(self, beam: _Beam) -> _Beam:
        total = np.logaddexp(beam.blank, beam.sound)
        keep = np.flatnonzero(total >= total.max() - self._config.margin)
        if len(keep) > self._config.beam:
            keep = keep[np.argpartition(-total[keep], self._config.beam - 1)[: self._config.beam]]
        return _Beam(
            beam.context[keep], beam.node[keep], beam.last[keep], beam.said[keep], beam.blank[keep], beam.sound[keep]
        )

    def _forget(self) -> None:
        """Drop words and contexts that no hypothesis leads back to."""
        beam = self._beam
        contexts, context = np.unique(beam.context, return_inverse=True)
        kept = [self._contexts[number] for number in contexts.tolist()]
        spoken, said = np.unique(beam.said, return_inverse=True)
        self._spoken = [self._spoken[number] for number in spoken.tolist()]
        self._contexts.clear()
        self._numbers.clear()
        self._known.clear()
        self._after.clear()
        numbers = np.array([self._number(context) for context in kept], np.int64)
        self._beam = beam._replace(context=numbers[context], said=said.astype(np.int64))


def _spread(first: npt.NDArray[np.integer[Any]], counts: npt.NDArray[np.integer[Any]]) -> tuple[Ints, Ints]:
    """Runs of `counts` places, each beginning at `first`, one behind the other: (whose run it is, place)."""
    owner = np.repeat(np.arange(len(counts)), counts)
    starts = first - np.concatenate([[0], np.cumsum(counts)[:-1]])
    return owner, np.arange(len(owner)) + starts[owner]
