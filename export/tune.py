"""Search settings from a dev split: the encoder runs once, then the search runs for each setting tried.

Coordinate descent over language-model weight, prior weight and length bonus: each is varied in turn around the best
found, which needs some twenty decodings instead of a few hundred for a grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt

from ondevice.features import StreamingLogMel
from ondevice.normalize import english
from ondevice.recognizer import TAIL_S, Recognizer
from ondevice.search import BeamSearch, SearchConfig
from ondevice.utterances import Utterance

Encoded = list[npt.NDArray[np.float32]]  # [1, J] for each frame
STEPS = {"lm_weight": 0.1, "ilm_weight": 0.1, "length_bonus": 0.4}
ROUNDS = 2


@dataclass(frozen=True)
class Trial:
    """One setting and the word error rate it gave."""

    settings: dict[str, float]
    wer: float


def encode_all(recognizer: Recognizer, utterances: Sequence[Utterance]) -> list[tuple[Encoded, str]]:
    """Encoder frames, tail included, and normalised text of each utterance; those without words are left out."""
    manifest, rows = recognizer.manifest, []
    tail = np.zeros(round(TAIL_S * recognizer.rate_hz), np.float32)
    for utterance in utterances:
        if not (text := english(utterance.text)):
            continue
        state, frames = recognizer.initial_state(), []
        samples = np.concatenate([utterance.samples(recognizer.rate_hz), tail])
        for block in StreamingLogMel(manifest.features, manifest.step_frames).accept(samples):
            encoded, state = recognizer.encode(block, state)
            frames.append(encoded)
        rows.append((frames, text))
    return rows


def word_error_rate(recognizer: Recognizer, rows: Sequence[tuple[Encoded, str]], config: SearchConfig) -> float:
    """WER of a search with these settings over encoded utterances."""
    search = BeamSearch(recognizer.transducer, config, recognizer.language_model())
    heard = []
    for frames, _ in rows:
        search.reset()
        for encoded in frames:
            search.advance(encoded)
        heard.append(english(recognizer.pieces.text(search.n_best()[0].tokens)))
    return float(jiwer.wer([text for _, text in rows], heard))


def tune(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    beam: int,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Trial:
    """The best settings found for `beam` hypotheses; begins at those of the model's manifest."""
    rows = encode_all(recognizer, utterances)
    defaults = SearchConfig()
    best = {name: float(recognizer.manifest.search.get(name, getattr(defaults, name))) for name in STEPS}
    tried: dict[tuple[float, ...], float] = {}

    def measure(settings: dict[str, float]) -> float:
        key = tuple(round(settings[name], 3) for name in STEPS)
        if key not in tried:
            tried[key] = word_error_rate(recognizer, rows, replace(defaults, beam=beam, **settings))
            on_trial(Trial(dict(zip(STEPS, key, strict=True)), tried[key]))
        return tried[key]

    lowest = measure(best)
    for scale in (2.0, 1.0)[:ROUNDS]:
        for name, step in STEPS.items():
            best, lowest = _along(name, step * scale, best, lowest, measure)
    return Trial({name: round(value, 3) for name, value in best.items()}, lowest)


def _along(
    name: str, step: float, best: dict[str, float], lowest: float, measure: Callable[[dict[str, float]], float]
) -> tuple[dict[str, float], float]:
    """Walk up or down one setting while the error falls."""
    least = -10.0 if name == "length_bonus" else 0.0
    for direction in (step, -step):
        moved = False
        while True:
            value: Any = round(best[name] + direction, 3)
            if value < least:
                break
            wer = measure({**best, name: value})
            if wer >= lowest:
                break
            best, lowest, moved = {**best, name: value}, wer, True
        if moved:
            break
    return best, lowest
