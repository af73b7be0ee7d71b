"""The second pass: what the transducer's beam and the search over sounds found, weighed by everything that is known.

A transducer trained on little speech spells badly, and its beam holds few different words. The phone head knows less,
but a lexicon and the words' own language model turn sounds into words it was never taught to spell. So both propose,
and at the end of the utterance every proposal is given the same four scores: the transducer's, the phone head's, the
language model's and that of phrase bias (two passes as in Sainath et al. 2019, arXiv 1908.10992).

Legend: `T` encoder frames, `S` frames of the phone head, `C` phones, blank included; `K` proposals, `U` phones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ondevice.bias import BiasState, PhraseBias
from ondevice.search import Decoded, Transducer, confidence
from ondevice.sound_lexicon import BLANK, Phones, SoundLexicon
from ondevice.sound_search import SoundSearch, SoundSearchConfig
from ondevice.tokens import Pieces
from ondevice.wordlm import WordLm, WordState

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAST_LOG = -600.0  # of a frame's phone, so that its probability is a number above 0
FAINT = 1e-100  # of the likeliest place's probability: such places in a sequence of phones are not followed
LOOK_FRAMES = 8  # between two looks for them
IMPOSSIBLE = -1e4  # least log probability of a piece, so that differences of sums are numbers
MARGIN = 50.0  # frames at which a sequence is so much less likely than at its likeliest are left out
AHEAD = 32  # frames that a sequence is followed on at a time
MOST_FRAMES = 2000  # two minutes: what is longer stays as the first pass heard it
MOST_SILENCE = 8.0  # so that words after a long silence are not lost in it


@dataclass(frozen=True)
class SecondPassConfig:
    """Settings of the pass; weights are of natural logs, the phone head's own is 1."""

    beam: int = 60  # hypotheses of the search over sounds
    margin: float = 10.0  # of its hypotheses
    phone_margin: float = 8.0
    lm_weight: float = 0.7
    word_bonus: float = 0.5
    transducer_weight: float = 1.0
    proposals: int = 6  # the transducer is asked about, at a time
    crossings: int = 2  # times that the best reading is crossed with what else was proposed, while that helps
    silence_margin: float = 0.1  # a frame, up to MOST_SILENCE: words that are worth no more over silence are noise

    @property
    def bias_weight(self) -> float:
        """Of a favoured phrase's bonus, which is meant for a transducer alone; here sounds are evidence beside it."""
        return 1.0 + self.transducer_weight

    @property
    def sounds(self) -> SoundSearchConfig:
        """Settings of the search over sounds."""
        return SoundSearchConfig(self.beam, self.margin, self.phone_margin, self.lm_weight, self.word_bonus)


class Said(NamedTuple):
    """A word of a proposal: its pieces, and how it sounds."""

    text: str
    tokens: tuple[int, ...]
    phones: Phones


Proposal = tuple[Said, ...]


class Alignment(NamedTuple):
    """How a transducer puts out a sequence: the log probability of all ways, and when pieces come on a likely one."""

    logprob: float
    frames: list[int]
    confidences: list[float]


class Reading(NamedTuple):
    """A proposal and its score, the transducer's word included."""

    score: float
    proposal: Proposal
    alignment: Alignment

    @property
    def decoded(self) -> Decoded:
        """The reading as a search gives it."""
        return Decoded(_tokens(self.proposal), self.alignment.frames, self.alignment.confidences, self.score)


class Arrival(NamedTuple):
    """How a sequence gets its last piece, over the frames [n] of the sequence before it."""

    first: int
    emits: Float64  # log probability of the piece
    comes: Float64  # of all ways that put it out at a frame
    stays: Float64  # of no piece there instead


class Lattice(NamedTuple):
    """A sequence over the frames [n] at which it may be all that was put out so far."""

    first: int
    reached: Float64  # log probability of all ways to have put it out by a frame
    stays: Float64  # of no more at that frame
    rises: Ints  # frames [m] at which its last piece was likelier to come than to have come before

    @property
    def end(self) -> int:
        """The frame behind the last."""
        return self.first + len(self.reached)


class Node:
    """A sequence of pieces that proposals begin with."""

    __slots__ = "arrival", "bias_state", "children", "known", "lattice", "lm_state", "predicted", "state", "token"

    def __init__(self, token: int, lm_state: WordState, bias_state: BiasState | None, known: float) -> None:
        self.token = token
        self.children: dict[int, Node] = {}
        self.lm_state, self.bias_state = lm_state, bias_state
        self.known = known  # what language model and bias say of it, weighed
        self.predicted: Any = None
        self.state: Any = None
        self.arrival: Arrival | None = None  # None for the root, and until the transducer was asked
        self.lattice: Lattice | None = None  # None until the transducer was asked


class SecondPass:
    """Listens along with the first pass and has the last word on an utterance."""

    def __init__(
        self, model: Transducer, pieces: Pieces, lexicon: SoundLexicon, lm: WordLm, look_ahead: Float32,
        config: SecondPassConfig = SecondPassConfig(), bias: PhraseBias | None = None,
    ) -> None:  # fmt: skip
        """`look_ahead` is `ondevice.sound_search.look_ahead` of lexicon and language model."""
        self._model, self._pieces, self._lexicon, self._lm, self._bias = model, pieces, lexicon, lm, bias
        self._config = config
        self._search = SoundSearch(lexicon, lm.ngrams, config.sounds, look_ahead, bias)
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self._search.reset()
        self._encoded: list[Any] = []
        self._sounds: list[Float32] = []

    def accept(self, encoded: Any, logits: Float32) -> None:
        """Take an encoder frame [1, J] and what the phone head says of it [1, frames, C]."""
        if len(self._encoded) == MOST_FRAMES:
            return
        self._encoded.append(encoded)
        for row in logits[0]:
            row = row - row.max()
            logprobs: Float32 = row - np.log(np.exp(row).sum())
            self._sounds.append(logprobs)
            self._search.advance(logprobs)

    def n_best(self, first: Sequence[Decoded]) -> list[Decoded]:
        """The readings, best first, of the utterance that the first pass read as `first`."""
        if len(self._encoded) == MOST_FRAMES or not self._encoded:
            return list(first)
        bias_state = self._bias.initial_state() if self._bias else None
        root = Node(self._model.blank, self._lm.initial_state(), bias_state, 0.0)
        root.predicted, root.state = self._model.predict(root.token, self._model.initial_state())
        (silence,) = self._judged(root, [()])
        proposals = {text: proposal for proposal in self._proposals(first) if (text := _text(proposal))}
        readings = [silence, *self._judged(root, list(proposals.values()))]
        for _ in range(self._config.crossings):
            best = max(readings, key=_score)
            crossed = {_text(p): p for other in proposals.values() for p in _crossed(best.proposal, other)}
            fresh = {text: proposal for text, proposal in crossed.items() if text not in proposals}
            proposals |= fresh
            readings += self._judged(root, list(fresh.values()))
            if max(readings, key=_score) is best:
                break
        readings.sort(key=_score, reverse=True)
        if readings[0].score < silence.score + min(self._config.silence_margin * len(self._encoded), MOST_SILENCE):
            readings = [silence, *(reading for reading in readings if reading is not silence)]
        return [reading.decoded for reading in readings]

    def _judged(self, root: Node, proposals: Sequence[Proposal]) -> list[Reading]:
        """Readings of the proposals that score best before the transducer is asked, with its word on them."""
        if not proposals:
            return []
        config = self._config
        paths = [self._path(root, _tokens(proposal)) for proposal in proposals]
        phones = [tuple(phone for said in proposal for phone in said.phones) for proposal in proposals]
        scores = phone_scores(np.stack(self._sounds), phones)
        scores += [self._known(path[-1]) for path in paths]
        scores += config.word_bonus * np.array([len(_text(proposal).split()) for proposal in proposals])
        possible = np.flatnonzero(np.isfinite(scores))  # silence always is
        kept = possible[np.argsort(-scores[possible], kind="stable")][: config.proposals].tolist()
        alignments = self._alignments([paths[i] for i in kept]) if kept else []
        return [
            Reading(float(scores[i]) + config.transducer_weight * alignment.logprob, proposals[i], alignment)
            for i, alignment in zip(kept, alignments, strict=True)
        ]

    def _proposals(self, first: Sequence[Decoded]) -> Iterator[Proposal]:
        """What was heard, silence included, the likeliest sound of a text before others."""
        lexicon = self._lexicon
        usual: dict[int, int] = {}  # the pronunciation that a word was heard with
        heard_first: list[Proposal] = [()]
        for heard in self._search.n_best():
            words = lexicon.word[list(heard.pronunciations)].tolist()
            usual = dict(zip(words, heard.pronunciations, strict=True)) | usual
            pieces = [lexicon.pieces(word) for word in words]
            sounds = [lexicon.sound(row) for row in heard.pronunciations]
            heard_first.append(tuple(map(Said, map(self._pieces.text, pieces), pieces, sounds)))
        for decoded in first:
            spans: dict[tuple[int, int], list[str]] = {}  # a piece may hold several words
            for word in self._pieces.words(decoded.tokens):
                spans.setdefault((word.start, word.end), []).append(word.text)
            yield tuple(
                Said(" ".join(texts), tuple(decoded.tokens[start:end]), self._sound(texts, usual))
                for (start, end), texts in spans.items()
            )
        yield from reversed(heard_first)

    def _sound(self, words: Sequence[str], usual: dict[int, int]) -> Phones:
        return tuple(phone for word in words for phone in self._said(word, usual))

    def _said(self, word: str, usual: dict[int, int]) -> Phones:
        """How a word of the first pass sounds."""
        number = self._lm.place(word)
        if number is not None and (rows := self._lexicon.variants(number)):
            return self._lexicon.sound(usual.get(number, rows[0]))
        return self._lexicon.guess(word)

    def _path(self, root: Node, tokens: Sequence[int]) -> list[Node]:
        """The nodes of a sequence, the root first, in the tree that language model and bias score."""
        path = [root]
        for token in tokens:
            node = path[-1]
            child = node.children.get(token)
            if child is None:
                lm_state, logprob = self._lm.score(node.lm_state, token)
                known = node.known + self._config.lm_weight * logprob
                bias_state = None
                if self._bias and node.bias_state is not None:
                    known += self._config.bias_weight * float(self._bias.scores(node.bias_state)[token])
                    bias_state = self._bias.advance(node.bias_state, token)
                child = node.children[token] = Node(token, lm_state, bias_state, known)
            path.append(child)
        return path

    def _known(self, leaf: Node) -> float:
        """What language model and bias say of a whole text."""
        known = leaf.known + self._config.lm_weight * self._lm.final(leaf.lm_state)
        if self._bias and leaf.bias_state is not None:
            known += self._config.bias_weight * self._bias.final(leaf.bias_state)
        return known

    def _alignments(self, paths: Sequence[Sequence[Node]]) -> list[Alignment]:
        """How the transducer may have put out each sequence; what two of them begin with is computed once."""
        after: dict[Node, dict[int, Node]] = {}  # parents before children
        for path in paths:
            for node, child in pairwise(path):
                if child.predicted is None:
                    child.predicted, child.state = self._model.predict(child.token, node.state)
                after.setdefault(node, {})[child.token] = child
            after.setdefault(path[-1], {})
        whole = {path[-1] for path in paths}
        for node, children in after.items():
            self._follow(node, [child for child in children.values() if child.arrival is None], to_end=node in whole)
        return [self._alignment(path) for path in paths]

    def _follow(self, node: Node, fresh: Sequence[Node], *, to_end: bool) -> None:
        """Compute a node's lattice, unless it is known, and the arrival of children that are asked for anew.

        It is followed until it is all but impossible that no more pieces came.
        """
        total, lattice = len(self._encoded), node.lattice
        tokens = [self._model.blank, *(child.token for child in fresh)]
        if lattice is not None and (lattice.end == total or not to_end):
            if fresh:
                self._arrive(fresh, lattice, self._join(node, tokens, lattice.first, lattice.end))
            return
        begin, comes = (node.arrival.first, node.arrival.comes) if node.arrival else (0, np.zeros(1))
        alive = np.flatnonzero(comes >= comes.max() - MARGIN)
        first, end = begin + int(alive[0]), begin + int(alive[-1]) + 1
        logprobs = np.zeros((0, len(tokens)))
        while True:
            known, end = end if len(logprobs) else first, total if to_end else min(end + AHEAD, total)
            logprobs = np.concatenate([logprobs, self._join(node, tokens, known, end)])
            stays = logprobs[:, 0]
            falls = np.concatenate([[0.0], np.cumsum(stays)[:-1]])
            arrives = np.full(end - first, -np.inf)
            within = comes[first - begin : end - begin]
            arrives[: len(within)] = within
            reached = falls + np.logaddexp.accumulate(arrives - falls)
            if end == total or reached[-1] + stays[-1] < reached.max() - MARGIN:
                break
        rises = np.flatnonzero(arrives[1:] >= reached[:-1] + stays[:-1]) + first + 1
        node.lattice = Lattice(first, reached, stays, np.concatenate([[first], rises]))
        self._arrive(fresh, node.lattice, logprobs)

    def _join(self, node: Node, tokens: Sequence[int], first: int, end: int) -> Float64:
        logprobs = self._model.join_frames(self._encoded[first:end], node.predicted, tokens).astype(np.float64)
        return np.maximum(logprobs, IMPOSSIBLE, out=logprobs)

    @staticmethod
    def _arrive(children: Sequence[Node], lattice: Lattice, logprobs: Float64) -> None:
        """Take what the transducer said [n, 1 + children] over the frames of their parent's lattice."""
        for child, emits in zip(children, logprobs.T[1:], strict=True):
            child.arrival = Arrival(lattice.first, emits, lattice.reached + emits, lattice.stays)

    def _alignment(self, path: Sequence[Node]) -> Alignment:
        """What the lattices along a path say of the whole."""
        frames, sure = [], []
        frame = len(self._encoded) - 1
        for node in reversed(path[1:]):
            arrival, lattice = node.arrival, node.lattice
            assert arrival is not None
            assert lattice is not None
            frame = int(lattice.rises[np.searchsorted(lattice.rises, frame, side="right") - 1])
            place = frame - arrival.first
            frames.append(frame)
            sure.append(confidence(float(arrival.emits[place]), float(arrival.stays[place])))
        last = path[-1].lattice
        assert last is not None
        return Alignment(float(last.reached[-1] + last.stays[-1]), frames[::-1], sure[::-1])


def _crossed(best: Proposal, other: Proposal) -> Iterator[Proposal]:
    """The best proposal with one stretch of words, where the two differ, as the other has it."""
    matcher = SequenceMatcher(None, [said.text for said in best], [said.text for said in other], autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        if kind != "equal":
            yield (*best[:start], *other[other_start:other_end], *best[end:])


def _tokens(proposal: Proposal) -> list[int]:
    return [token for said in proposal for token in said.tokens]


def _text(proposal: Proposal) -> str:
    return " ".join(said.text for said in proposal)


def _score(reading: Reading) -> float:
    return reading.score


def phone_scores(logprobs: Float32, sequences: Sequence[Phones]) -> Float64:
    """CTC log probability [K] of phone sequences given natural log probabilities [S, C].

    It is -inf where no path fits, or all are so unlikely at some frame beside others of the sequence (FAINT).
    """
    scores = np.full(len(sequences), logprobs[:, BLANK].sum(dtype=np.float64))  # nothing was said
    spoken = [row for row, phones in enumerate(sequences) if phones]
    if spoken:
        scores[spoken] = _spoken_scores(logprobs, [sequences[row] for row in spoken])
    return scores


def _spoken_scores(logprobs: Float32, sequences: Sequence[Phones]) -> Float64:
    """The same of sequences with phones."""
    ends = 2 * np.array([len(phones) for phones in sequences], np.int64)
    width = int(ends.max()) + 1
    labels = np.zeros((len(sequences), width), np.int64)  # blanks between and around
    for row, phones in enumerate(sequences):
        labels[row, 1 : 2 * len(phones) : 2] = phones
    inside = np.arange(width) <= ends[:, None]
    skips = ((labels[:, 2:] != BLANK) & (labels[:, 2:] != labels[:, :-2])).astype(np.float64)  # a blank between phones
    # Probabilities as parts of the likeliest place's, whose logarithm is kept apart: far cheaper than sums of logs.
    # Only the places from `low` to `high` are looked at; elsewhere all sequences have next to nothing.
    alpha, scale = np.zeros(labels.shape), np.zeros(len(sequences))
    alpha[:, 0] = 1.0
    low, high = 0, 1
    with np.errstate(divide="ignore", under="ignore"):
        for frame, heard in enumerate(np.exp(np.maximum(logprobs, LEAST_LOG).astype(np.float64))):
            high = min(high + 2, width)
            before = alpha[:, low:high]
            after = before.copy()
            after[:, 1:] += before[:, :-1]
            after[:, 2:] += skips[:, low : high - 2] * before[:, :-2]
            after *= heard[labels[:, low:high]] * inside[:, low:high]
            peak = after.max(axis=1)
            after /= peak[:, None]
            scale += np.log(peak)
            alpha[:, low:high] = after
            if frame % LOOK_FRAMES == 0:
                alive = np.flatnonzero((after > FAINT).any(axis=0))
                first, last = low + int(alive[0]), low + int(alive[-1]) + 1
                alpha[:, low:first] = alpha[:, last:high] = 0.0
                low, high = first, last
        rows = np.arange(len(sequences))
        scores: Float64 = np.log(alpha[rows, ends] + alpha[rows, ends - 1]) + scale
    return scores
