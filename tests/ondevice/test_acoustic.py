"""What the synthesizer notices while it says a sentence, when it says it again, and how tokens are measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from ondevice.acoustic import TRIES, AcousticModel, Trouble, Watch
from ondevice.assets import find_asset, load_manifest
from ondevice.styles import effect
from ondevice.voice_manifest import VoiceManifest

STEP_S = 0.021
COUNT = 20  # symbols of a sentence
WELL = [*np.repeat(range(COUNT), 2)]
STALLED = [0, 1, 2, 3, *[3] * 200]
ENDLESS = [*np.repeat(range(COUNT), 15)]  # so slow that it is cut before it comes to the end
SKIPPED = [0, 1, 2, *range(9, COUNT)]
REPEATED = [*np.repeat(range(12), 2), *WELL]


def watch(places: Sequence[int], count: int = 20) -> Watch:
    found = Watch(count, STEP_S)
    for place in places:
        found.look(np.eye(count, dtype=np.float32)[place])
    return found


def test_a_sentence_read_to_its_end_is_well() -> None:
    read = watch([place for place in range(20) for _ in range(3)])
    assert read.at_end
    assert read.trouble is Trouble.NONE


def test_the_end_is_the_last_sound_and_its_mark() -> None:
    assert not watch(range(18)).at_end
    assert watch(range(19)).at_end


def test_a_jump_leaves_something_out_and_small_steps_do_not() -> None:
    assert watch([0, 1, 2, 8, 9]).trouble is Trouble.SKIPPED
    assert watch([0, 3, 6, 9, 12]).trouble is Trouble.NONE


def test_reading_twice_is_noticed_and_a_glance_back_is_not() -> None:
    assert watch([*np.repeat(range(12), 2), *np.repeat(range(12), 2)]).trouble is Trouble.REPEATED
    assert watch([*range(12), 3, 3, *range(12, 20)]).trouble is Trouble.NONE


def test_standing_still_is_counted() -> None:
    assert watch([0, 1, 2, *[2] * 50]).still == 50


class Scripted(AcousticModel):
    """The shipped voice with a decoder that looks where a script says, one for each try, and always says it is done."""

    def __init__(self, *scripts: Sequence[int], sureness: Sequence[float] = (1.0,) * TRIES) -> None:
        manifest = load_manifest(find_asset("tacotron"), kind=VoiceManifest)
        super().__init__(manifest, {name: self._zeros_of(name) for name in manifest.signatures})
        self._calls = {**self._calls, "decoder": self._decoder}
        self._scripts, self._sureness = scripts, sureness
        self.keeps: list[np.ndarray] = []  # the dropout of each try's first step

    def _zeros_of(self, name: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        def call(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            spec = self.manifest.signatures[name]
            return {tensor: np.zeros(shape, np.float32) for tensor, shape in {**spec.outputs, **spec.state}.items()}

        return call

    def _decoder(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        if not inputs["decoder_weights"].any():
            self.keeps.append(inputs["keep"])
            self._step = 0
        attempt = len(self.keeps) - 1
        out = self._zeros_of("decoder")(inputs)
        out["decoder_weights"][0, self._scripts[attempt][self._step]] = self._sureness[attempt]
        out["mel"][:], out["stop"][:] = attempt, 1.0
        self._step += 1
        return out


def test_a_sentence_said_well_is_said_once() -> None:
    voice = Scripted(WELL)
    mel = voice.say(range(COUNT))
    assert (mel.trouble, len(voice.keeps)) == (Trouble.NONE, 1)
    assert mel.alignment.argmax(axis=1).tolist() == WELL[: 2 * COUNT - 3]  # its last sound is enough


@pytest.mark.parametrize("wrong", [STALLED, ENDLESS, SKIPPED, REPEATED])
def test_a_sentence_that_goes_wrong_is_said_again_with_other_dropout(wrong: Sequence[int]) -> None:
    voice = Scripted(wrong, WELL)
    mel = voice.say(range(COUNT), seed=3)
    assert mel.trouble is Trouble.NONE
    assert (mel.frames == 1).all()  # the second try's
    first, second = voice.keeps
    assert (first != second).any()
    again = Scripted(wrong, WELL)
    again.say(range(COUNT), seed=3)
    np.testing.assert_array_equal(again.keeps, voice.keeps)


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        (STALLED, Trouble.STALLED),
        (ENDLESS, Trouble.RAN_AWAY),
        (SKIPPED, Trouble.SKIPPED),
        (REPEATED, Trouble.REPEATED),
    ],
)
def test_what_goes_wrong_each_time_is_named(script: Sequence[int], trouble: Trouble) -> None:
    voice = Scripted(*[script] * TRIES)
    mel = voice.say(range(COUNT))
    assert (mel.trouble, len(voice.keeps)) == (trouble, TRIES)
    assert (mel.frames == 0).all()  # of tries as bad as each other the first
    assert len(mel.frames) == len(mel.alignment) * voice.manifest.reduction
    assert len(mel.alignment) <= (1.0 + 0.5 * COUNT) / (voice.hop_s * voice.manifest.reduction) + 1


def test_the_least_bad_of_bad_tries_comes_back() -> None:
    mel = Scripted(ENDLESS, STALLED, SKIPPED, REPEATED).say(range(COUNT))
    assert mel.trouble is Trouble.SKIPPED
    assert (mel.frames == 2).all()
    assert mel.alignment.argmax(axis=1).tolist() == SKIPPED[:-1]


def test_of_tries_with_the_same_trouble_the_surest_comes_back() -> None:
    mel = Scripted(*[SKIPPED] * TRIES, sureness=(0.5, 0.7, 0.9, 0.8)).say(range(COUNT))
    assert (mel.frames == 2).all()


@pytest.mark.parametrize(
    ("values", "slope", "rho"),
    [
        (np.zeros(7), 0.0, 0.0),
        (np.arange(7.0), 2.0, 1.0),
        (-np.arange(7.0), -2.0, -1.0),
        (np.array([0, 0, 1, 1, 1, 2, 2.0]), 0.714, 0.945),
    ],
)
def test_an_effect_is_a_slope_and_a_rank_correlation(values: np.ndarray, slope: float, rho: float) -> None:
    found = effect((-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5), values)
    assert found.slope == pytest.approx(slope, abs=0.01)
    assert found.rho == pytest.approx(rho, abs=0.01)
