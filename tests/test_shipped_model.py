"""The model that ships: its files, its numbers, and what it hears. A drift from the manifest breaks the build."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ondevice.assets import find_asset, load_manifest
from ondevice.bias import DEFAULT_WEIGHT
from ondevice.evaluation import Transcriber, evaluate
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.utterances import read_utterances
from ondevice.verify import verify

SAMPLES = Path(__file__).parents[1] / "assets" / "samples"
DRIFT = 0.02  # absolute WER another processor's rounding may cost on some hundred words
INT8_COST = 1.01  # greedy WER relative to float, as the README says
PARITY = {"float32": 1e-3, "dynamic-int8": 0.15}  # relative RMS


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load("rnnt")


def metric(recognizer: Recognizer, corpus: str) -> dict[str, Any]:
    (found,) = [m for m in recognizer.manifest.metrics if m["corpus"] == corpus]
    return dict(found)


def test_word_errors_on_the_sample_recordings_are_those_of_the_manifest(recognizer: Recognizer) -> None:
    report = evaluate(recognizer, read_utterances([SAMPLES], "dev"))
    assert report.overall.wer == pytest.approx(metric(recognizer, "samples")["wer"], abs=DRIFT)


@pytest.mark.slow
def test_word_errors_on_the_test_split_are_those_of_the_manifest(recognizer: Recognizer, data: Path) -> None:
    report = evaluate(recognizer, read_utterances([data / "asr_librispeech"], "test"), jobs=2)
    assert report.overall.wer == pytest.approx(metric(recognizer, "asr_librispeech")["wer"], abs=DRIFT / 2)


def test_the_parity_report_holds_and_quantising_cost_what_the_readme_says(recognizer: Recognizer) -> None:
    report = json.loads((recognizer.manifest.directory / "report.json").read_text())
    for precision, rows in report["parity"].items():
        assert {row["tensor"] for row in rows} >= {"encoded", "predicted", "logits"}
        assert max(row["relative_rms"] for row in rows) < PARITY[precision]
    assert report["bytes"]["dynamic-int8"] == recognizer.manifest.files["model.tflite"].bytes
    assert report["wer"]["float32"] == pytest.approx(report["wer"]["keras"], rel=0.01)
    assert report["wer"]["dynamic-int8"] <= INT8_COST * report["wer"]["float32"]


def test_any_chunks_give_the_same_words_on_real_speech(recognizer: Recognizer) -> None:
    (utterance,) = [u for u in read_utterances([SAMPLES], "dev") if "152373-0018" in u.name]
    samples = utterance.samples()
    whole = recognizer.transcribe(samples)
    for chunk in (1600, 777):
        stream, results = recognizer.stream(), []
        for start in range(0, len(samples), chunk):
            stream.accept(samples[start : start + chunk])
            while stream.result().endpoint:
                results.append(stream.finish())
                stream.reset()
        results.append(stream.finish())
        assert [r for r in results if r.text] == whole


def test_greedy_and_beam_both_hear_most_of_a_sentence() -> None:
    (utterance,) = [u for u in read_utterances([SAMPLES], "dev") if "152373-0018" in u.name]
    for beam in (1, 4):
        hear = Transcriber(Recognizer.load("rnnt", RecognizerConfig(beam=beam)))
        assert len(set(hear(utterance.samples()).split()) & set(utterance.text.split())) >= 7


@pytest.mark.parametrize("level", [0.0, 0.001, 0.03])
@pytest.mark.parametrize("colour", ["white", "brown"])
def test_silence_and_noise_give_no_words(recognizer: Recognizer, level: float, colour: str) -> None:
    noise = np.random.default_rng(0).normal(0, 1, 16_000 * 20)
    if colour == "brown":
        noise = np.cumsum(noise)
        noise -= np.convolve(noise, np.ones(800) / 800, "same")  # no drift below 20 Hz
    samples = (level * noise / np.abs(noise).max() * 3).clip(-1, 1).astype(np.float32)
    assert [result.text for result in recognizer.transcribe(samples)] == []


@pytest.mark.slow
def test_recordings_of_noise_give_the_words_that_the_manifest_admits(recognizer: Recognizer, data: Path) -> None:
    report = evaluate(recognizer, read_utterances([data / "sound_esc10"], "test"), jobs=2)
    heard = report.overall.nonspeech_insertions
    assert heard <= metric(recognizer, "sound_esc10")["words"] + 1  # another processor's rounding


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("147960-0000", "but i was"), ("142845-0019", "when partaken"),
        ("142845-0045", "closed tin canister"), ("142845-0045", "crispness"),
    ],
)  # fmt: skip
def test_a_phrase_is_heard_when_it_is_favoured(recognizer: Recognizer, name: str, phrase: str) -> None:
    (utterance,) = [u for u in read_utterances([SAMPLES], "dev") if name in u.name]
    favoured = Recognizer.load("rnnt", RecognizerConfig(bias=((phrase, DEFAULT_WEIGHT),)))
    plain, biased = (" ".join(r.text for r in x.transcribe(utterance.samples())) for x in (recognizer, favoured))
    assert phrase not in plain
    assert phrase in biased


def test_the_manifest_is_a_card(recognizer: Recognizer) -> None:
    manifest = load_manifest(find_asset("rnnt"))
    assert manifest.data
    assert {m["corpus"] for m in manifest.metrics} >= {"samples", "asr_librispeech", "asr_speechocean762", "asr_an4"}
    assert all(m["command"].startswith("ondevice evaluate") for m in manifest.metrics)


def test_the_shipped_recogniser_is_what_was_proven() -> None:
    checks = list(verify(find_asset("rnnt")))
    assert {check.status for check in checks} == {"ok"}, [c for c in checks if c.status != "ok"]
    assert checks[-1].name == "proof"
