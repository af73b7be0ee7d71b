"""The voice and the vocoder that ship: their files, what their cards promise, and whether they can be understood."""

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soxr

from ondevice.assets import find_asset, load_manifest
from ondevice.evaluation import Transcriber
from ondevice.normalize import english
from ondevice.recognizer import Recognizer
from ondevice.synthesizer import Said, Style, Synthesizer
from ondevice.verify import verify
from ondevice.vocoder import vocoder_stream
from ondevice.voice_manifest import VoiceManifest

PARITY = {"float32": 1e-3, "dynamic-int8": 0.15}  # relative RMS
RHO = 0.9  # a property follows a token's weight
SENTENCES = (
    "The old man looked up from his book and smiled.",
    "Please leave the keys on the table by the door.",
    "Nobody had told her that the train would be late.",
    "They should be kept in a closed tin canister in a dry place.",
    "In 1984, Dr. Smith paid $3.50 for two tickets.",
)


@pytest.fixture(scope="module")
def synthesizer() -> Synthesizer:
    return Synthesizer.load("tacotron")


def heard(recognizer: Recognizer, samples: np.ndarray) -> str:
    return english(Transcriber(recognizer)(soxr.resample(samples, 24_000, 16_000).astype(np.float32)))


@pytest.mark.parametrize("name", ["tacotron", "vocoder"])
def test_the_shipped_files_are_what_was_proven(name: str) -> None:
    checks = list(verify(find_asset(name)))
    assert {check.status for check in checks} == {"ok"}, [c for c in checks if c.status != "ok"]
    report = json.loads((find_asset(name) / "report.json").read_text())
    for precision, rows in report["parity"].items():
        assert max(row["relative_rms"] for row in rows) < PARITY[precision]


@pytest.mark.parametrize("name", ["tacotron", "vocoder"])
def test_the_manifest_is_a_card(name: str) -> None:
    manifest = load_manifest(find_asset(name))
    assert manifest.data
    assert manifest.metrics
    commands = "python -m tests.benchmarks.speech ", "ondevice speak "
    assert all(metric["command"].startswith(commands) for metric in manifest.metrics)


def test_four_tokens_move_something_steadily_and_two_differ_in_kind() -> None:
    styles = load_manifest(find_asset("tacotron"), kind=VoiceManifest).styles
    names = ("f0_mean_semitones", "f0_range_semitones", "energy_db", "rate_percent")
    moved = [{name for name in names if abs(row[name]["rho"]) >= RHO} for row in styles]
    assert sum(map(bool, moved)) >= 4
    assert len({frozenset(kinds) for kinds in moved if kinds}) >= 2


def test_sentences_are_said_to_the_end_and_understood(synthesizer: Synthesizer) -> None:
    recognizer, troubles, said = Recognizer.load("rnnt"), list[str](), list[Said]()
    spoken = [np.concatenate(list(synthesizer.stream(t, warn=troubles.append, said=said.append))) for t in SENTENCES]
    assert not troubles
    for each in said:
        places = each.mel.alignment.argmax(axis=1)
        assert (np.diff(places) >= -1).all()  # monotonic but for a symbol's wavering
        assert places[0] <= 1
        assert places[-1] >= each.mel.alignment.shape[1] - 3
    texts = [english(text) for text in SENTENCES]
    assert jiwer.wer(texts, [heard(recognizer, samples) for samples in spoken]) < 0.5


def test_what_streams_is_what_is_made_at_once(synthesizer: Synthesizer) -> None:
    said: list[Said] = []
    streamed = np.concatenate(list(synthesizer.stream(SENTENCES[0], said=said.append)))
    vocoder = vocoder_stream(synthesizer.vocoder, synthesizer.vocode)
    whole = np.concatenate([vocoder.accept(said[0].log_mel), vocoder.finish()])
    np.testing.assert_allclose(streamed, np.clip(whole, -1, 1), atol=1e-4)


@pytest.mark.slow
def test_a_reference_of_the_same_text_brings_its_melody(synthesizer: Synthesizer, data: Path) -> None:
    """F0 frame errors against recordings nothing was trained on: fewer with their style, fewest with their prosody."""
    metrics = pytest.importorskip("models.speech_metrics")
    from models.speech_store import load_speech, read_original
    from ondevice.pitch import track_pitch

    errors: dict[str, list[float]] = {"none": [], "style": [], "prosody": []}
    for utterance in list(read_original(data / "tts_kathleen", "test"))[:12]:
        recorded = load_speech(utterance)
        for name, found in errors.items():
            style = Style() if name == "none" else Style(reference=recorded, transfer=name)
            made = synthesizer(utterance.text, style)
            path = metrics.align(recorded, made, 24_000)
            found.append(metrics.f0_errors(track_pitch(recorded, 24_000), track_pitch(made, 24_000), path).frame)
    none, style, prosody = (float(np.mean(found)) for found in errors.values())
    assert prosody < style < none


@pytest.mark.slow
def test_the_voice_is_understood_as_well_as_its_card_says(synthesizer: Synthesizer, data: Path) -> None:
    """All recordings of the test split, each sentence said once and counted as often as it was recorded."""
    from models.speech_store import load_speech, read_original

    recognizer = Recognizer.load("rnnt")
    utterances = list(read_original(data / "tts_kathleen", "test"))
    texts = [english(utterance.text) for utterance in utterances]
    said = {text: heard(recognizer, synthesizer(text)) for text in {u.text for u in utterances}}
    recorded = jiwer.wer(texts, [heard(recognizer, load_speech(u)) for u in utterances])
    spoken = jiwer.wer(texts, [said[u.text] for u in utterances])
    print(f"WER {recorded:.1%} recorded, {spoken:.1%} spoken")
    [card] = [m for m in synthesizer.voice.metrics if m["measure"] == "WER of rnnt, mean of three seeds"]
    assert recorded == pytest.approx(card["recorded"], abs=0.01)
    assert spoken < card["spoken"]  # 24.5 % with seed 0, a margin of 3 points to the mean of three seeds
