"""The whole recipe, from recordings to weights, on a second of noise."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

keras = pytest.importorskip("keras")

pytest.importorskip("tensorflow")

from export.asset import Card  # noqa: E402
from export.precision import Wanted  # noqa: E402
from export.voice import build_vocoder  # noqa: E402
from models import train_vocoder  # noqa: E402
from models.train_vocoder import VocoderOptions, load_vocoder  # noqa: E402
from models.vocoder import Vocoder  # noqa: E402
from ondevice.assets import load_manifest  # noqa: E402
from ondevice.errors import InputError  # noqa: E402
from ondevice.voice_manifest import VocoderManifest, VoiceManifest  # noqa: E402
from tests.export.test_exported import shaken  # noqa: E402
from tests.ondevice.toy_voice import build_toy_voice  # noqa: E402


def spoken(folder: Path, text: str = "Hiss.") -> Path:
    """A corpus of half a second of noise in each split."""
    folder.mkdir()
    rows = []
    for number, split in enumerate(("train", "dev")):
        noise = np.random.default_rng(number).normal(0, 0.1, 12_000)
        soundfile.write(folder / f"{number}.wav", noise, 24_000)
        rows.append(json.dumps({"file": f"{number}.wav", "text": text, "split": split}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return spoken(tmp_path / "noise")


@pytest.fixture(scope="module")
def toy_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_toy_voice(tmp_path_factory.mktemp("voices"))


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for presets in (train_vocoder.PRESETS, train_vocoder.WAVENET_PRESETS):
        monkeypatch.setitem(presets, "small", replace(presets["small"], layers=2))
    monkeypatch.setitem(train_vocoder.PRESETS, "small", replace(train_vocoder.PRESETS["small"], layers=2, width=16))


def train(corpus: Path, output: Path, **options: Any) -> Path:
    settings = VocoderOptions((corpus,), output, corpus / "cache", batch=1, frames=24, evaluate=2, **options)
    return train_vocoder.train(settings)


def test_two_stages_leave_weights_curves_and_speech(corpus: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(corpus, first, steps=2) == first / "vocoder.weights.h5"
    for name in ("config.json", "norm.json", "checkpoint.npz", "curves.png", "spoken/0-vocoder.wav"):
        assert (first / name).exists(), name
    heard, rate_hz = soundfile.read(first / "spoken" / "0-vocoder.wav")
    assert rate_hz == 24_000
    assert len(heard) == -(-12_000 // 256) * 256
    vocoder = load_vocoder(first)
    assert vocoder.config.layers == 2
    mean = json.loads((first / "norm.json").read_text())["mean"]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(vocoder.mean), mean, rtol=1e-6)
    train(corpus, second, steps=1, adversarial=True, start=first / "vocoder.weights.h5")
    assert (second / "vocoder.weights.h5").exists()


def test_a_wavenet_is_trained_by_the_same_recipe(corpus: Path, tmp_path: Path) -> None:
    assert train(corpus, tmp_path / "run", model="wavenet", steps=1).name == "wavenet.weights.h5"
    assert load_vocoder(tmp_path / "run").config.layers == 2
    assert json.loads((tmp_path / "run" / "config.json").read_text())["sizes"]["group"] == 8


def test_a_vocoder_goes_on_from_an_exported_one_with_spectra_of_a_voice(
    toy_voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_vocoder, "JUDGE_STEPS", 1)
    voice = load_manifest(toy_voice, kind=VoiceManifest)
    exported = shaken(Vocoder(train_vocoder.PRESETS["tiny"]))
    mel = np.random.default_rng(0).normal(-6, 2, (29, 80)).astype(np.float32)
    build_vocoder(exported, tmp_path / "start", Card("start", "random weights", "CC0"), Wanted("float32"), mel)
    start = load_manifest(tmp_path / "start", kind=VocoderManifest)
    corpus = spoken(tmp_path / "said")
    output = tmp_path / "run"
    train(corpus, output, steps=1, preset="tiny", start=start, voice=voice, adversarial=True)
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert {"mel", "led_mel", "led_discriminator"} <= rows[-1].keys()
    assert rows[-1]["mel"] != rows[-1]["led_mel"]
    assert len(list(output.glob("spectra-*.npz"))) == 2
    options = json.loads((output / "config.json").read_text())["options"]
    assert (options["voice"], options["start"], options["output"]) == (voice.name, start.name, str(output))
    learnt = load_vocoder(output)
    moved = np.abs(keras.ops.convert_to_numpy(learnt.embed.kernel - exported.embed.kernel)).max()
    assert moved < 0.02  # it began there
    with pytest.raises(InputError, match="--voice: no recording that it could be led through"):
        train(spoken(tmp_path / "mute", text="!"), tmp_path / "none", preset="tiny", start=start, voice=voice)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model": "wavenet", "adversarial": True}, "--adversarial: is for a vocoder"),
        ({"model": "wavenet", "voice": object()}, "--voice: is for a vocoder"),
        ({"preset": "paper"}, "--preset paper: expected one of"),
        ({"model": "organ"}, "--model organ: expected vocoder or wavenet"),
    ],
)
def test_bad_usage_says_what_was_wrong(corpus: Path, tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        train(corpus, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a finished vocoder run"):
        load_vocoder(tmp_path)
