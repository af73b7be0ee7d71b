"""Fixtures shared by the runtime's tests."""

import shutil
from pathlib import Path

import pytest
import soundfile

from models.ngram import estimate
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.sound_lexicon import SoundLexicon
from ondevice.wordlm import WordLm
from tests.ondevice.hearing import HASTY, OFF, add_lm
from tests.ondevice.sounds import KINDS, sound
from tests.ondevice.toy import TOKENS, build_toy_asset
from tests.ondevice.toy_voice import build_toy_voice
from tests.ondevice.word_sounds import make_lexicon, make_lm


@pytest.fixture(scope="session")
def toy_asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny recogniser asset with random weights."""
    return build_toy_asset(tmp_path_factory.mktemp("assets") / "toy")


@pytest.fixture(scope="session")
def toy_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny voice asset with random weights, its vocoder beside it."""
    return build_toy_voice(tmp_path_factory.mktemp("voices"))


@pytest.fixture(scope="module")
def toy(toy_asset: Path) -> Recognizer:
    return Recognizer.load(toy_asset, RecognizerConfig(n_best=3, endpoint=HASTY))


@pytest.fixture(scope="module")
def greedy(toy_asset: Path) -> Recognizer:
    return Recognizer.load(toy_asset, RecognizerConfig(beam=1, endpoint=HASTY))


@pytest.fixture(scope="module")
def patient(toy_asset: Path) -> Recognizer:
    return Recognizer.load(toy_asset, RecognizerConfig(endpoint=OFF))


@pytest.fixture(scope="module")
def with_lm(toy_asset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy with a language model that likes "no"."""
    directory = tmp_path_factory.mktemp("assets") / "toy-lm"
    shutil.copytree(toy_asset, directory)
    no = TOKENS.index("▁no")
    estimate([[no] * 5, [no, 3, no]], len(TOKENS), order=3).save(directory / "lm.npz")
    add_lm(directory, {"lm_weight": 0.8, "length_bonus": 0.5})
    return directory


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of each kind."""
    folder = tmp_path_factory.mktemp("sounds")
    for seed, (name, (rate_hz, channels, subtype)) in enumerate(KINDS.items()):
        kind = "OGG" if name.endswith("opus") else None
        soundfile.write(folder / name, sound(2.0 + seed, rate_hz, channels, seed), rate_hz, subtype, format=kind)
    return folder


@pytest.fixture
def recognizer(toy_asset: Path) -> Recognizer:
    return Recognizer.load(toy_asset)


@pytest.fixture(scope="session")
def word_lm() -> WordLm:
    """Of four words, see `tests.ondevice.word_sounds`."""
    return make_lm()


@pytest.fixture(scope="session")
def word_lexicon(word_lm: WordLm) -> SoundLexicon:
    """How they sound."""
    return make_lexicon(word_lm)
