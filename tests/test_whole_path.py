"""The thinnest whole path, as a person walks it: recordings -> training -> TFLite asset -> words (any words)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("sentencepiece")

import h5py
import soundfile

from ondevice.assets import load_manifest
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.vad import SpeechDetector

ROOT = Path(__file__).parents[1]
SENTENCES = [
    "one two three", "seven eight", "two one", "the quick brown fox", "three", "jumps over a lazy dog", "one", "five",
]  # fmt: skip
DICTIONARY = """one W AH1 N
two T UW1
three TH R IY1
seven S EH1 V AH0 N
eight EY1 T
the DH AH0
the(2) DH IY0
quick K W IH1 K
brown B R AW1 N
fox F AA1 K S
jumps JH AH1 M P S
over OW1 V ER0
a AH0
a(2) EY1
dog D AO1 G
five F AY1 V
"""  # lazy is not in it


def ondevice(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ondevice", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL corpus of tones, train and dev."""
    folder = tmp_path_factory.mktemp("corpus") / "tones"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number, sentence in enumerate(SENTENCES * 3):
        tones = [np.sin(np.arange(4800) * (0.1 + 0.1 * len(word))) for word in sentence.split()]
        samples = np.concatenate(tones) * 0.3 + rng.normal(0, 0.01, 4800 * len(tones))
        soundfile.write(folder / f"{number}.wav", samples, 16_000)
        split = "dev" if number % 6 == 5 else "train"
        rows.append({"file": f"{number}.wav", "text": sentence, "seconds": len(samples) / 16_000, "split": split})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "dictionary.txt").write_text(DICTIONARY)
    (folder / "text.txt").write_text("".join(f"{s}\n" for s in SENTENCES))
    return folder


def keras_weights(path: Path) -> dict[str, np.ndarray]:
    """Every array in a Keras weights file by its place there."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, value: found.update({name: value[()]} if isinstance(value, h5py.Dataset) else {}))
    return found


def train_options(corpus: Path, output: Path, steps: int) -> list[str | Path]:
    return [
        "train", "rnnt", "--data", corpus, "--output", output, "--cache", corpus.parent / "cache", "--preset", "tiny",
        "--symbols", "32", "--steps", str(steps), "--cooldown", "1", "--batch-seconds", "20", "--towers", "1",
        "--jobs", "1", "--evaluate-steps", "100000", "--lexicon", corpus / "dictionary.txt",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a short training run."""
    output = tmp_path_factory.mktemp("run") / "run"
    done = ondevice(*train_options(corpus, output, 6))
    assert done.returncode == 0, done.stderr
    return output


def test_training_leaves_all_that_an_export_needs(run: Path) -> None:
    assert {p.name for p in run.iterdir()} >= {
        "checkpoint.npz", "config.json", "curves.png", "log.jsonl", "norm.json", "pieces.model", "rnnt.weights.h5",
        "tensorboard",
    }  # fmt: skip


def test_export_gives_an_asset_that_the_runtime_loads(corpus: Path, run: Path, tmp_path: Path) -> None:
    lm = tmp_path / "lm.npz"
    done = ondevice(
        "train", "lm", "--pieces", run / "pieces.model", "--text", corpus / "text.txt", "--output", lm,
        "--transcripts", corpus / "manifest.jsonl", "--order", "3", "--min-gain", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    card = tmp_path / "card.json"
    card.write_text(
        json.dumps({"name": "tones", "description": "d", "licence": "CC0", "search": {"beam": 2, "lm_weight": 0.3}})
    )
    recording = ["--recording", corpus / "0.wav", "--text", SENTENCES[0]]
    options = ["--card", card, *recording, "--lm", lm, "--labelled", corpus]
    asset = tmp_path / "asset"
    done = ondevice("export", "rnnt", run, "--output", asset, *options)
    assert done.returncode == 0, done.stderr
    assert "dynamic-int8" in done.stdout
    report = json.loads((asset / "report.json").read_text())
    assert report["wer"].keys() == {"keras", "float32", "dynamic-int8"}
    assert report["wer"]["keras"] == report["wer"]["float32"]
    assert {row["tensor"] for row in report["parity"]["float32"]} >= {"encoded", "encoder_c0", "predicted", "logits"}
    assert load_manifest(asset).name == "tones"
    assert {"encoder/lstm0/kernel", "joiner/joiner_to_logits/kernel"} <= {row["layer"] for row in report["layers"]}
    samples, _ = soundfile.read(corpus / "0.wav", dtype="float32")
    Recognizer.load(asset).transcribe(samples)

    assert load_manifest(asset).vad_path is None
    width = load_manifest(asset).shape("encoder", "outputs", "encoded")[-1]
    SpeechDetector(np.zeros(width, np.float32), 0.0, threshold=1.0).save(tmp_path / "vad.npz")  # hears no speech ever
    options += ["--vad", tmp_path / "vad.npz"]
    done = ondevice("export", "rnnt", run, "--output", asset, *options, "--lexicon", corpus / "dictionary.txt")
    assert done.returncode == 0, done.stderr
    assert load_manifest(asset).vad_path == asset / "vad.npz"
    assert json.loads((asset / "report.json").read_text())["wer"] == report["wer"]  # words as they are without
    assert Recognizer.load(asset).transcribe(samples) == []
    assert load_manifest(asset).lexicon_path == asset / "lexicon.npz"
    recognizer = Recognizer.load(asset)
    assert recognizer.second_pass() is not None
    recognizer.transcribe(samples)
    for more in ([], ["--second-pass"]):
        done = ondevice("export", "tune", asset, corpus, "--limit", "2", *more)
        assert done.returncode == 0, done.stderr
        *trials, best = done.stdout.splitlines()
        errors = [float(line.split("WER")[1]) for line in trials]
        assert len(errors) > 2
        assert best.endswith(f"WER {min(errors):.4f}  best")
    for config in (RecognizerConfig(second_pass=False), RecognizerConfig(beam=1), RecognizerConfig(lm_weight=0.0)):
        assert Recognizer.load(asset, config).second_pass() is None

    before = sorted((p.name, p.stat().st_mtime_ns) for p in asset.iterdir())
    done = ondevice("export", "rnnt", run, "--output", asset, *options, "--quantize", "int3")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "ondevice: --quantize int3: expected one of float32, float16, int8, int8-full, int4, mixed"
    ]
    assert sorted((p.name, p.stat().st_mtime_ns) for p in asset.iterdir()) == before


def test_a_training_can_begin_with_an_asset(corpus: Path, run: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"name": "tones", "description": "d", "licence": "CC0"}))
    recording = ["--recording", corpus / "0.wav", "--text", SENTENCES[0]]
    asset, further = tmp_path / "asset", tmp_path / "further"
    done = ondevice("export", "rnnt", run, "--output", asset, "--card", card, *recording, "--quantize", "float32")
    assert done.returncode == 0, done.stderr
    done = ondevice(*train_options(corpus, further, 1), "--start", asset, "--rate", "1e-9")
    assert done.returncode == 0, done.stderr
    assert (further / "pieces.model").read_bytes() == (run / "pieces.model").read_bytes()
    taken, own = (json.loads((folder / "norm.json").read_text()) for folder in (further, run))
    assert taken["features"] == own["features"]
    for name in ("mean", "std"):  # written in other decimals, the same in float32
        np.testing.assert_array_equal(np.float32(taken[name]), np.float32(own[name]))
    before, after = (keras_weights(folder / "rnnt.weights.h5") for folder in (run, further))
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-6, err_msg=name)

    done = ondevice(*train_options(corpus, tmp_path / "other", 1)[:-2], "--start", asset)  # without phones
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        f"ondevice: {asset / 'model.tflite'}: signature 'encoder' does not hold the 20 weights of this preset; "
        "expected a recogniser of the same sizes, word pieces and phones"
    )
    (asset / "pieces.model").unlink()
    manifest = json.loads((asset / "manifest.json").read_text())
    del manifest["files"]["pieces.model"]
    (asset / "manifest.json").write_text(json.dumps(manifest))
    done = ondevice(*train_options(corpus, tmp_path / "third", 1), "--start", asset)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        f"ondevice: {asset}: no pieces.model; expected a recogniser that `ondevice export rnnt` made"
    )


def test_a_second_pass_needs_a_model_of_words_and_a_run_that_knows_phones(
    corpus: Path, run: Path, tmp_path: Path
) -> None:
    card, asset = tmp_path / "card.json", tmp_path / "asset"
    card.write_text(json.dumps({"name": "tones", "description": "d", "licence": "CC0"}))
    options = ["--card", card, "--recording", corpus / "0.wav", "--text", SENTENCES[0], "--output", asset]
    dictionary = corpus / "dictionary.txt"
    done = ondevice("export", "rnnt", run, *options, "--lexicon", dictionary)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("needs --lm with a language model of words")
    other = tmp_path / "other"
    shutil.copytree(run, other)
    settings = json.loads((run / "config.json").read_text())
    assert len(settings["phones"]) + 1 == settings["rnnt"]["phones"]
    (other / "config.json").write_text(json.dumps(settings | {"phones": []}))
    done = ondevice("export", "rnnt", other, *options, "--lexicon", dictionary)
    assert done.returncode == 2
    assert "was trained without phones; expected a run trained with --lexicon" in done.stderr.splitlines()[-1]
    assert not asset.exists()


def test_an_export_at_8_bits_everywhere_hears_and_has_parts_for_an_edge_tpu(
    corpus: Path, run: Path, tmp_path: Path
) -> None:
    card, asset = tmp_path / "card.json", tmp_path / "asset"
    card.write_text(json.dumps({"name": "tones", "description": "d", "licence": "CC0"}))
    options = ["--card", card, "--recording", corpus / "0.wav", "--text", SENTENCES[0], "--quantize", "int8-full"]
    silent = tmp_path / "silent.jsonl"
    silent.write_text(json.dumps({"file": "missing.wav", "text": "one"}) + "\n")
    for more, complaint in [
        ([], "--quantize int8-full: expected --calibrate MANIFEST with it: speech that sets the scales"),
        (["--calibrate", silent], "missing.wav"),
        (["--quantize", "int8", "--target", "edgetpu"], "--target edgetpu: it computes 8 bits only; expected"),
    ]:
        done = ondevice("export", "rnnt", run, "--output", asset, *options, *more)
        assert done.returncode == 2, done.stderr
        assert complaint in done.stderr.strip().splitlines()[-1]
        assert not asset.exists()
    done = ondevice(
        "export", "rnnt", run, "--output", asset, *options, "--target", "edgetpu", "--calibrate", corpus
    )  # fmt: skip
    assert done.returncode == 1  # a mean over five values, which no published size has
    assert "--target edgetpu: encoder would not run there as a whole: MEAN" in done.stderr.splitlines()[-1]
    assert not asset.exists()
    done = ondevice("export", "rnnt", run, "--output", asset, *options, "--calibrate", corpus)
    assert done.returncode == 0, done.stderr
    done = ondevice("transcribe", corpus / "0.wav", "--model", asset)
    assert done.returncode == 0, done.stderr


def test_too_little_text_for_so_many_pieces_is_said_in_one_line(corpus: Path, tmp_path: Path) -> None:
    options = train_options(corpus, tmp_path / "run", 4)
    options[options.index("--symbols") + 1] = "5000"
    done = ondevice(*options)
    assert done.returncode == 2
    complaint = done.stderr.strip().splitlines()[-1]
    assert complaint.startswith("ondevice: 5000 word pieces cannot be made of this text: ")
    assert "<=" in complaint


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"name": "x", "description": "d", "licence": "CC0"}))
    recording = ROOT / "assets" / "samples" / "an4-an36-fejs-b.opus"
    done = ondevice(
        "export", "rnnt", tmp_path, "--output", tmp_path / "a", "--card", card, "--recording", recording, "--text", "x"
    )
    assert done.returncode == 2
    assert "config.json is missing" in done.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_stopped_training_goes_on_where_it_was(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = [sys.executable, "-m", "ondevice", *map(str, train_options(corpus, output, 100_000))]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 200
        while not (output / "log.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.2)  # the log begins with the first report, so training is under way
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    stopped = int(np.load(output / "checkpoint.npz")["position"][0])
    assert stopped > 0
    done = ondevice(*train_options(corpus, output, stopped + 2))
    assert done.returncode == 0, done.stderr
    assert f"going on from step {stopped}" in done.stderr
    assert int(np.load(output / "checkpoint.npz")["position"][0]) == stopped + 2
