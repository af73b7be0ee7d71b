"""An exported model gives back the network it was made of, out of which it can be exported another way."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from export import exported  # noqa: E402
from export.asset import Card, build_asset  # noqa: E402
from export.convert import Endpoint, keras_calls, relative_error  # noqa: E402
from export.precision import Wanted  # noqa: E402
from export.rnnt import endpoints as recogniser_endpoints  # noqa: E402
from export.tacotron import endpoints as voice_endpoints  # noqa: E402
from export.vocoder import endpoints as vocoder_endpoints  # noqa: E402
from export.voice import TrainedVoice, build_vocoder, build_voice  # noqa: E402
from models.lexicon import build as build_lexicon  # noqa: E402
from models.pieces import train_pieces  # noqa: E402
from models.recipe import Trained  # noqa: E402
from models.rnnt import TINY as TINY_RNNT  # noqa: E402
from models.rnnt import Rnnt  # noqa: E402
from models.tacotron import PRESETS as VOICES  # noqa: E402
from models.tacotron import Tacotron  # noqa: E402
from models.vocoder import PRESETS as VOCODERS  # noqa: E402
from models.vocoder import Vocoder  # noqa: E402
from models.wavenet import TINY as TINY_WAVENET  # noqa: E402
from models.wavenet import Wavenet  # noqa: E402
from ondevice.assets import load_manifest, sha256_of  # noqa: E402
from ondevice.cli import app  # noqa: E402
from ondevice.errors import InputError  # noqa: E402
from ondevice.features import LogMelConfig  # noqa: E402
from ondevice.manifest import TranscribeManifest  # noqa: E402
from ondevice.manifest_base import Manifest  # noqa: E402
from ondevice.phonemes import SYMBOLS  # noqa: E402
from ondevice.verify import PROOF_FILE, read_proof  # noqa: E402
from ondevice.voice_manifest import VocoderManifest, VoiceManifest  # noqa: E402
from tests.ondevice.toy_voice import DICTIONARY  # noqa: E402

CARD = Card("toy", "random weights", "CC0", search={"beam": 2}, metrics=[{"name": "WER", "value": 1.0}])
RECORDING = Path(__file__).parents[2] / "assets" / "samples" / "an4-an36-fejs-b.opus"
rng = np.random.default_rng(0)
SENTENCE = ([11, 12, 3], rng.normal(size=(20, 80)).astype(np.float32))


@pytest.fixture(autouse=True)
def backend_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the commands would do again, once too often in this process."""
    monkeypatch.setattr("models.backend.start_backend", lambda *_: None)


def shaken(model: keras.Model) -> keras.Model:
    """Random weights, no two of which are alike: constants that are alike share a place in the file."""
    model.build()
    for variable in model.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape))
    return model


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recogniser")
    train_pieces(["one two three four five six", "seven eight nine ten eleven twelve"] * 10, 24, folder / "p.model")
    rnnt = shaken(Rnnt(replace(TINY_RNNT, features=240, symbols=24)))
    trained = Trained(rnnt, folder / "p.model", np.full(80, -6.0), np.full(80, 3.0), LogMelConfig())
    speech = rng.normal(0, 0.1, 16_000).astype(np.float32)
    build_asset(trained, folder / "toy", CARD, Wanted("dynamic-int8"), (speech, "one two"))
    return folder / "toy"


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voice")
    (folder / "toy.dict").write_text(DICTIONARY, encoding="utf-8")
    build_lexicon(folder / "toy.dict", "", folder / "toy.npz", compare=False)
    tacotron = shaken(Tacotron(VOICES["tiny"]))
    neutral = rng.normal(size=tacotron.config.style.width).astype(np.float32)
    trained = TrainedVoice(tacotron, np.full(80, -5.0), np.full(80, 2.0), neutral, folder / "toy.npz", "v", reach=0.5)
    build_voice(trained, folder / "toy", CARD, Wanted("float32"), SENTENCE)
    return folder / "toy"


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocoder")
    made = shaken(Vocoder(VOCODERS["tiny"]))
    made.set_statistics(rng.normal(-5, 1, 80), rng.uniform(1, 2, 80))
    build_vocoder(made, folder / "toy", CARD, Wanted("dynamic-int8"), rng.normal(-6, 2, (29, 80)).astype(np.float32))
    return folder / "toy"


def replayed(asset: Path, made: Mapping[str, Endpoint]) -> float:
    """The largest relative error of what Keras makes of the calls that the asset's proof holds."""
    calls, errors = keras_calls(made), []
    for name, recorded in read_proof(asset / PROOF_FILE).records.items():
        for call in recorded:
            outputs = calls[name](call.inputs)
            errors += [relative_error(value, outputs[tensor])[1] for tensor, value in call.outputs.items()]
    return max(errors)


def test_a_recogniser_is_made_the_same_again(recogniser: Path, tmp_path: Path) -> None:
    manifest = load_manifest(recogniser, kind=TranscribeManifest)
    trained, lexicon = exported.recogniser(manifest)
    assert lexicon is None
    assert replayed(recogniser, recogniser_endpoints(trained.rnnt)) < 0.05  # activations at 8 bits there
    card = {"name": "toy", "description": "random", "licence": "CC0", "search": {"beam": 2}}
    card |= {"metrics": list(CARD.metrics), "measured": sha256_of(recogniser / "model.tflite")}
    (tmp_path / "card.json").write_text(json.dumps(card))
    done = CliRunner().invoke(
        app, ["export", "rnnt", os.fspath(recogniser), "--output", os.fspath(tmp_path / "again"),
              "--recording", os.fspath(RECORDING), "--text", "one", "--card", os.fspath(tmp_path / "card.json")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "again" / "model.tflite").read_bytes() == (recogniser / "model.tflite").read_bytes()
    again = load_manifest(tmp_path / "again", kind=TranscribeManifest)
    assert (again.search, again.feature_mean) == (manifest.search, manifest.feature_mean)
    assert list(again.metrics) == list(CARD.metrics)  # measured of the same file


def test_metrics_stay_with_the_file_they_were_measured_of(recogniser: Path) -> None:
    said: list[str] = []
    model = recogniser / "model.tflite"
    assert CARD.metrics_of(model, said.append) == []  # it does not say of which file they are
    assert said == ["toy: without the card's metrics, whose `measured` is not the SHA-256 of this model.tflite"]
    assert replace(CARD, measured=sha256_of(model)).metrics_of(model, said.append) == list(CARD.metrics)
    assert Card("toy", "random", "CC0").metrics_of(model, said.append) == []
    assert len(said) == 1
    assert not load_manifest(recogniser).metrics
    assert not exported.card(load_manifest(recogniser)).metrics


def test_a_voice_says_the_same_again(voice: Path) -> None:
    manifest = load_manifest(voice, kind=VoiceManifest)
    trained = exported.voice(manifest)
    assert replayed(voice, voice_endpoints(trained.tacotron)) < 1e-4
    assert trained.reach == 0.5
    np.testing.assert_array_equal(trained.neutral, manifest.neutral_style[0])


def test_a_voice_whose_tokens_cannot_be_measured_is_not_written(
    voice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.voice.to_tflite", lambda *_: (voice / "model.tflite").read_bytes())
    trained = exported.voice(load_manifest(voice, kind=VoiceManifest))
    with pytest.raises(InputError, match="unknown model 'v'"):
        build_voice(trained, tmp_path / "again", CARD, Wanted("float32"), SENTENCE, styles=True)
    assert not list(tmp_path.iterdir())


def test_a_vocoder_sounds_the_same_again(vocoder: Path) -> None:
    made = exported.vocoder(load_manifest(vocoder, kind=VocoderManifest))
    assert replayed(vocoder, vocoder_endpoints(made)) < 0.05


@pytest.mark.parametrize("name", ["rnnt", "tacotron", "vocoder"])
def test_the_models_that_ship_are_networks_again(name: str) -> None:
    asset = Path(__file__).parents[2] / "assets" / name
    manifest: Manifest = load_manifest(asset)
    if isinstance(manifest, TranscribeManifest):
        trained, lexicon = exported.recogniser(manifest)
        assert lexicon is not None
        assert trained.phones == lexicon.phones
        made = recogniser_endpoints(trained.rnnt)
    elif isinstance(manifest, VoiceManifest):
        made = voice_endpoints(exported.voice(manifest).tacotron)
    else:
        assert isinstance(manifest, VocoderManifest)
        made = vocoder_endpoints(exported.vocoder(manifest))
    assert replayed(asset, made) < 0.15


def test_what_cannot_be_taken_apart_is_named(
    recogniser: Path, voice: Path, vocoder: Path, tmp_path: Path
) -> None:  # fmt: skip
    listening = load_manifest(recogniser, kind=TranscribeManifest)
    with pytest.raises(InputError, match=r"no pieces\.model"):
        exported.recogniser(replace(listening, files={}))
    other = {**listening.signatures, "joiner": replace(listening.signatures["joiner"], inputs={"encoded": (1, 3)})}
    with pytest.raises(InputError, match=r"of the sizes of no preset \(tiny, small, mobile-80mb\)"):
        exported.recogniser(replace(listening, signatures=other))
    speaking = load_manifest(voice, kind=VoiceManifest)
    with pytest.raises(InputError, match="its symbols are not those"):
        exported.voice(replace(speaking, symbols=SYMBOLS[:-1]))
    wavenet = shaken(Wavenet(replace(TINY_WAVENET, bands=80, hop=256, group=8)))
    mel = rng.normal(-6, 2, (5, 80)).astype(np.float32)
    build_vocoder(wavenet, tmp_path / "wavenet", CARD, Wanted("float32"), mel)
    with pytest.raises(InputError, match="a WaveNet; expected the run it was trained in"):
        exported.vocoder(load_manifest(tmp_path / "wavenet", kind=VocoderManifest))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnnt", "nowhere", "--text", "x"], "unknown model 'nowhere'"),
        (["rnnt", "vocoder", "--text", "x"], "expected"),
        (["vocoder", "tests"], "--card: expected a model card"),
        (["rnnt", "rnnt", "--text", " "], "--text ' ': expected what is said in the recording"),
        (["rnnt", "rnnt", "--text", "x", "--pronunciation", "p.npz"], "--pronunciation p.npz: says how words outside"),
        (["rnnt", "rnnt", "--text", "x", "--calibrate", "m.jsonl"], "--calibrate m.jsonl: only --quantize int8-full"),
        (["voice", "tacotron", "--text", "x", "--calibrate", "m.jsonl"], "m.jsonl: only --target edgetpu has scales"),
        (["voice", "tacotron", "--text", "x", "--vocoder", "v"], "--vocoder: unknown model 'v'"),
        (["voice", "tacotron", "--text", "?"], "--text '?': nothing to say"),
    ],
)
def test_a_wrong_source_is_said_in_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    more = ["--output", os.fspath(tmp_path / "a"), "--recording", os.fspath(RECORDING)]
    done = CliRunner().invoke(app, ["export", *arguments, *more])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not (tmp_path / "a").exists()


def test_the_source_and_folders_of_others_are_never_replaced(recogniser: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_text("today")
    for target, message in ((recogniser, "is read from there"), (tmp_path / "home", "it holds diary.txt and no")):
        more = ["--output", os.fspath(target), "--recording", os.fspath(RECORDING), "--text", "one"]
        done = CliRunner().invoke(app, ["export", "rnnt", os.fspath(recogniser), *more])
        assert isinstance(done.exception, InputError)
        assert message in str(done.exception)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["diary.txt"]


def test_weights_that_are_no_numbers_are_named_before_any_work(tmp_path: Path) -> None:
    made = shaken(Vocoder(VOCODERS["tiny"]))
    made.weights[3].assign(np.full(made.weights[3].shape, np.nan, np.float32))
    with pytest.raises(InputError, match=r"the trained network has NaN or infinite values in embed/"):
        build_vocoder(made, tmp_path / "toy", CARD, Wanted(), np.zeros((9, 80), np.float32))
    assert not list(tmp_path.iterdir())
