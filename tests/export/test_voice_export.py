"""A voice and a vocoder as shipped say what Keras says, for every precision; the runtime's loops are the model's."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from keras import ops  # noqa: E402

from export.asset import Card  # noqa: E402
from export.precision import Wanted  # noqa: E402
from export.recorder import Recorder  # noqa: E402
from export.tacotron import endpoints  # noqa: E402
from export.telling import Teller  # noqa: E402
from export.vocoder import endpoints as vocoder_endpoints  # noqa: E402
from export.voice import (  # noqa: E402
    TrainedVoice,
    build_vocoder,
    build_voice,
    keras_calls,
    voice_run,
    whole_errors,
)
from models.lexicon import build as build_lexicon  # noqa: E402
from models.speaking import Speaker  # noqa: E402
from models.tacotron import TINY, Tacotron  # noqa: E402
from models.vocoder import TINY as TINY_VOCODER  # noqa: E402
from models.vocoder import Vocoder  # noqa: E402
from models.wavenet import TINY as TINY_WAVENET  # noqa: E402
from models.wavenet import Wavenet  # noqa: E402
from ondevice.acoustic import AcousticModel, PostnetStream  # noqa: E402
from ondevice.assets import load_manifest  # noqa: E402
from ondevice.errors import FailureError, InputError  # noqa: E402
from ondevice.opening import open_model  # noqa: E402
from ondevice.phonemes import SYMBOLS  # noqa: E402
from ondevice.verify import verify  # noqa: E402
from ondevice.vocoder import vocoder_stream  # noqa: E402
from ondevice.voice_manifest import VocoderManifest, VoiceManifest  # noqa: E402
from tests.export.test_vocoder_export import opened  # noqa: E402
from tests.models.test_tacotron import shake  # noqa: E402
from tests.ondevice.toy_voice import DICTIONARY  # noqa: E402

CARD = Card("toy", "random weights", "Apache-2.0")
TEXT = [11, 12, 1, 40, 13, 50, 22, 3]
rng = np.random.default_rng(0)
MEL = rng.normal(size=(23, 80)).astype(np.float32)
LOG_MEL = rng.normal(-6, 2, (29, 80)).astype(np.float32)


@pytest.fixture(scope="module")
def tacotron() -> Tacotron:
    keras.utils.set_random_seed(0)
    wide = {"embedding": 24, "encoder_units": 24, "decoder_units": 16}  # 8 bits begin at 1024 values
    model = Tacotron(replace(TINY, bands=80, symbols=len(SYMBOLS), dropout=0.0, **wide))
    model.build()
    shake(model)
    return model


def trained(tacotron: Tacotron, folder: Path) -> TrainedVoice:
    lexicon, dictionary = folder / "toy.npz", folder / "toy.dict"
    dictionary.write_text(DICTIONARY, encoding="utf-8")
    build_lexicon(dictionary, "", lexicon, compare=False)
    mean, std = rng.normal(size=80).astype(np.float32), rng.uniform(1, 2, 80).astype(np.float32)
    neutral = rng.normal(size=tacotron.config.style.width).astype(np.float32)
    return TrainedVoice(tacotron, mean, std, neutral, lexicon, "toy-vocoder")


@pytest.fixture(scope="module")
def voice(tacotron: Tacotron, tmp_path_factory: pytest.TempPathFactory) -> AcousticModel:
    folder = tmp_path_factory.mktemp("voice")
    build_voice(trained(tacotron, folder), folder / "toy", CARD, Wanted("float32"), (TEXT, MEL))
    manifest = load_manifest(folder / "toy", kind=VoiceManifest)
    return AcousticModel(manifest, open_model(manifest).signatures)


@pytest.fixture(scope="module")
def recorded(tacotron: Tacotron, voice: AcousticModel) -> tuple[Recorder, dict[str, np.ndarray]]:
    """What Keras is asked in a run over a sentence and its recording, and what comes of it."""
    recorder = Recorder(keras_calls(endpoints(tacotron)))
    return recorder, voice_run(AcousticModel(voice.manifest, recorder.calls), TEXT, MEL)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), ("float16", 2e-3), ("dynamic-int8", 0.1), ("dynamic-int4", 0.4)]
)
def test_tflite_says_what_keras_says(
    tacotron: Tacotron, voice: AcousticModel, recorded: Any, tmp_path: Path, precision: str, tolerance: float
) -> None:
    recorder, reference = recorded
    file = opened(tacotron, endpoints(tacotron), voice.manifest.model_path.read_bytes(), precision, tmp_path)
    rows = recorder.errors(file.signatures)
    rows += whole_errors(reference, voice_run(AcousticModel(voice.manifest, file.signatures), TEXT, MEL))
    assert {r["tensor"] for r in rows} >= {
        *("style", "encoded", "said", "alignment", "refined"),
        *("decoder.stop", "decoder.decoder_c1", "postnet.postnet_late", "memory.keys", "reference.reference_gru"),
    }
    assert max(r["relative_rms"] for r in rows) < tolerance


def test_the_runtimes_loops_are_the_whole_sequences(tacotron: Tacotron, voice: AcousticModel) -> None:
    symbols, lengths = np.array([TEXT], np.int32), np.array([len(TEXT)], np.int32)
    encoded = voice.encode(TEXT)
    np.testing.assert_allclose(encoded[:, : len(TEXT)], np.asarray(tacotron.encode(symbols, lengths)), atol=1e-5)
    assert not encoded[:, len(TEXT) :].any()
    speaker = Speaker(tacotron)
    style = voice.style_of_mel(MEL)
    np.testing.assert_allclose(style, speaker.style_of(MEL), atol=1e-5)
    prosody = np.zeros((1, len(TEXT), 4), np.float32)
    memory, keys = tacotron.remember(ops.convert_to_tensor(encoded[:, : len(TEXT)]), style, prosody)
    mel = MEL[None, :22]
    whole = tacotron.decode(memory, keys, lengths, mel, np.ones((1, 11, 2 * TINY.prenet), np.float32))
    said, alignment = voice.lead(TEXT, mel[0], style)
    np.testing.assert_allclose(said, np.asarray(whole["mel"])[0], atol=1e-4)
    np.testing.assert_allclose(alignment, np.asarray(whole["alignment"])[0], atol=1e-5)


def test_free_running_speech_is_the_models(tacotron: Tacotron, voice: AcousticModel) -> None:
    style = voice.style_of_mel(MEL)
    said = voice.say(TEXT, style)
    reference = Speaker(tacotron, most_frames=len(said.frames)).say(np.array(TEXT, np.int32), style)
    count = len(reference.alignment)  # the model stops where it says so, the runtime only at the end of the text
    np.testing.assert_allclose(said.alignment[:count], reference.alignment, atol=1e-4)
    refined = voice.refine(said.frames[: len(reference.mel)])
    mean, std = voice.manifest.mean_and_std
    np.testing.assert_allclose((refined - mean) / std, reference.mel, atol=1e-3)


@pytest.mark.parametrize("portions", [[1] * 23, [8, 8, 7], [3, 20], [23]])
def test_the_postnet_streams_in_any_portions(voice: AcousticModel, portions: list[int]) -> None:
    stream, made, at = PostnetStream(voice), [], 0
    for count in portions:
        made.append(stream.accept(MEL[at : at + count]))
        at += count
    made.append(stream.finish())
    np.testing.assert_array_equal(np.concatenate(made), voice.refine(MEL))


def test_a_token_alone_is_that_token_and_nothing_is_neutral(voice: AcousticModel) -> None:
    np.testing.assert_array_equal(voice.style_of_tokens({}), voice.manifest.neutral_style)
    alone = voice.style_of_weights(np.eye(4, dtype=np.float32)[2])
    np.testing.assert_allclose(voice.style_of_tokens({2: 1.0}), alone, atol=1e-6)


def test_a_weight_of_one_reaches_as_far_as_the_manifest_says(voice: AcousticModel) -> None:
    near = AcousticModel(replace(voice.manifest, style_reach=0.25), voice._calls)
    moved = near.style_of_tokens({2: -2.0}) - voice.manifest.neutral_style
    assert np.linalg.norm(moved) == pytest.approx(0.5, rel=1e-4)
    away = voice.style_of_tokens({2: -1.0}) - voice.manifest.neutral_style
    np.testing.assert_allclose(moved / 0.5, away / np.linalg.norm(away), atol=1e-5)


@pytest.mark.parametrize("tokens", [{4: 1.0}, {-1: 1.0}, {0: float("nan")}, {0: 11.0}])
def test_wrong_tokens_are_named(voice: AcousticModel, tokens: dict[int, float]) -> None:
    with pytest.raises(InputError, match="style token"):
        voice.style_of_tokens(tokens)


@pytest.mark.parametrize("symbols", [[], [1] * 500])
def test_sentences_of_impossible_length_are_refused(voice: AcousticModel, symbols: list[int]) -> None:
    with pytest.raises(InputError, match="symbols: expected 1 to 192"):
        voice.say(symbols)


@pytest.mark.parametrize(("signature", "tensor"), [("style", "style"), ("decoder", "stop"), ("memory", "keys")])
def test_a_voice_that_differs_from_keras_is_not_written(
    tacotron: Tacotron, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signature: str, tensor: str
) -> None:
    def wrong(made: Any) -> Any:
        calls = keras_calls(made)

        def changed(inputs: Any) -> Any:
            outputs = calls[signature](inputs)
            return {**outputs, tensor: outputs[tensor] + 0.5}

        return {**calls, signature: changed}

    monkeypatch.setattr("export.voice.keras_calls", wrong)
    with pytest.raises(FailureError, match=rf"float32 {signature}\.{tensor} differs from Keras"):
        build_voice(trained(tacotron, tmp_path), tmp_path / "toy", CARD, Wanted("float32"), (TEXT, MEL))
    assert not (tmp_path / "toy").exists()


def test_a_voice_without_a_lexicon_is_not_written(tacotron: Tacotron, tmp_path: Path) -> None:
    lexicon = tmp_path / "broken.npz"
    lexicon.write_bytes(b"no lexicon")
    with pytest.raises(InputError, match=r"broken\.npz"):
        build_voice(
            replace(trained(tacotron, tmp_path), pronunciation=lexicon),
            tmp_path / "toy",
            CARD,
            Wanted("float32"),
            (TEXT, MEL),
        )
    assert not (tmp_path / "toy").exists()


def test_every_voice_signature_has_named_state(tacotron: Tacotron) -> None:
    made = endpoints(tacotron)
    assert set(made) == {"text", "recurrence", "memory", "reference", "style", "decoder", "postnet"}


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    keras.utils.set_random_seed(0)
    model = Vocoder(replace(TINY_VOCODER, bands=80, fft=1024, hop=256))
    model.build()
    return model


@pytest.fixture(scope="module")
def vocoder_asset(vocoder: Vocoder, tmp_path_factory: pytest.TempPathFactory) -> VocoderManifest:
    folder = tmp_path_factory.mktemp("vocoder")
    recorded = np.random.default_rng(3).normal(0, 0.1, len(LOG_MEL) * 256).astype(np.float32)
    report = build_vocoder(vocoder, folder / "toy", CARD, Wanted("float32"), LOG_MEL, recorded=recorded)
    assert report["task"]["keras"] == pytest.approx(report["task"]["float32"], rel=1e-3)
    assert report["task"]["keras"]["MCD13 of the copy, dB"] > 1
    return load_manifest(folder / "toy", kind=VocoderManifest)


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-4), ("float16", 2e-3), ("dynamic-int8", 0.1), ("dynamic-int4", 0.2)]
)
def test_the_vocoder_streams_what_keras_makes(
    vocoder: Vocoder, vocoder_asset: VocoderManifest, tmp_path: Path, precision: str, tolerance: float
) -> None:
    float_file = vocoder_asset.model_path.read_bytes()
    file = opened(vocoder, vocoder_endpoints(vocoder), float_file, precision, tmp_path)
    stream = vocoder_stream(vocoder_asset, file.signatures)
    whole = np.concatenate([stream.accept(LOG_MEL), stream.finish()])
    reference = np.asarray(vocoder(LOG_MEL[None]))[0]
    assert whole.shape == reference.shape == (29 * 256,)
    assert np.sqrt(np.mean((whole - reference) ** 2) / np.mean(reference**2)) < tolerance
    portions = [stream.accept(LOG_MEL[i : i + 5]) for i in range(0, 29, 5)]
    np.testing.assert_array_equal(np.concatenate([*portions, stream.finish()]), whole)


def test_a_wavenet_streams_what_its_seed_draws(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    wavenet = Wavenet(replace(TINY_WAVENET, bands=80, hop=256, group=8))
    wavenet.build()
    mel = rng.normal(-6, 2, (11, 80)).astype(np.float32)
    build_vocoder(wavenet, tmp_path / "toy", CARD, Wanted("float32"), mel)
    manifest = load_manifest(tmp_path / "toy", kind=VocoderManifest)
    calls = open_model(manifest).signatures
    stream = vocoder_stream(manifest, calls, seed=3)
    whole = np.concatenate([stream.accept(mel), stream.finish()])
    assert whole.shape == (11 * 256,)
    portions = [stream.accept(mel[i : i + 3]) for i in range(0, 11, 3)]
    np.testing.assert_array_equal(np.concatenate([*portions, stream.finish()]), whole)
    other = vocoder_stream(manifest, calls, seed=4)
    assert not np.array_equal(np.concatenate([other.accept(mel), other.finish()]), whole)


@pytest.mark.parametrize("mixture", [2, 0])
def test_a_wavenet_quantised_is_judged_call_by_call(tmp_path: Path, mixture: int) -> None:
    keras.utils.set_random_seed(0)
    wavenet = Wavenet(replace(TINY_WAVENET, bands=80, hop=256, group=8, mixture=mixture))
    wavenet.build()
    mel = rng.normal(-6, 2, (5, 80)).astype(np.float32)
    report = build_vocoder(wavenet, tmp_path / "toy", CARD, Wanted("dynamic-int8"), mel)
    assert {"condition.told", "steps.present0"} <= {row["tensor"] for row in report["parity"]["dynamic-int8"]}
    manifest = load_manifest(tmp_path / "toy", kind=VocoderManifest)
    stream = vocoder_stream(manifest, open_model(manifest).signatures)
    samples = np.concatenate([stream.accept(mel), stream.finish()])
    assert np.abs(samples).max() <= 1
    if not mixture:  # companded values are spread evenly at first; expanded ones are not
        assert np.sqrt(np.mean(samples**2)) < 0.45


def test_a_report_is_one_page_with_what_was_measured(tacotron: Tacotron, tmp_path: Path) -> None:
    said: list[str] = []

    class Listener(Teller):
        def __call__(self, line: str) -> None:
            said.append(line)

    wanted = Wanted.parse("mixed", "1MB")
    report = build_voice(trained(tacotron, tmp_path), tmp_path / "toy", CARD, wanted, (TEXT, MEL), say=Listener())
    saved = json.loads((tmp_path / "toy" / "report.json").read_text())
    assert saved["parity"].keys() == saved["bytes"].keys() == {"float32", "dynamic-mixed"}
    assert saved["bench"]["threads"][0]["signatures"].keys() == endpoints(tacotron).keys()
    assert len(said) == sum(row["error_at_int4"] is not None for row in saved["mixture"]["layers"]) > 5
    page = (tmp_path / "toy" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert {row["layer"] for row in saved["layers"]} >= {row["layer"] for row in saved["mixture"]["layers"]}
    off = {name: values["spectra led through the recording, off by dB"] for name, values in saved["task"].items()}
    assert off.keys() == {"keras", "float32", "dynamic-mixed"}
    assert off["keras"] == pytest.approx(off["float32"], rel=1e-5)
    assert off["dynamic-mixed"] != off["float32"]
    assert not re.search(r"<(script|link)|src=.?http", page)
    for text in (
        "decoder.mel",
        "FULLY_CONNECTED",
        "decoder/attention_lstm/recurrent",
        f"{report['bytes']['float32'] / 1e6:.4g}",
    ):
        assert text in page
    # its vocoder is not here
    assert {check.status for check in verify(tmp_path / "toy")} <= {"ok", "skipped", "warning"}
