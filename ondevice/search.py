"""Transducer search on the device: greedy, and frame-synchronous beam search with fusion.

A frame may emit up to `max_symbols` tokens and then takes one blank. The score of a token sequence is the log of the
summed probability of its alignments, plus what language model, phrase bias and length bonus add for its tokens.
Sequences are nodes of a tree, so equal histories are the same object: merging costs a dictionary look-up, and what the
predictor said after a history is computed once.

Legend: `J` joiner width, `V` tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ondevice.bias import BiasState, PhraseBias
from ondevice.errors import InputError

Float32 = npt.NDArray[np.float32]

_SWEEP_FRAMES = 16  # about a second: histories not needed for so long give their memory back


class Transducer(Protocol):
    """The two parts of an RNN-T that the search calls (Graves 2012, arXiv 1211.3711)."""

    blank: int

    def initial_state(self) -> Any:
        """The predictor's state before any token; predicting from the blank starts a sequence."""

    def predict(self, token: int, state: Any) -> tuple[Any, Any]:
        """(predicted, next state) after one more token."""

    def join(self, encoded: Any, predicted: Any) -> Float32:
        """Natural log probabilities [V] of one frame after one history; the caller owns the array."""

    def join_frames(self, encoded: Sequence[Any], predicted: Any, tokens: Sequence[int]) -> Float32:
        """The same of a few tokens [U] at many frames [N] after one history: [N, U]."""


class LanguageModel(Protocol):
    """What scores the next token by the ones before; states are values that the search keeps."""

    def initial_state(self) -> Any:
        """The state at the beginning of a sentence."""

    def advance(self, state: Any, token: int) -> Any:
        """The state after one more token."""

    def scores(self, state: Any) -> Float32:
        """Natural log probability of every token [V]; the caller owns the array."""

    def final(self, state: Any) -> float:
        """What the end of the text adds, natural log."""


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search, all in effect (no defaults left to look up)."""

    beam: int = 4  # hypotheses kept
    max_symbols: int = 3  # tokens a frame may emit
    lm_weight: float = 0.0  # of the language model's natural log probability
    ilm_weight: float = 0.0  # of the model's own language prior, subtracted (Variani et al. 2020, HAT)
    length_bonus: float = 0.0  # natural log, per token
    prune_margin: float = math.inf  # drop hypotheses so much worse than the best, natural log
    blank_skip: float = 1.0  # above this blank probability of the best hypothesis, all take a blank; 1: never

    def __post_init__(self) -> None:
        if self.beam < 1 or self.max_symbols < 1:
            raise InputError(f"beam and max_symbols must be at least 1, got {self.beam} and {self.max_symbols}")
        if not self.prune_margin >= 0 or not 0 < self.blank_skip <= 1:
            raise InputError(
                f"prune_margin must be at least 0 and blank_skip above 0 and up to 1, "
                f"got {self.prune_margin} and {self.blank_skip}"
            )


class Emission(NamedTuple):
    """Where a token came out, linked to the one before."""

    frame: int
    confidence: float  # the token's probability given that the frame emits one
    before: "Emission | None"


class Decoded(NamedTuple):
    """A hypothesis with its history written out."""

    tokens: list[int]
    frames: list[int]  # the frame each token came out at, not decreasing
    confidences: list[float]
    score: float  # natural log


class History:
    """A token sequence, and what the models said after it."""

    __slots__ = ("bias_state", "children", "fusion", "lm_state", "parent", "predicted", "state", "token", "used")

    def __init__(self, token: int, parent: "History | None") -> None:
        self.token = token
        self.parent = parent
        self.children: dict[int, History] = {}
        self.used = 0  # last frame that needed it
        self.predicted: Any = None
        self.state: Any = None
        self.lm_state: Any = None
        self.bias_state: BiasState | None = None
        self.fusion: Float32 | float | None = None  # added to the log probabilities of its next tokens

    def tokens(self) -> list[int]:
        """The sequence, oldest first."""
        found, node = [], self
        while node.parent is not None:
            found.append(node.token)
            node = node.parent
        return found[::-1]


class Hypothesis:
    """A history with its score and the frames of its best alignment."""

    __slots__ = ("history", "score", "trail")

    def __init__(self, score: float, history: History, trail: Emission | None) -> None:
        self.score = score
        self.history = history
        self.trail = trail


class GreedySearch:
    """The likeliest symbol at every point; the same as a beam of 1 without fusion."""

    def __init__(self, model: Transducer, max_symbols: int = 3) -> None:
        self._model = model
        self._max_symbols = max_symbols
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self.frame = 0
        self._predicted, self._state = self._model.predict(self._model.blank, self._model.initial_state())
        self._best = Hypothesis(0.0, History(self._model.blank, None), None)

    def advance(self, encoded: Any) -> None:
        """Take one encoder frame."""
        best, blank = self._best, self._model.blank
        for emitted in range(self._max_symbols + 1):
            logprobs = self._model.join(encoded, self._predicted)
            token = int(logprobs.argmax()) if emitted < self._max_symbols else blank
            best.score += float(logprobs[token])
            if token == blank:
                break
            best.history = History(token, best.history)
            best.trail = Emission(self.frame, confidence(float(logprobs[token]), float(logprobs[blank])), best.trail)
            self._predicted, self._state = self._model.predict(token, self._state)
        self.frame += 1

    def best(self) -> Hypothesis:
        """The hypothesis so far."""
        return self._best

    def n_best(self) -> list[Decoded]:
        """The one hypothesis, written out."""
        return [write_out(self._best)]


class BeamSearch:
    """Keeps the best `beam` token sequences, merged over alignments."""

    def __init__(
        self,
        model: Transducer,
        config: SearchConfig,
        lm: LanguageModel | None = None,
        bias: PhraseBias | None = None,
    ) -> None:
        self._model = model
        self._config = config
        self._lm = lm if lm and config.lm_weight else None
        self._bias = bias or None
        self.predict_calls = self.predict_saved = self.join_calls = 0
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self.frame = 0
        root = History(self._model.blank, None)
        self._predict(root)
        root.lm_state = self._lm.initial_state() if self._lm else None
        root.bias_state = self._bias.initial_state() if self._bias else None
        self._hypotheses = [Hypothesis(0.0, root, None)]  # best first
        self._remembered = [root]  # every history of the tree, parents before children
        self._rows: dict[History, Float32] = {}  # what the joiner said at this frame
        self._silence: Any = None  # an encoder frame of zeros

    def advance(self, encoded: Any) -> None:
        """Take one encoder frame [1, J]."""
        blank, beam = self._model.blank, self._config.beam
        active, done = self._hypotheses, dict[History, Hypothesis]()
        self._rows.clear()
        if self._silence is None:
            self._silence = np.zeros_like(encoded)
        if self._config.blank_skip < 1.0 and self._skip(encoded):
            active = []
        for emitted in range(self._config.max_symbols + 1):
            rows = []
            for hypothesis in active:
                logprobs = self._join(encoded, hypothesis.history)
                rows.append(logprobs)
                self._merge(done, hypothesis, hypothesis.score + float(logprobs[blank]))
            if not active or emitted == self._config.max_symbols:
                break
            # Finished and unfinished hypotheses compete for the beam: with a beam of 1 this is greedy search.
            finished = sorted(done.values(), key=_badness)[:beam]
            grown = self._extend(active, rows, self._floor(finished))
            kept = sorted([*finished, *grown], key=_badness)[:beam]
            floor = kept[0].score - self._config.prune_margin
            done = {h.history: h for h in finished if h.score >= max(floor, kept[-1].score)}
            active = [h for h in grown if h.score >= max(floor, kept[-1].score)]
        if done:
            best = sorted(done.values(), key=_badness)[:beam]
            self._hypotheses = [h for h in best if h.score >= best[0].score - self._config.prune_margin]
        self.frame += 1
        if self.frame % _SWEEP_FRAMES == 0:
            self._sweep()

    def best(self) -> Hypothesis:
        """The best hypothesis so far (bonus held for unfinished phrases included)."""
        return self._hypotheses[0]

    def n_best(self) -> list[Decoded]:
        """The hypotheses written out, best first; scores as if the utterance ended here."""
        found = [write_out(h, self._final(h)) for h in self._hypotheses]
        return sorted(found, key=lambda d: -d.score)

    @property
    def remembered(self) -> int:
        """Histories in memory: the best sequences' tokens, and whatever the last second came by."""
        return len(self._remembered)

    def _join(self, encoded: Any, history: History) -> Float32:
        """Natural log probabilities [V] after `history` at this frame, asked of the model once a frame."""
        row = self._rows.get(history)
        if row is None:
            self._predict(history)
            row = self._rows[history] = self._model.join(encoded, history.predicted)
            self.join_calls += 1
        return row

    def _predict(self, history: History) -> None:
        """Make sure that `history` holds what the predictor says after it."""
        history.used = self.frame
        if history.predicted is not None:
            self.predict_saved += 1
            return
        missing = [history]
        while missing[-1].parent is not None and missing[-1].parent.predicted is None:
            missing.append(missing[-1].parent)
        for node in reversed(missing):
            state = self._model.initial_state() if node.parent is None else node.parent.state
            node.predicted, node.state = self._model.predict(node.token, state)
            node.used = self.frame
            self.predict_calls += 1

    def _fusion(self, history: History) -> Float32 | float:
        """What language model, prior, phrase bias and length bonus add to the next tokens: [V] or one number."""
        if history.fusion is not None:
            return history.fusion
        added: Float32 | float = self._config.length_bonus
        if self._lm is not None:
            added = added + np.float32(self._config.lm_weight) * self._lm.scores(history.lm_state)
        if self._bias is not None and history.bias_state is not None:
            added = added + self._bias.scores(history.bias_state)
        if self._config.ilm_weight:
            # the joiner without sound is the model's own language model, once the blank is taken out
            prior = self._model.join(self._silence, history.predicted)
            self.join_calls += 1
            rest = math.log(max(-math.expm1(float(prior[self._model.blank])), 1e-12))
            added = added - np.float32(self._config.ilm_weight) * (prior - np.float32(rest))
        history.fusion = added
        return added

    def _skip(self, encoded: Any) -> bool:
        """Whether the best hypothesis is so sure of a blank that all take one, as likely as its own, unasked."""
        blank = float(self._join(encoded, self._hypotheses[0].history)[self._model.blank])
        if math.exp(blank) <= self._config.blank_skip:
            return False
        for hypothesis in self._hypotheses:
            hypothesis.score += blank
        return True

    def _floor(self, finished: Sequence[Hypothesis]) -> float:
        """Score below which a new hypothesis cannot be among the best."""
        if not finished:
            return -math.inf
        worst = finished[-1].score if len(finished) == self._config.beam else -math.inf
        return max(worst, finished[0].score - self._config.prune_margin)

    def _extend(self, active: Sequence[Hypothesis], rows: Sequence[Float32], floor: float) -> list[Hypothesis]:
        """The best `beam` of all hypotheses one token longer, those at or above `floor`."""
        found: list[tuple[float, int, int]] = []
        for index, (hypothesis, row) in enumerate(zip(active, rows, strict=True)):
            gains = row + self._fusion(hypothesis.history)
            gains[self._model.blank] = -math.inf
            count = min(self._config.beam, len(gains) - 1)
            best = np.argpartition(gains, len(gains) - count)[len(gains) - count :]
            # Summed in float64: in float32 a long utterance's score would swallow what tells two tokens apart.
            scores = gains[best].astype(np.float64) + hypothesis.score
            grown = zip(scores.tolist(), best.tolist(), strict=True)
            found += [(score, index, token) for score, token in grown if score >= floor and score > -math.inf]
        found.sort(key=lambda f: (-f[0], f[1], f[2]))
        return [self._grow(active[i], rows[i], token, score) for score, i, token in found[: self._config.beam]]

    def _grow(self, hypothesis: Hypothesis, row: Float32, token: int, score: float) -> Hypothesis:
        history = hypothesis.history
        child = history.children.get(token)
        if child is None:
            child = history.children[token] = History(token, history)
            child.lm_state = self._lm.advance(history.lm_state, token) if self._lm else None
            if self._bias and history.bias_state:
                child.bias_state = self._bias.advance(history.bias_state, token)
            self._remembered.append(child)
        child.used = self.frame
        trail = Emission(self.frame, confidence(float(row[token]), float(row[self._model.blank])), hypothesis.trail)
        return Hypothesis(score, child, trail)

    @staticmethod
    def _merge(done: dict[History, Hypothesis], hypothesis: Hypothesis, score: float) -> None:
        """Put a finished hypothesis in, adding the probability of one with the same tokens; the likelier times stay."""
        other = done.get(hypothesis.history)
        if other is None:
            done[hypothesis.history] = Hypothesis(score, hypothesis.history, hypothesis.trail)
            return
        if score > other.score:
            other.trail = hypothesis.trail
        other.score = float(np.logaddexp(other.score, score))

    def _final(self, hypothesis: Hypothesis) -> float:
        """What language model and phrase bias add if the text ends here."""
        history, added = hypothesis.history, 0.0
        if self._lm is not None:
            added += self._config.lm_weight * self._lm.final(history.lm_state)
        if self._bias is not None and history.bias_state is not None:
            added += self._bias.final(history.bias_state)
        return added

    def _sweep(self) -> None:
        """Forget what histories hold that no hypothesis came by for a while, and those that lead nowhere."""
        alive = {h.history for h in self._hypotheses}
        kept = []
        for node in reversed(self._remembered):  # children come after their parents
            if node in alive or self.frame - node.used < _SWEEP_FRAMES:
                kept.append(node)
                continue
            node.predicted = node.state = node.fusion = None
            if node.parent is not None and not node.children:
                del node.parent.children[node.token]
            elif node.children:
                kept.append(node)
        self._remembered = kept[::-1]


def write_out(hypothesis: Hypothesis, extra: float = 0.0) -> Decoded:
    """Tokens, frames and confidences of a hypothesis, oldest first; `extra` is added to its score."""
    frames, confidences, trail = [], [], hypothesis.trail
    while trail is not None:
        frames.append(trail.frame)
        confidences.append(trail.confidence)
        trail = trail.before
    return Decoded(hypothesis.history.tokens(), frames[::-1], confidences[::-1], hypothesis.score + extra)


def _badness(hypothesis: Hypothesis) -> float:
    return -hypothesis.score


def confidence(token: float, blank: float) -> float:
    """Probability of a token given that the frame emits one, by the log probabilities of the two."""
    return min(1.0, math.exp(token) / max(-math.expm1(blank), 1e-12))
