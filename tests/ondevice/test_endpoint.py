"""The rules that end an utterance, one by one, with made-up loudness."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.endpoint import EndpointConfig, Endpointer
from ondevice.errors import InputError

STEP_S = 0.06
SPEECH, ROOM, DIGITAL_SILENCE = -3.0, -9.0, math.log(1e-6)  # mean log-mel


def steps(seconds: float) -> int:
    return round(seconds / STEP_S)


class Listener:
    """An endpointer fed with levels; tells when it first said that the utterance has ended."""

    def __init__(self, config: EndpointConfig | None = None, spread: float = 0.0) -> None:
        self.endpointer = Endpointer(config or EndpointConfig(), STEP_S)
        self.spread = np.random.default_rng(0).normal(0, spread, (6, 80)).astype(np.float32)
        self.spread -= self.spread.mean()
        self.step = 0
        self.last_token: int | None = None
        self.ended_s: float | None = None

    def hear(self, level: float, seconds: float, words: bool = False) -> "Listener":
        """So many seconds at one level, with a token at each step or none."""
        for _ in range(steps(seconds)):
            self.endpointer.accept(np.float32(level) + self.spread)
            if words:
                self.last_token = self.step
            self.step += 1
            if self.ended_s is None and self.endpointer.reached(self.last_token):
                self.ended_s = round(self.step * STEP_S, 3)
        return self


def speech(config: EndpointConfig | None = None, room: float = ROOM) -> Listener:
    """Half a second of the room, then a second of speech."""
    return Listener(config, spread=2.0).hear(room, 0.48).hear(SPEECH, 1.02, words=True)


def test_silence_after_words_ends_the_utterance() -> None:
    for silence_s in (0.3, 0.8, 2.0):
        listener = speech(EndpointConfig(silence_s)).hear(ROOM, 5.0)
        assert listener.ended_s is not None
        assert 1.5 + silence_s - 1e-6 <= listener.ended_s <= 1.5 + silence_s + STEP_S


@pytest.mark.parametrize("room", [ROOM, -6.0, -12.5, DIGITAL_SILENCE])
def test_silence_is_known_in_any_room(room: float) -> None:
    assert speech(room=room).hear(room, 0.72).ended_s is None
    assert speech(room=room).hear(room, 0.9).ended_s is not None


def test_noise_that_only_a_microphone_makes_is_silence_though_it_began_digital() -> None:
    assert speech(room=DIGITAL_SILENCE).hear(-12.02, 0.9).ended_s is not None
    assert speech(room=DIGITAL_SILENCE).hear(-11.0, 0.9).ended_s is None


def test_a_short_pause_does_not_end_it() -> None:
    listener = speech()
    for _ in range(5):
        listener.hear(ROOM, 0.72).hear(SPEECH, 0.6, words=True)
    assert listener.ended_s is None
    assert listener.hear(ROOM, 0.9).ended_s is not None


def test_a_word_in_the_silence_keeps_it_going() -> None:
    listener = speech().hear(ROOM, 0.6).hear(ROOM, STEP_S, words=True).hear(ROOM, 0.72)
    assert listener.ended_s is None
    assert listener.hear(ROOM, 0.18).ended_s is not None


def test_loud_sound_without_words_ends_it_only_after_three_times_as_long() -> None:
    listener = speech(EndpointConfig(silence_s=0.6)).hear(SPEECH, 1.68)
    assert listener.ended_s is None
    assert listener.hear(SPEECH, 0.18).ended_s == pytest.approx(1.5 + 1.8, abs=STEP_S)
    patient = speech(EndpointConfig(silence_s=0.6, blank_factor=5.0)).hear(SPEECH, 2.88)
    assert patient.ended_s is None
    assert patient.hear(SPEECH, 0.18).ended_s is not None


def test_a_sound_in_the_pause_begins_the_silence_anew() -> None:
    listener = speech().hear(ROOM, 0.6).hear(SPEECH, 0.12).hear(ROOM, 0.6)
    assert listener.ended_s is None
    assert listener.hear(ROOM, 0.3).ended_s is not None


@pytest.mark.parametrize("level", [DIGITAL_SILENCE, ROOM, SPEECH])
def test_without_any_word_it_begins_anew_after_a_while(level: float) -> None:
    assert Listener().hear(level, 4.92).ended_s is None
    assert Listener().hear(level, 6).ended_s == pytest.approx(5.0, abs=STEP_S)
    assert Listener(EndpointConfig(nothing_s=2.0)).hear(level, 6).ended_s == pytest.approx(2.0, abs=STEP_S)


def test_a_long_utterance_ends_at_its_next_little_pause() -> None:
    listener = Listener(EndpointConfig(silence_s=0.8, longest_s=10.0)).hear(SPEECH, 9.0, words=True)
    assert listener.hear(SPEECH, 0.3).hear(SPEECH, 1.5, words=True).ended_s is None  # the pause was before
    assert listener.hear(SPEECH, 0.12).ended_s is None
    assert listener.hear(SPEECH, 0.12).ended_s == pytest.approx(listener.step * STEP_S, abs=STEP_S)


def test_without_any_pause_it_ends_at_twice_the_longest() -> None:
    listener = Listener(EndpointConfig(longest_s=3.0)).hear(SPEECH, 8.0, words=True)
    assert listener.ended_s == pytest.approx(6.0, abs=STEP_S)


def test_zero_switches_all_rules_off() -> None:
    off = EndpointConfig(silence_s=0)
    assert Listener(off).hear(ROOM, 70).ended_s is None
    assert speech(off).hear(ROOM, 70).ended_s is None
    assert Listener(off).hear(SPEECH, 70, words=True).ended_s is None


def test_the_background_level_falls_at_once_and_rises_slowly() -> None:
    # The room gets 3 nats (13 dB) louder: sound above the old background, until the estimate has followed.
    soon = speech(room=-9.0).hear(-6.0, 0.9)
    assert soon.ended_s is None
    later = Listener().hear(-9.0, 0.48).hear(-6.0, 12.0)
    later.endpointer.reset()
    later.step, later.ended_s = 0, None
    assert later.hear(SPEECH, 1.02, words=True).hear(-6.0, 0.9).ended_s is not None
    # It gets quiet again: at once what was the background counts as sound.
    later.endpointer.reset()
    later.step, later.ended_s, later.last_token = 0, None, None
    later.hear(-9.0, STEP_S).hear(SPEECH, 0.6, words=True).hear(-6.0, 1.2)
    assert later.ended_s is None


def test_speech_does_not_become_the_background() -> None:
    listener = Listener().hear(ROOM, 0.48).hear(SPEECH, 25.0, words=True)
    assert listener.hear(SPEECH, 1.2).ended_s is None  # still no silence, though the model is lost
    assert listener.hear(ROOM, 0.9).ended_s is not None


def test_reset_keeps_the_background_and_forgets_the_rest() -> None:
    listener = speech().hear(ROOM, 0.6)
    listener.endpointer.reset()
    assert not listener.endpointer.reached(None)
    fresh = Endpointer(EndpointConfig(), STEP_S)
    for endpointer, ends in ((listener.endpointer, False), (fresh, True)):
        for step in range(1 + steps(0.84)):
            endpointer.accept(
                np.full((6, 80), -7.0, np.float32)
            )  # 2 nats above the room; the only room the other knows
            assert endpointer.reached(0) == (ends and step * STEP_S >= 0.8)


@given(
    st.lists(st.tuples(st.floats(-14, 2), st.booleans()), max_size=80),
    st.floats(0.1, 2.0),
    st.floats(0.0, 2.0),
)
def test_more_patience_never_ends_it_sooner(heard: list[tuple[float, bool]], silence_s: float, more_s: float) -> None:
    ends = []
    for seconds in (silence_s, silence_s + more_s):
        listener = Listener(EndpointConfig(seconds, nothing_s=1.0, longest_s=2.0))
        for level, word in heard:
            listener.hear(level, STEP_S, words=word)
        ends.append(math.inf if listener.ended_s is None else listener.ended_s)
    assert ends[0] <= ends[1]


def test_a_first_word_that_is_just_being_said_is_not_cut() -> None:
    listener = Listener(EndpointConfig(silence_s=0.8, nothing_s=2.0))
    listener.hear(-13.0, 1.9)  # silence, then somebody speaks and no word is recognised yet
    assert listener.hear(0.0, 0.5).ended_s is None
    assert listener.hear(-13.0, 0.5).ended_s == pytest.approx(1.9 + 0.5 + 0.2, abs=2 * STEP_S)


@given(st.lists(st.floats(-14, 5), min_size=60, max_size=60), st.integers(0, 9))
def test_no_noise_keeps_an_utterance_open_for_ever(levels: list[float], words: int) -> None:
    listener = Listener(EndpointConfig(silence_s=0.5, nothing_s=2.0, longest_s=3.0))
    for number, level in enumerate(levels):
        listener.hear(level, STEP_S, words=number < words)
    assert listener.ended_s is not None
    assert listener.ended_s <= max(words * STEP_S + 1.5, 3.0) + 2 * STEP_S


@pytest.mark.parametrize(
    "wrong",
    [
        {"silence_s": -0.1}, {"silence_s": 61.0}, {"silence_s": math.nan}, {"silence_s": math.inf},
        {"blank_factor": 0.0}, {"blank_factor": math.nan}, {"nothing_s": -1.0}, {"nothing_s": math.nan},
        {"longest_s": 0.0}, {"longest_s": math.nan},
    ],
)  # fmt: skip
def test_settings_out_of_range_name_the_setting(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong)).removesuffix("_s")):
        EndpointConfig(**wrong)


def test_an_infinite_setting_switches_its_rule_off() -> None:
    config = EndpointConfig(silence_s=0.8, blank_factor=math.inf, nothing_s=math.inf, longest_s=math.inf)
    assert Listener(config).hear(ROOM, 65).ended_s is None
    listener = speech(config).hear(SPEECH, 15)
    assert listener.ended_s is None
    assert listener.hear(ROOM, 0.9).ended_s is not None
    listener = speech(config)
    for _ in range(30):
        listener.hear(SPEECH, 3, words=True).hear(ROOM, 0.3)
    assert listener.ended_s is None
