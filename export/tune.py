"""Search settings from a dev split: the encoder runs once, then the search runs for each setting tried.

Descent along a few directions around the best found, which needs some twenty decodings instead of a few hundred for a
grid. More weight for the language model makes every token dearer, so its direction pays that back with length bonus.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jiwer
import numpy as np
import numpy.typing as npt

from ondevice.features import StreamingLogMel
from ondevice.normalize import english
from ondevice.recognizer import TAIL_S, Recognizer
from ondevice.search import BeamSearch, SearchConfig
from ondevice.utterances import Utterance

Encoded = list[npt.NDArray[np.float32]]  # [1, J] for each frame
SETTINGS = ("lm_weight", "ilm_weight", "length_bonus")
DIRECTIONS = ((0.1, 0.0, 0.25), (0.0, 0.0, 0.3), (0.0, 0.1, -0.2))  # steps of SETTINGS taken together
SCALES = (1.0, 0.5)  # of the steps, round by round


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
            frames.append(encoded.frame)
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
    best = {name: float(recognizer.manifest.search.get(name, getattr(defaults, name))) for name in SETTINGS}
    tried: dict[tuple[float, ...], float] = {}

    def measure(settings: dict[str, float]) -> float:
        key = tuple(round(settings[name], 3) for name in SETTINGS)
        if key not in tried:
            tried[key] = word_error_rate(recognizer, rows, replace(defaults, beam=beam, **settings))
            on_trial(Trial(dict(zip(SETTINGS, key, strict=True)), tried[key]))
        return tried[key]

    lowest = measure(best)
    for scale in SCALES:
        for direction in DIRECTIONS:
            best, lowest = _along(direction, scale, best, lowest, measure)
    return Trial({name: round(value, 3) for name, value in best.items()}, lowest)


def _along(
    direction: Sequence[float],
    scale: float,
    best: dict[str, float],
    lowest: float,
    measure: Callable[[dict[str, float]], float],
) -> tuple[dict[str, float], float]:
    """Walk one way or the other along a direction while the error falls."""
    for step in (scale, -scale):
        moved = False
        while True:
            settings = {n: round(best[n] + step * d, 3) for n, d in zip(SETTINGS, direction, strict=True)}
            if min(settings["lm_weight"], settings["ilm_weight"]) < 0 or (wer := measure(settings)) >= lowest:
                break
            best, lowest, moved = settings, wer, True
        if moved:
            break
    return best, lowest
