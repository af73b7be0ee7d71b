"""What a voice makes of recordings, in time with them, and a vocoder's batches of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.led_spectra import LedSpectra
from models.speech_store import SpokenUtterance
from models.vocoder_data import SegmentBatches
from ondevice.errors import InputError
from ondevice.speech_features import SPEECH_HOP_SAMPLES, SPEECH_MEL, SPEECH_RATE_HZ, speech_mel, speech_span
from tests.voices import vowel

BANDS = SPEECH_MEL.bands


class Echo:
    """Says a frame late what it is led through, and undoes the normalisation."""

    manifest = SimpleNamespace(mean_and_std=(np.full(BANDS, -5.0), np.full(BANDS, 2.0)), most_symbols=9, reduction=2)

    def style_of_mel(self, mel: np.ndarray) -> np.ndarray:
        return mel[:1, :3]

    def lead(self, symbols: Any, mel: np.ndarray, style: np.ndarray, seed: int) -> tuple[np.ndarray, None]:
        self.seeds = [*getattr(self, "seeds", []), seed]
        return np.concatenate([np.zeros_like(mel[:1]), mel]), None  # a step more than there are frames

    def refine(self, frames: np.ndarray) -> np.ndarray:
        return frames * 2.0 - 5.0


class Store:
    """Two recordings: a vowel between silences, and one without a text."""

    def __init__(self) -> None:
        quiet = np.zeros(SPEECH_RATE_HZ // 2, np.float32)
        said = vowel(np.linspace(100, 200, SPEECH_RATE_HZ), SPEECH_RATE_HZ)
        self.recording = np.concatenate([quiet, said, quiet])
        count = len(self.recording)
        self.utterances = [SpokenUtterance(f"t/{i}", text, "t", "s", i * count, count) for i, text in enumerate("a ")]

    def identity(self, utterance: SpokenUtterance) -> str:
        return utterance.key

    def samples(self, utterance: SpokenUtterance, start: int = 0, count: int | None = None) -> np.ndarray:
        return self.recording[start : None if count is None else start + count]


def encode(text: str) -> list[int]:
    return [1, 2] if text.strip() else []


def test_spectra_begin_where_the_speech_does_and_are_made_once(tmp_path: Path) -> None:
    store, voice = Store(), Echo()
    led = LedSpectra.of(voice, [store], encode, tmp_path / "led.npz")
    assert list(led.mels) == ["t/0"]  # the other has no symbols
    span = speech_span(store.recording)
    assert led.starts == {"t/0": span.start}
    expected = speech_mel(store.recording[span])
    assert len(led.mels["t/0"]) == len(expected)
    np.testing.assert_allclose(led.mels["t/0"][1:], expected[:-1], atol=0.02)  # kept in 16 bits
    again = LedSpectra.of(voice, [store], encode, tmp_path / "led.npz")
    assert voice.seeds == [0]  # not led a second time
    np.testing.assert_array_equal(again.mels["t/0"], led.mels["t/0"])


def test_without_anything_to_lead_through_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recording that it could be led through"):
        LedSpectra.of(Echo(), [Store()], lambda _: [], tmp_path / "led.npz")
    assert not list(tmp_path.iterdir())


def test_segments_of_spectra_lie_on_their_samples(tmp_path: Path) -> None:
    store = Store()
    mel = np.repeat(np.arange(40, dtype=np.float16)[:, None], BANDS, axis=1)  # each frame tells its number
    led = LedSpectra({"t/0": mel}, {"t/0": 700})
    batches = SegmentBatches([store], SPEECH_MEL, size=6, frames=24, led=led, led_share=1.0)
    batch = batches.batch(3)
    firsts = batch["mel"][:, 0, 0]
    assert len(set(firsts)) > 1
    for first, spectrum, samples in zip(firsts, batch["mel"], batch["samples"], strict=True):
        np.testing.assert_array_equal(spectrum[:, 0], np.arange(first, first + 24))
        start = 700 + int(first) * SPEECH_HOP_SAMPLES
        np.testing.assert_array_equal(samples, store.recording[start : start + 24 * SPEECH_HOP_SAMPLES])
    again = SegmentBatches([store], SPEECH_MEL, size=6, frames=24, led=led, led_share=1.0)
    np.testing.assert_array_equal(again.batch(3)["samples"], batch["samples"])


def test_beyond_the_end_of_spectra_there_is_silence() -> None:
    store = Store()
    led = LedSpectra({"t/0": np.zeros((10, BANDS), np.float16)}, {"t/0": 0})
    batch = SegmentBatches([store], SPEECH_MEL, size=1, frames=24, led=led, led_share=1.0).batch(0)
    np.testing.assert_array_equal(batch["mel"][0, 10:], np.float32(np.log(SPEECH_MEL.floor)))
    assert not batch["samples"][0, 10 * SPEECH_HOP_SAMPLES :].any()


def test_half_the_segments_are_of_recordings() -> None:
    store = Store()
    led = LedSpectra({"t/0": np.full((60, BANDS), 9.0, np.float16)}, {"t/0": 0})
    batch = SegmentBatches([store], SPEECH_MEL, size=200, frames=24, led=led).batch(0)
    assert 70 < sum(batch["mel"][:, 0, 0] == 9.0) < 130
