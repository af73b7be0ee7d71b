"""Search settings from a dev split: the encoder runs once, then the search runs for each setting tried.

Descent along a few directions around the best found, which needs some twenty decodings instead of a few hundred for a
grid. More weight for the language model makes every token dearer, so its direction pays that back with length bonus.
The first pass is tuned alone; the second one over what a tuned first pass found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jiwer
import numpy as np

from ondevice.errors import InputError
from ondevice.features import StreamingLogMel
from ondevice.normalize import english
from ondevice.recognizer import TAIL_S, Encoded, Recognizer
from ondevice.search import BeamSearch, Decoded, SearchConfig
from ondevice.second_pass import SecondPassConfig
from ondevice.utterances import Utterance

Settings = dict[str, float]
Readings = list[list[Decoded]]  # of each utterance, best first


@dataclass(frozen=True)
class Plan:
    """What is tuned and how: steps of the settings taken together."""

    settings: tuple[str, ...]
    directions: tuple[tuple[float, ...], ...]
    never_negative: tuple[str, ...]


FIRST_PASS = Plan(
    ("lm_weight", "ilm_weight", "length_bonus"),
    ((0.1, 0.0, 0.25), (0.0, 0.0, 0.3), (0.0, 0.1, -0.2)),
    ("lm_weight", "ilm_weight"),
)
SECOND_PASS = Plan(
    ("lm_weight", "word_bonus", "transducer_weight"),
    ((0.2, 0.5, 0.0), (0.0, 0.5, 0.0), (0.1, 0.0, 0.2)),
    ("lm_weight", "transducer_weight"),
)
SCALES = (1.0, 0.5)  # of the steps, round by round


@dataclass(frozen=True)
class Trial:
    """One setting and the word error rate it gave."""

    settings: Settings
    wer: float


def encode_all(recognizer: Recognizer, utterances: Sequence[Utterance]) -> list[tuple[list[Encoded], str]]:
    """Encoder steps, tail included, and normalised text of each utterance; those without words are left out."""
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


def first_readings(recognizer: Recognizer, rows: Sequence[tuple[list[Encoded], str]], config: SearchConfig) -> Readings:
    """What a search with these settings makes of encoded utterances."""
    search, found = BeamSearch(recognizer.transducer, config, recognizer.language_model()), []
    for frames, _ in rows:
        search.reset()
        for encoded in frames:
            search.advance(encoded.frame)
        found.append(search.n_best())
    return found


def second_readings(
    recognizer: Recognizer, rows: Sequence[tuple[list[Encoded], str]], first: Readings, config: SecondPassConfig
) -> Readings:
    """What a second pass with these settings makes of them."""
    second, found = recognizer.second_pass(config), []
    assert second is not None
    for (frames, _), readings in zip(rows, first, strict=True):
        second.reset()
        for frame, phones in frames:
            assert phones is not None
            second.accept(frame, phones)
        found.append(second.n_best(readings))
    return found


def word_error_rate(
    recognizer: Recognizer, rows: Sequence[tuple[list[Encoded], str]], readings: Readings
) -> float:  # fmt: skip
    """WER of the best readings."""
    heard = [english(recognizer.pieces.text(best[0].tokens)) for best in readings]
    return float(jiwer.wer([text for _, text in rows], heard))


def tune(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    beam: int | None,
    on_trial: Callable[[Trial], None] = lambda _: None,
    second_pass: bool = False,
) -> Trial:
    """The best settings found for `beam` hypotheses (None: as many as the manifest says) of one of the passes.

    Begins at the settings of the model's manifest. Raises InputError when the model has no second pass to tune.
    """
    if second_pass and recognizer.second_pass() is None:
        raise InputError(f"{recognizer.manifest.name}: has no second pass; expected a model exported with --lexicon")
    rows = encode_all(recognizer, utterances)
    manifest = recognizer.manifest
    if second_pass:
        first = first_readings(recognizer, rows, recognizer.search_config)
        given = SecondPassConfig(**manifest.second_pass)  # type: ignore[arg-type]  # ranges were checked
        config = replace(given, beam=beam or given.beam)
        return _descend(
            SECOND_PASS,
            {name: float(getattr(config, name)) for name in SECOND_PASS.settings},
            lambda settings: word_error_rate(
                recognizer, rows, second_readings(recognizer, rows, first, replace(config, **settings))
            ),
            on_trial,
        )
    defaults = SearchConfig(beam=beam or int(manifest.search.get("beam", SearchConfig.beam)))
    return _descend(
        FIRST_PASS,
        {name: float(manifest.search.get(name, getattr(defaults, name))) for name in FIRST_PASS.settings},
        lambda settings: word_error_rate(
            recognizer, rows, first_readings(recognizer, rows, replace(defaults, **settings))
        ),
        on_trial,
    )


def _descend(
    plan: Plan, best: Settings, word_errors: Callable[[Settings], float], on_trial: Callable[[Trial], None]
) -> Trial:
    tried: dict[tuple[float, ...], float] = {}

    def measure(settings: Settings) -> float:
        key = tuple(round(settings[name], 3) for name in plan.settings)
        if key not in tried:
            rounded = dict(zip(plan.settings, key, strict=True))
            tried[key] = word_errors(rounded)
            on_trial(Trial(rounded, tried[key]))
        return tried[key]

    lowest = measure(best)
    for scale in SCALES:
        for direction in plan.directions:
            best, lowest = _along(plan, direction, scale, best, lowest, measure)
    return Trial({name: round(value, 3) for name, value in best.items()}, lowest)


def _along(
    plan: Plan,
    direction: Sequence[float],
    scale: float,
    best: Settings,
    lowest: float,
    measure: Callable[[Settings], float],
) -> tuple[Settings, float]:
    """Walk one way or the other along a direction while the error falls."""
    for step in (scale, -scale):
        moved = False
        while True:
            settings = {n: round(best[n] + step * d, 3) for n, d in zip(plan.settings, direction, strict=True)}
            if min(settings[n] for n in plan.never_negative) < 0 or (wer := measure(settings)) >= lowest:
                break
            best, lowest, moved = settings, wer, True
        if moved:
            break
    return best, lowest
