"""The whole recipe, from recordings to weights, on a second of noise."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

keras = pytest.importorskip("keras")

from models import train_vocoder  # noqa: E402
from models.vocoder import Vocoder  # noqa: E402


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder, rows = tmp_path / "noise", []
    folder.mkdir()
    for number, split in enumerate(("train", "dev")):
        noise = np.random.default_rng(number).normal(0, 0.1, 12_000)
        soundfile.write(folder / f"{number}.wav", noise, 24_000)
        rows.append(json.dumps({"file": f"{number}.wav", "text": "Hiss.", "split": split}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for presets in (train_vocoder.PRESETS, train_vocoder.WAVENET_PRESETS):
        monkeypatch.setitem(presets, "small", replace(presets["small"], layers=2))
    monkeypatch.setitem(train_vocoder.PRESETS, "small", replace(train_vocoder.PRESETS["small"], layers=2, width=16))


def train(corpus: Path, output: Path, *options: str) -> int:
    common = ["--data", str(corpus), "--output", str(output), "--cache", str(corpus / "cache")]
    return train_vocoder.main([*common, "--batch", "1", "--frames", "24", "--evaluate", "2", *options])


def test_two_stages_leave_weights_curves_and_speech(corpus: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(corpus, first, "--steps", "2") == 0
    for name in ("config.json", "norm.json", "checkpoint.npz", "curves.png", "spoken/0-vocoder.wav"):
        assert (first / name).exists(), name
    heard, rate_hz = soundfile.read(first / "spoken" / "0-vocoder.wav")
    assert rate_hz == 24_000
    assert len(heard) == -(-12_000 // 256) * 256
    vocoder = Vocoder(train_vocoder.PRESETS["small"])
    vocoder.build()
    vocoder.load_weights(first / "vocoder.weights.h5")
    mean = json.loads((first / "norm.json").read_text())["mean"]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(vocoder.mean), mean, rtol=1e-6)
    weights = str(first / "vocoder.weights.h5")
    assert train(corpus, second, "--steps", "1", "--adversarial", "--start", weights) == 0
    assert (second / "vocoder.weights.h5").exists()


def test_a_wavenet_is_trained_by_the_same_recipe(corpus: Path, tmp_path: Path) -> None:
    assert train(corpus, tmp_path / "run", "--model", "wavenet", "--steps", "1") == 0
    assert (tmp_path / "run" / "wavenet.weights.h5").exists()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["sizes"]["group"] == 8


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model", "wavenet", "--adversarial"], "--adversarial is for"),
        (["--preset", "paper"], "expected small"),
        (["--data", "/nowhere"], "no such corpus"),
    ],
)
def test_bad_usage_says_what_was_wrong(corpus, tmp_path, capsys, options: list[str], reason: str) -> None:
    assert train(corpus, tmp_path / "run", *options) == 2
    assert reason in capsys.readouterr().err
