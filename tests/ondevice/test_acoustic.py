"""What the synthesizer notices about a sentence while it is said, and how tokens are measured."""

from collections.abc import Sequence

import numpy as np
import pytest

from ondevice.acoustic import Trouble, Watch
from ondevice.styles import effect

STEP_S = 0.021


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
