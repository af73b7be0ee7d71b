"""What can be set on a recogniser, and what it loads."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.ngram import estimate
from ondevice.errors import FailureError, InputError
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.search import BeamSearch, GreedySearch
from tests.ondevice.hearing import AUDIO, OFF, add_lm, hear
from tests.ondevice.toy import TOKENS

# settings


def test_a_beam_of_one_without_fusion_is_greedy(toy: Recognizer, greedy: Recognizer, with_lm: Path) -> None:
    assert isinstance(toy.search(), BeamSearch)
    assert isinstance(greedy.search(), GreedySearch)
    assert isinstance(Recognizer.load(with_lm, RecognizerConfig(beam=1)).search(), GreedySearch)
    assert isinstance(Recognizer.load(with_lm, RecognizerConfig(beam=1, lm_weight=0.5)).search(), BeamSearch)
    assert isinstance(Recognizer.load(with_lm, RecognizerConfig(beam=1, bias=(("no", 1.0),))).search(), BeamSearch)


def test_the_language_model_is_heard_unless_its_weight_is_zero(with_lm: Path) -> None:
    def words(lm_weight: float | None) -> list[str]:
        recognizer = Recognizer.load(with_lm, RecognizerConfig(lm_weight=lm_weight, endpoint=OFF))
        return hear(recognizer.stream(), [AUDIO])[0].text.split()

    assert words(None) == words(0.8)  # the manifest's own
    assert words(3.0).count("no") > words(0.0).count("no")


def test_bias_favours_its_phrases(toy_asset: Path, patient: Recognizer) -> None:
    config = RecognizerConfig(endpoint=OFF, bias=(("no", 6.0), ("日本", 1.0)))
    recognizer = Recognizer.load(toy_asset, config)
    assert list(recognizer.unspelled) == ["日本"]
    assert list(patient.unspelled) == []
    [plain], [biased] = (hear(r.stream(), [AUDIO]) for r in (patient, recognizer))
    assert biased.text.split().count("no") > plain.text.split().count("no")


def test_a_language_model_of_another_size_is_refused(toy_asset: Path, tmp_path: Path) -> None:
    directory = tmp_path / "toy"
    shutil.copytree(toy_asset, directory)
    estimate([[1, 2]], len(TOKENS) + 1, order=2).save(directory / "lm.npz")
    add_lm(directory, {"lm_weight": 0.5})
    with pytest.raises(InputError, match=r"lm\.npz: .* 17 symbols, but 16 are expected"):
        Recognizer.load(directory)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"beam": 0}, "beam 0"), ({"beam": 65}, "beam 65: expected 1 to 64"), ({"beam": -1}, "beam"),
        ({"lm_weight": -0.1}, "lm_weight -0.1: expected 0 to 5"), ({"lm_weight": 5.1}, "lm_weight"),
        ({"lm_weight": float("nan")}, "lm_weight nan"), ({"n_best": 0}, "n_best 0: expected a whole number"),
    ],
)  # fmt: skip
def test_settings_out_of_range_name_the_setting(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=name):
        RecognizerConfig(**wrong)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # LiteRT's Delegate.__del__
def test_settings_that_need_the_model_are_checked_when_it_loads(toy_asset: Path) -> None:
    with pytest.raises(InputError, match="threads 0: expected 1 to 256"):
        Recognizer.load(toy_asset, RecognizerConfig(threads=0))
    with pytest.raises(InputError, match="'no': the weight"):
        Recognizer.load(toy_asset, RecognizerConfig(bias=(("no", 0.0),)))
    with pytest.raises(FailureError, match="delegate nowhere"):
        Recognizer.load(toy_asset, RecognizerConfig(delegate="nowhere.so"))
    with pytest.raises(InputError, match="unknown model 'nothing-of-the-kind'"):
        Recognizer.load("nothing-of-the-kind")


# imports


def test_recognising_loads_neither_tensorflow_nor_an_audio_library(toy_asset: Path) -> None:
    script = f"""
import sys
import numpy as np
from ondevice.recognizer import Recognizer, RecognizerConfig
stream = Recognizer.load({str(toy_asset)!r}, RecognizerConfig(bias=(("no", 1.0),))).stream()
stream.accept(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32))
print(bool(stream.finish().n_best), sorted(
    {{"tensorflow", "keras", "jax", "sounddevice", "soundfile", "soxr", "typer"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True []"
