"""The whole path of the speech generator, as a person walks it: recordings -> training -> TFLite assets -> a WAV."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import soundfile

from ondevice.assets import load_manifest
from ondevice.voice_manifest import VoiceManifest
from tests.ondevice.toy_voice import DICTIONARY
from tests.voices import glide, vowel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RATE_HZ = 24_000
TEXTS = ["bat", "cap", "hot dots", "mets", "rip pit", "the bat"]
STEPS = ["--steps", "2", "--cooldown", "1", "--evaluate-steps", "2"]


def ondevice(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ondevice", *map(str, arguments)], cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


def done(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    finished = ondevice(*arguments, **environment)
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of vowels, train and dev, a dictionary and a card."""
    folder = tmp_path_factory.mktemp("voice")
    (folder / "reader").mkdir()
    rows = []
    for number, text in enumerate(TEXTS):
        sound = vowel(glide(110 + 10 * number, 170, 4_800 * (2 + len(text.split()))), RATE_HZ)
        padded = np.concatenate([np.zeros(2_400), sound, np.zeros(2_400)])
        soundfile.write(folder / "reader" / f"{number}.wav", padded, RATE_HZ)
        row = {"file": f"{number}.wav", "text": text, "split": "dev" if number > 3 else "train"}
        rows.append(json.dumps(row) + "\n")
    (folder / "reader" / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    (folder / "dictionary").write_text(DICTIONARY, encoding="utf-8")
    (folder / "licence").write_text("none", encoding="utf-8")
    (folder / "card.json").write_text(json.dumps({"name": "toy", "description": "d", "licence": "CC0"}))
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    """A vocoder and a voice, trained for two steps: `vocoder-run`, `voice-run`, and what they need."""
    data, cache = ["--data", folder / "reader"], ["--cache", folder / "cache"]
    lexicon = ["--pronunciation", folder / "new" / "pronunciation.npz"]
    made = done("train", "lexicon", folder / "dictionary", "--licence", folder / "licence", "--output", lexicon[1])
    assert "225 words" in made.stdout
    done("train", "copies", folder / "reader", "--output", folder / "copies", "--count", "1", "--jobs", "1")
    done(
        "train", "vocoder", *data, "--output", folder / "vocoder-run", *cache, "--preset", "tiny", *STEPS,
        "--batch", "2", "--frames", "24",
    )  # fmt: skip
    made = done(
        "train", "tacotron", *data, "--extra", folder / "copies", "--extra-share", "0.5", *lexicon,
        "--output", folder / "voice-run", *cache, "--preset", "tiny", "--steps", "5", "--cooldown", "1",
        "--batch-seconds", "6",
    )  # fmt: skip  # the average takes up what was learnt at the fifth: before, biases are zeros and leave no trace
    assert "5 steps done" in made.stderr
    return folder


@pytest.fixture(scope="module")
def assets(runs: Path) -> Path:
    """Both as assets `vocoder` and `voice`."""
    recording = ["--card", runs / "card.json", "--recording", runs / "reader" / "0.wav"]
    done("export", "vocoder", runs / "vocoder-run", "--output", runs / "assets" / "vocoder", *recording)
    made = done(
        "export", "voice", runs / "voice-run", "--output", runs / "assets" / "voice", *recording, "--text", TEXTS[0],
        "--pronunciation", runs / "new" / "pronunciation.npz", "--target", "edgetpu", "--calibrate", runs / "reader",
        ONDEVICE_ASSETS=str(runs / "assets"),
    )  # fmt: skip
    assert [line.split("  ")[0] for line in made.stdout.splitlines()] == ["float32", "dynamic-int8", "with 8-bit parts"]
    assert re.search(r"postnet\.tflite: \d+ operators on the Edge TPU; not compiled", made.stderr)
    return runs / "assets"


def test_an_exported_voice_speaks_with_its_style_tokens(assets: Path, tmp_path: Path) -> None:
    here = {"ONDEVICE_ASSETS": str(assets)}
    assert len(load_manifest(assets / "voice", kind=VoiceManifest).styles) == 4  # every token of a tiny one, measured
    wav = tmp_path / "said.wav"
    made = ondevice("speak", "Bat.", "--model", "voice", "--style-token", "1=0.4", "--output", wav, **here)
    assert made.returncode == 0, made.stderr
    samples, rate = soundfile.read(wav)
    assert rate == RATE_HZ
    assert len(samples) > 0
    assert "token" in done("styles", "--model", "voice", **here).stdout
    for name in ("voice", "vocoder"):
        assert done("verify", assets / name).returncode == 0


def test_measured_prosody_is_learnt_by_a_voice_that_goes_on(runs: Path, assets: Path, tmp_path: Path) -> None:
    data, cache = ["--data", runs / "reader"], ["--cache", runs / "cache"]
    measured = tmp_path / "new" / "prosody.npz"
    made = done(
        "train", "prosody", assets / "voice", *data, "--extra", runs / "copies", "--output", measured, *cache
    )  # fmt: skip
    assert "written" in made.stderr
    done(
        "train", "tacotron", *data, "--pronunciation", runs / "new" / "pronunciation.npz", "--prosody", measured,
        "--start", runs / "voice-run", "--adversarial", "--output", tmp_path / "run", *cache, *STEPS,
        "--preset", "tiny", "--batch-seconds", "6",
    )  # fmt: skip
    assert json.loads((tmp_path / "run" / "prosody.json").read_text()).keys() == {"mean", "std"}
    done(
        "export", "voice", tmp_path / "run", "--output", tmp_path / "voice", "--card", runs / "card.json",
        "--recording", runs / "reader" / "0.wav", "--text", TEXTS[0], "--no-styles",
        "--pronunciation", runs / "new" / "pronunciation.npz",
    )  # fmt: skip
    wav = tmp_path / "said.wav"
    done(
        "speak", TEXTS[0], "--model", tmp_path / "voice", "--vocoder", assets / "vocoder", "--output", wav,
        "--reference", runs / "reader" / "0.wav", "--transfer", "prosody",
    )  # fmt: skip
    assert soundfile.info(wav).frames > 0


def test_training_goes_on_from_an_exported_voice(runs: Path, assets: Path, tmp_path: Path) -> None:
    made = done(
        "train", "tacotron", "--data", runs / "reader", "--pronunciation", runs / "new" / "pronunciation.npz",
        "--start", assets / "voice", "--output", tmp_path / "run", "--cache", runs / "cache", *STEPS,
        "--extra", runs / "copies", "--extra-share", "0.5",
        "--preset", "tiny", "--batch-seconds", "6", "--rate", "1e-9",
    )  # fmt: skip
    assert "steps done" in made.stderr
    manifest = load_manifest(assets / "voice", kind=VoiceManifest)
    norm = json.loads((tmp_path / "run" / "norm.json").read_text())
    assert norm["mean"] == pytest.approx(list(manifest.mean_and_std[0]))
    neutral = json.loads((tmp_path / "run" / "neutral.json").read_text())["style"]
    scale = np.abs(manifest.neutral).max()
    np.testing.assert_allclose(neutral, manifest.neutral, atol=0.1 * scale)  # weights at 8 bits, statistics of a batch


def test_options_that_do_not_fit_are_one_line(runs: Path, tmp_path: Path) -> None:
    data = ["--data", runs / "reader", "--output", tmp_path / "run", "--cache", runs / "cache"]
    lexicon = ["--pronunciation", runs / "new" / "pronunciation.npz"]
    for options, complaint in [
        (["--preset", "large"], "--preset large: expected one of tiny, small, paper"),
        (["--precision", "int8"], "--precision int8: expected float32 or mixed_bfloat16"),
        (["--steps", "2", "--cooldown", "3"], "--cooldown 3: expected at most --steps (2)"),
        (["--start", tmp_path], "expected the folder of a run"),
    ]:
        refused = ondevice("train", "tacotron", *data, *lexicon, *options)
        assert refused.returncode == 2, refused.stderr
        assert complaint in refused.stderr.strip().splitlines()[-1]
    refused = ondevice(
        "export", "voice", tmp_path, "--output", tmp_path / "out", "--card", runs / "card.json", *lexicon,
        "--recording", runs / "reader" / "0.wav", "--text", "bat",
    )  # fmt: skip
    assert refused.returncode == 2
    assert "expected the folder of a finished voice run" in refused.stderr
    assert not (tmp_path / "out").exists()
