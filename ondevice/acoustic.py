"""Text symbols to log-mel on the device: the exported steps of a Tacotron, one sentence after another.

Shapes: `N` symbols, `F` mel frames, `G` decoder steps, `M` mel bands, `D` memory width, `S` style width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.voice_manifest import PROSODY_FEATURES, VoiceManifest

Float32 = npt.NDArray[np.float32]
Call = Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]

TRIES = 4  # a sentence that goes wrong is said again with other dropout
STALLED_S = 1.5  # on one symbol: longer than the longest pause
LONGEST_SYMBOL_S = 0.5  # on average, beyond which a sentence has run away
LONGEST_JUMP = 4  # symbols in one step; beyond, a sound or a word was left out
BACKWARDS = 3, 0.2  # so many symbols behind for so many seconds: something is said twice
LAST_SYMBOLS = 2  # a sentence may end on these: its last sound and the mark after it
LINGER_S = 0.4  # on these without a stop: it has ended all the same


class Trouble(Enum):
    """What can go wrong in saying a sentence, from bad to worse."""

    NONE = "nothing"
    SKIPPED = "it left something out"
    REPEATED = "it said something twice"
    STALLED = "it got stuck"
    RAN_AWAY = "it did not end"


@dataclass(frozen=True)
class Mel:
    """A sentence as spectra: normalised log-mel [F, M], where the decoder looked [G, N], and what went wrong."""

    frames: Float32
    alignment: Float32
    trouble: Trouble


class AcousticModel:
    """A voice's steps with the loops around them."""

    def __init__(self, manifest: VoiceManifest, calls: Mapping[str, Call]) -> None:
        """`calls` runs each signature: a model file's, or anything that computes the same."""
        self.manifest, self._calls = manifest, calls
        self.hop_s = manifest.features.hop_samples / manifest.features.rate_hz
        self._step_s = self.hop_s * manifest.reduction

    def _zeros(self, signature: str) -> dict[str, Float32]:
        state = self.manifest.signatures[signature].state
        return {name: np.zeros(shape, np.float32) for name, shape in state.items()}

    # style

    def style_of_weights(self, weights: Float32) -> Float32:
        """Style [1, S] of weights [heads, tokens] or [tokens], the same for every head."""
        _, heads, tokens = self.manifest.shape("style", "inputs", "weights", 3)
        full = np.broadcast_to(np.asarray(weights, np.float32), (heads, tokens))[None]
        return self._calls["style"]({"weights": np.ascontiguousarray(full)})["style"]

    def style_of_tokens(self, amounts: Mapping[int, float], base: Float32 | None = None) -> Float32:
        """Style [1, S]: `base` (else the voice's neutral style) moved towards each token by its amount.

        1 moves by the manifest's `style_reach` (None: to the token alone), a negative amount away from the token.
        Raises InputError for a token that is not there or an amount that is not a number.
        """
        count = self.manifest.tokens
        style = self.manifest.neutral_style if base is None else base
        for token, amount in amounts.items():
            if not 0 <= token < count:
                raise InputError(f"style token {token}: expected one of {', '.join(map(str, range(count)))}")
            if not abs(amount) <= 10:  # NaN too
                raise InputError(f"style token {token}: weight {amount} is out of range; expected -10 to 10")
            alone = self.style_of_weights(np.eye(count, dtype=np.float32)[token])
            way = alone - self.manifest.neutral_style
            reach = self.manifest.style_reach
            unit = 1.0 if reach is None else reach / max(float(np.linalg.norm(way)), 1e-6)
            style = style + np.float32(amount * unit) * way
        return style.astype(np.float32)

    def style_of_mel(self, mel: Float32) -> Float32:
        """Style [1, S] of a recording's normalised log-mel [F, M], F >= 1."""
        block, state = self.manifest.reference_frames, self._zeros("reference")
        padded = np.pad(mel, ((0, -len(mel) % block), (0, 0))).astype(np.float32)
        for start in range(0, len(padded), block):
            state = self._calls["reference"]({"mel": padded[None, start : start + block], **state})
            weights = state.pop("weights")
        return self.style_of_weights(weights[0])

    # text

    def encode(self, symbols: Sequence[int]) -> Float32:
        """[1, longest, D], zero beyond the N symbols. Raises InputError when there are none or too many."""
        longest = self.manifest.most_symbols
        if not 0 < len(symbols) <= longest:
            raise InputError(f"a sentence of {len(symbols)} symbols: expected 1 to {longest}")
        text = self._convolved(np.asarray(symbols, np.int32))
        state, half = self._zeros("recurrence"), self.manifest.shape("recurrence", "outputs", "both", 2)[1] // 2
        encoded = np.zeros((1, longest, 2 * half), np.float32)
        for ahead, back in zip(range(len(text)), reversed(range(len(text))), strict=True):
            state = self._calls["recurrence"]({"ahead": text[None, ahead], "back": text[None, back], **state})
            both = state.pop("both")[0]
            encoded[0, ahead, :half], encoded[0, back, half:] = both[:half], both[half:]
        return encoded

    def _convolved(self, symbols: npt.NDArray[np.int32]) -> Float32:
        """What the convolutions make of [N] symbols: [N, E]."""
        chunk, state = self.manifest.text_chunk, self._zeros("text")
        delay = state["text_inside"].shape[1]
        steps = -(-(len(symbols) + delay) // chunk)
        padded, inside = np.zeros(steps * chunk, np.int32), np.zeros((steps * chunk, 1), np.float32)
        padded[: len(symbols)], inside[: len(symbols)] = symbols, 1.0
        made = []
        for start in range(0, len(padded), chunk):
            part = slice(start, start + chunk)
            state = self._calls["text"]({"symbols": padded[None, part], "inside": inside[None, part], **state})
            made.append(state.pop("text")[0])
        return np.concatenate(made)[delay : delay + len(symbols)]

    # speech

    def say(
        self, symbols: Sequence[int], style: Float32 | None = None, prosody: Float32 | None = None, seed: int = 0
    ) -> Mel:
        """A sentence of N symbols in a style [1, S], perhaps with prosody [N, 4] per symbol.

        When it goes wrong it is tried again; what comes back is the best try. The same seed says the same.
        """
        memory = self._remember(symbols, style, prosody)
        best: Mel | None = None
        for attempt in range(TRIES):
            mel = self._decode(len(symbols), memory, np.random.default_rng([seed, attempt]))
            if best is None or _badness(mel) < _badness(best):
                best = mel
            if best.trouble is Trouble.NONE:
                break
        assert best is not None
        return best

    def lead(
        self, symbols: Sequence[int], mel: Float32, style: Float32 | None = None, prosody: Float32 | None = None,
        seed: int | None = None,
    ) -> tuple[Float32, Float32]:  # fmt: skip
        """The decoder led through a recording [F, M] of the sentence, without dropout or with that of a seed.

        Returns what it would have said next at each step, [G * reduction, M], and where it looked, [G, N].
        """
        memory = self._remember(symbols, style, prosody)
        reduction = self.manifest.reduction
        rng = None if seed is None else np.random.default_rng(seed)
        state, said, weights = self._zeros("decoder"), [], []
        frame = np.zeros((1, self.manifest.features.bands), np.float32)
        for start in range(0, len(mel), reduction):
            state = self._calls["decoder"]({"frame": frame, "keep": self._keep(rng), **memory, **state})
            said.append(state.pop("mel")[0])
            del state["stop"]
            weights.append(state["decoder_weights"][0, : len(symbols)])
            frame = mel[None, min(start + reduction, len(mel)) - 1].astype(np.float32)
        return np.concatenate(said), np.stack(weights)

    def _remember(
        self, symbols: Sequence[int], style: Float32 | None, prosody: Float32 | None
    ) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the decoder that stay the same for a sentence."""
        wanted = np.zeros((1, self.manifest.most_symbols, PROSODY_FEATURES), np.float32)
        if prosody is not None:
            if prosody.shape != (len(symbols), PROSODY_FEATURES):
                raise InputError(f"prosody of shape {list(prosody.shape)}: expected {[len(symbols), PROSODY_FEATURES]}")
            wanted[0, : len(symbols)] = prosody
        style = self.manifest.neutral_style if style is None else style
        memory = self._calls["memory"]({"encoded": self.encode(symbols), "style": style, "prosody": wanted})
        return {**memory, "lengths": np.array([len(symbols)], np.int32)}

    def _decode(self, count: int, memory: Mapping[str, npt.NDArray[Any]], rng: np.random.Generator) -> Mel:
        longest = round((1.0 + LONGEST_SYMBOL_S * count) / self._step_s)
        stalled, linger = round(STALLED_S / self._step_s), round(LINGER_S / self._step_s)
        state, watch = self._zeros("decoder"), Watch(count, self._step_s)
        frame = np.zeros((1, self.manifest.features.bands), np.float32)
        mels, weights, trouble = [], [], Trouble.RAN_AWAY
        for _ in range(longest):
            state = self._calls["decoder"]({"frame": frame, "keep": self._keep(rng), **memory, **state})
            mels.append(state.pop("mel")[0])
            stop = float(state.pop("stop")[0, 0])
            weights.append(state["decoder_weights"][0, :count])
            watch.look(weights[-1])
            frame = mels[-1][None, -1]
            if watch.at_end and (stop > 0 or watch.still > linger):  # a stop that comes earlier is not believed
                trouble = watch.trouble
                break
            if watch.still > stalled:
                trouble = Trouble.STALLED
                break
        return Mel(np.concatenate(mels).astype(np.float32), np.stack(weights), trouble)

    def _keep(self, rng: np.random.Generator | None) -> Float32:
        """What the pre-net's dropout multiplies its features by, [1, width]; without rng nothing is dropped."""
        dropout, width = self.manifest.dropout, self.manifest.shape("decoder", "inputs", "keep", 2)[1]
        if rng is None:
            return np.ones((1, width), np.float32)
        keep = (rng.random((1, width), np.float32) >= dropout) / np.float32(1 - dropout)
        return keep.astype(np.float32)

    def refine(self, frames: Float32) -> Float32:
        """Natural-log mel energies [F, M]: the post-net over a whole sentence [F, M], and the normalisation undone."""
        stream = PostnetStream(self)
        return np.concatenate([stream.accept(frames), stream.finish()])


def _badness(mel: Mel) -> tuple[int, float]:
    """For choosing among tries: the trouble, then how unsure the attention was."""
    return list(Trouble).index(mel.trouble), -float(mel.alignment.max(axis=1).mean())


class Watch:
    """Follows the place in a text of N symbols through the decoder's steps."""

    def __init__(self, count: int, step_s: float) -> None:
        self._count, self._furthest, self._behind = count, 0, 0
        self._patience = round(BACKWARDS[1] / step_s)
        self._skipped = self._repeated = False
        self.still = 0  # steps since it last came further

    @property
    def at_end(self) -> bool:
        """Whether one of the last symbols has been reached."""
        return self._furthest >= self._count - LAST_SYMBOLS

    @property
    def trouble(self) -> Trouble:
        """What went wrong on the way."""
        return Trouble.REPEATED if self._repeated else Trouble.SKIPPED if self._skipped else Trouble.NONE

    def look(self, weights: Float32) -> None:
        """Attention weights [N] of one more step."""
        place = int(np.argmax(weights))
        self._behind = self._behind + 1 if place <= self._furthest - BACKWARDS[0] else 0
        self._repeated |= self._behind > self._patience
        if place > self._furthest:
            self._skipped |= place - self._furthest > LONGEST_JUMP
            self._furthest, self.still = place, 0
        else:
            self.still += 1


class PostnetStream:
    """The post-net over a sentence whose frames come in any portions."""

    def __init__(self, model: AcousticModel) -> None:
        self._call, manifest = model._calls["postnet"], model.manifest
        self._chunk, self._bands = manifest.mel_chunk, manifest.features.bands
        self._mean, self._std = manifest.mean_and_std
        self._state = model._zeros("postnet")
        self._delay = self._skip = self._state["postnet_inside"].shape[1]
        self._waiting = np.zeros((0, self._bands), np.float32)
        self._owed = 0  # frames taken in and not yet given out

    def accept(self, frames: Float32) -> Float32:
        """Refined log-mel [n, M] that these normalised frames [m, M] complete."""
        self._owed += len(frames)
        self._waiting = np.concatenate([self._waiting, frames])
        made = [self._waiting[:0]]
        while len(self._waiting) >= self._chunk:
            made.append(self._run(self._waiting[: self._chunk], self._chunk))
            self._waiting = self._waiting[self._chunk :]
        return np.concatenate(made)

    def finish(self) -> Float32:
        """The frames [n, M] still owed."""
        made = [self._waiting[:0]]
        while self._owed:
            real = len(self._waiting)
            padded = np.pad(self._waiting, ((0, self._chunk - real), (0, 0)))
            self._waiting = self._waiting[:0]
            made.append(self._run(padded, real))
        return np.concatenate(made)

    def _run(self, frames: Float32, real: int) -> Float32:
        inside = (np.arange(self._chunk) < real).astype(np.float32)[None, :, None]
        self._state = self._call({"mel": frames[None].astype(np.float32), "inside": inside, **self._state})
        refined = self._state.pop("refined")[0]
        late = min(self._skip, len(refined))
        self._skip -= late
        given = refined[late:][: self._owed]
        self._owed -= len(given)
        made: Float32 = given * self._std + self._mean
        return made
