"""The detector of speech learns what differs, and keeps what is heard right."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("keras")

from models.vad import Heard, VadData, heard, logistic_regression, train_detector
from ondevice.errors import InputError
from ondevice.recognizer import Recognizer
from tests.ondevice.hearing import RATE_HZ, recording
from tests.ondevice.toy import build_toy_asset


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return Recognizer.load(build_toy_asset(tmp_path_factory.mktemp("assets") / "toy"))


def corpus(folder: Path, recordings: dict[str, list[tuple[np.ndarray, str | None]]]) -> Path:
    """Recordings and texts of each split as a corpus."""
    folder.mkdir()
    rows = []
    for split, listed in recordings.items():
        for number, (samples, text) in enumerate(listed):
            name = f"{split}-{number}.wav"
            soundfile.write(folder / name, samples, RATE_HZ)
            rows.append({"file": name, "text": text, "seconds": len(samples) / RATE_HZ, "split": split})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def whistles(count: int, seed: int) -> list[tuple[np.ndarray, None]]:
    """Steady tones far above those of `recording`."""
    pitches = np.random.default_rng(seed).uniform(1.5, 2.0, count)
    return [((0.3 * np.sin(np.arange(RATE_HZ * 2) * pitch)).astype(np.float32), None) for pitch in pitches]


def test_logistic_regression_finds_the_odds_of_two_normal_distributions() -> None:
    draw = np.random.default_rng(0)
    positive, negative = draw.normal([1.0, 0.0], 1.0, (20_000, 2)), draw.normal([-1.0, 0.0], 1.0, (5_000, 2))
    weights, bias = logistic_regression(positive, negative)
    np.testing.assert_allclose(weights, [2.0, 0.0], atol=0.15)  # log N(x; 1, 1) / N(x; -1, 1) = 2 x
    assert abs(bias) < 0.15  # however many there are of each


def test_loud_frames_are_speech() -> None:
    found = Heard(np.arange(10.0)[:, None], np.array([0, 0, 0, 10, 9, 7, 3, 0, 0, 0.0]))
    assert found.speech.ravel().tolist() == [3, 4, 5]


def test_it_learns_to_tell_tones_from_whistles(toy: Recognizer, tmp_path: Path) -> None:
    spoken = {
        split: [recording(2.0, seed) for seed in seeds] for split, seeds in (("train", range(6)), ("dev", (9, 8)))
    }
    speech = corpus(tmp_path / "tones", {s: [(x, heard(toy, x)) for x in each] for s, each in spoken.items()})
    noise = corpus(tmp_path / "whistles", {"train": whistles(6, 0), "dev": whistles(3, 1)})
    lines: list[str] = []
    detector = train_detector(toy, VadData((speech,), (noise,)), lines.append)
    assert lines[0] == "6 recordings of speech, 6 of noise"
    assert lines[1].endswith("0 of 3 noises are taken for speech")
    again = train_detector(toy, VadData((speech,), (noise,)))
    np.testing.assert_array_equal(again.weights, detector.weights)
    assert again.threshold == detector.threshold


def test_without_noise_or_speech_or_a_word_that_is_right_there_is_nothing_to_learn(
    toy: Recognizer, tmp_path: Path
) -> None:
    tones = [(recording(2.0, 0), "nothing of the kind")]
    speech = corpus(tmp_path / "tones", {"train": tones, "dev": tones})
    noise = corpus(tmp_path / "whistles", {"train": whistles(2, 0), "dev": []})
    late = corpus(tmp_path / "late", {"dev": tones})
    with pytest.raises(InputError, match="--noise: no recordings in the train split"):
        train_detector(toy, VadData((speech,), (late,)))
    with pytest.raises(InputError, match="--data: no utterances in the train split"):
        train_detector(toy, VadData((late,), (noise,)))
    with pytest.raises(InputError, match="--data: not a word is heard right in the dev split"):
        train_detector(toy, VadData((speech,), (noise,)))
