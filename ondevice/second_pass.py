"""The second pass: what the transducer's beam and the search over sounds found, weighed by everything that is known.

A transducer trained on little speech spells badly, and its beam holds few different words. The phone head knows less,
but a lexicon and the words' own language model turn sounds into words it was never taught to spell. So both propose,
and at the end of the utterance every proposal is given the same four scores: the transducer's, the phone head's, the
language model's and that of phrase bias (two passes as in Sainath et al. 2019, arXiv 1908.10992).

Legend: `T` encoder frames, `S` frames of the phone head, `C` phones, blank included; `K` proposals, `U` phones.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ondevice.bias import BiasState, PhraseBias
from ondevice.search import Decoded, Emission, Transducer, confidence
from ondevice.sound_lexicon import BLANK, Phones, SoundLexicon
from ondevice.sound_search import SoundSearch, SoundSearchConfig
from ondevice.tokens import Pieces
from ondevice.wordlm import WordLm, WordState

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

MOST_FRAMES = 2000  # two minutes: what is longer stays as the first pass heard it


@dataclass(frozen=True)
class SecondPassConfig:
    """Settings of the pass; weights are of natural logs, the phone head's own is 1."""

    beam: int = 60  # hypotheses of the search over sounds
    margin: float = 10.0  # of its hypotheses
    phone_margin: float = 8.0
    lm_weight: float = 0.8
    word_bonus: float = 0.5
    transducer_weight: float = 0.6
    proposals: int = 10  # the transducer is asked about
    transducer_margin: float = 15.0  # alignments so much worse than the best are not followed

    @property
    def sounds(self) -> SoundSearchConfig:
        """Settings of the search over sounds."""
        return SoundSearchConfig(self.beam, self.margin, self.phone_margin, self.lm_weight, self.word_bonus)


class Proposal(NamedTuple):
    """A text by its pieces, and how it sounds."""

    tokens: tuple[int, ...]
    phones: Phones
    words: int


class Alignments(NamedTuple):
    """All ways the pieces of a node may have come out by a frame: their probability, and the likeliest."""

    logprob: float
    trail: Emission | None

    def joined(self, other: "Alignments | None") -> "Alignments":
        """These and others of the same node."""
        if other is None:
            return self
        return Alignments(float(np.logaddexp(self.logprob, other.logprob)), max(self, other, key=_likely).trail)


class Node:
    """A sequence of pieces that proposals begin with."""

    __slots__ = ("bias_state", "children", "depth", "known", "lm_state", "predicted", "state", "token", "wanted")

    def __init__(
        self, token: int, depth: int, lm_state: WordState, bias_state: BiasState | None, known: float
    ) -> None:  # fmt: skip
        self.token, self.depth = token, depth
        self.children: dict[int, Node] = {}
        self.lm_state, self.bias_state = lm_state, bias_state
        self.known = known  # what language model and bias say of it, weighed
        self.wanted = False  # the transducer is asked about it
        self.predicted: Any = None
        self.state: Any = None


class SecondPass:
    """Listens along with the first pass and has the last word on an utterance."""

    def __init__(
        self, model: Transducer, pieces: Pieces, lexicon: SoundLexicon, lm: WordLm, look_ahead: Float32,
        config: SecondPassConfig = SecondPassConfig(), bias: PhraseBias | None = None,
    ) -> None:  # fmt: skip
        """`look_ahead` is `ondevice.sound_search.look_ahead` of lexicon and language model."""
        self._model, self._pieces, self._lexicon, self._lm, self._bias = model, pieces, lexicon, lm, bias
        self._config = config
        self._words = lm.known_words
        self._search = SoundSearch(lexicon, lm.ngrams, config.sounds, look_ahead)
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
        proposals = list(self._proposals(first))
        bias_state = self._bias.initial_state() if self._bias else None
        root = Node(self._model.blank, 0, self._lm.initial_state(), bias_state, 0.0)
        paths = [self._path(root, proposal.tokens) for proposal in proposals]
        scores = phone_scores(np.stack(self._sounds), [proposal.phones for proposal in proposals])
        scores += [self._known(path[-1]) for path in paths]
        scores += self._config.word_bonus * np.array([proposal.words for proposal in proposals])
        kept = np.argsort(-scores, kind="stable")[: self._config.proposals].tolist()
        for node in (node for i in kept for node in paths[i]):
            node.wanted = True
        aligned, found = self._aligned(root), []
        for i in kept:
            if (end := aligned.get(paths[i][-1])) is not None:
                score = float(scores[i]) + self._config.transducer_weight * end[0]
                found.append(_written(proposals[i].tokens, end[1], score))
        return sorted(found, key=lambda decoded: -decoded.score) or list(first)

    def _proposals(self, first: Sequence[Decoded]) -> Iterator[Proposal]:
        """What was heard, silence included, each text once."""
        lexicon, texts = self._lexicon, {""}
        yield Proposal((), (), 0)
        usual: dict[int, int] = {}  # the pronunciation that a word was heard with
        for heard in self._search.n_best():
            words = lexicon.word[list(heard.pronunciations)].tolist()
            usual = dict(zip(words, heard.pronunciations, strict=True)) | usual
            tokens = tuple(token for word in words for token in lexicon.pieces(word))
            if (text := self._pieces.text(tokens)) not in texts:
                texts.add(text)
                phones = tuple(phone for row in heard.pronunciations for phone in lexicon.sound(row))
                yield Proposal(tokens, phones, len(words))
        for decoded in first:
            if (text := self._pieces.text(decoded.tokens)) not in texts:
                texts.add(text)
                spoken = text.split()
                phones = tuple(phone for word in spoken for phone in self._said(word, usual))
                yield Proposal(tuple(decoded.tokens), phones, len(spoken))

    def _said(self, word: str, usual: dict[int, int]) -> Phones:
        """How a word of the first pass sounds."""
        number = bisect.bisect_left(self._words, word)
        if number < len(self._words) and self._words[number] == word:
            rows = self._lexicon.variants(number)
            if rows:
                return self._lexicon.sound(usual.get(number, rows[0]))
        return self._lexicon.guess(word)

    def _path(self, root: Node, tokens: Sequence[int]) -> list[Node]:
        """The nodes of a sequence, the root first, in the tree that language model and bias score."""
        path = [root]
        for token in tokens:
            node = path[-1]
            child = node.children.get(token)
            if child is None:
                known = node.known + self._config.lm_weight * float(self._lm.scores(node.lm_state)[token])
                bias_state = None
                if self._bias and node.bias_state is not None:
                    known += float(self._bias.scores(node.bias_state)[token])
                    bias_state = self._bias.advance(node.bias_state, token)
                lm_state = self._lm.advance(node.lm_state, token)
                child = node.children[token] = Node(token, node.depth + 1, lm_state, bias_state, known)
            path.append(child)
        return path

    def _known(self, leaf: Node) -> float:
        """What language model and bias say of a whole text."""
        known = leaf.known + self._config.lm_weight * self._lm.final(leaf.lm_state)
        if self._bias and leaf.bias_state is not None:
            known += self._bias.final(leaf.bias_state)
        return known

    def _aligned(self, root: Node) -> dict[Node, Alignments]:
        """The transducer's alignments of the wanted nodes that are likely at the end."""
        model = self._model
        root.predicted, root.state = model.predict(root.token, model.initial_state())
        active = {root: Alignments(0.0, None)}
        for frame, encoded in enumerate(self._encoded):
            floor = max(here.logprob for here in active.values()) - self._config.transducer_margin
            levels: defaultdict[int, dict[Node, Alignments]] = defaultdict(dict)  # nodes by depth
            for node, here in active.items():
                levels[node.depth][node] = here
            active, depth = {}, min(levels)
            while levels:  # a frame may emit several pieces: a node comes after its parent
                for node, here in levels.pop(depth, {}).items():
                    if here.logprob < floor:
                        continue
                    row = model.join(encoded, node.predicted)
                    active[node] = Alignments(here.logprob + float(row[model.blank]), here.trail)
                    for token, child in node.children.items():
                        if not child.wanted:
                            continue
                        if child.predicted is None:
                            child.predicted, child.state = model.predict(token, node.state)
                        trail = Emission(frame, confidence(row, token, model.blank), here.trail)
                        grown = Alignments(here.logprob + float(row[token]), trail)
                        levels[depth + 1][child] = grown.joined(levels[depth + 1].get(child))
                depth += 1
        return active


def phone_scores(logprobs: Float32, sequences: Sequence[Phones]) -> Float64:
    """CTC log probability [K] of phone sequences given natural log probabilities [S, C]; -inf where none fits."""
    longest = max(map(len, sequences), default=0)
    labels = np.zeros((len(sequences), 2 * longest + 1), np.int64)  # blanks between and around
    for row, phones in enumerate(sequences):
        labels[row, 1 : 2 * len(phones) : 2] = phones
    skips = np.zeros(labels.shape, bool)  # over the blank between two different phones
    skips[:, 2:] = (labels[:, 2:] != BLANK) & (labels[:, 2:] != labels[:, :-2])
    alpha = np.full(labels.shape, -np.inf)
    alpha[:, 0] = 0.0
    for heard in logprobs.astype(np.float64):
        before = alpha
        alpha = before.copy()
        alpha[:, 1:] = np.logaddexp(alpha[:, 1:], before[:, :-1])
        alpha[:, 2:] = np.where(skips[:, 2:], np.logaddexp(alpha[:, 2:], before[:, :-2]), alpha[:, 2:])
        alpha += heard[labels]
    ends = 2 * np.array([len(phones) for phones in sequences], np.int64)
    rows = np.arange(len(sequences))
    scores: Float64 = np.logaddexp(alpha[rows, ends], np.where(ends > 0, alpha[rows, np.maximum(ends - 1, 0)], -np.inf))
    return scores


def _likely(alignments: Alignments) -> float:
    return alignments.logprob


def _written(tokens: Sequence[int], trail: Emission | None, score: float) -> Decoded:
    frames, confidences = [], []
    while trail is not None:
        frames.append(trail.frame)
        confidences.append(trail.confidence)
        trail = trail.before
    return Decoded(list(tokens), frames[::-1], confidences[::-1], score)
