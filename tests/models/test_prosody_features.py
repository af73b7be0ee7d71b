"""Prosody by symbol: measured where the symbols are, stored and read back, and offered to training."""

from pathlib import Path

import numpy as np
import pytest

from models.prosody_features import SymbolProsody
from ondevice.errors import InputError
from ondevice.opening import load_embedding
from ondevice.speech_features import SPEECH_HOP_SAMPLES, SPEECH_RATE_HZ
from ondevice.transfer import ProsodyScale, measure_symbols
from tests.voices import vowel

FRAMES = 90


def said() -> tuple[np.ndarray, np.ndarray]:
    """Three symbols of 30 frames: a low vowel, silence, a high and louder vowel; and where a decoder looks, [G, N]."""
    third = FRAMES // 3 * SPEECH_HOP_SAMPLES
    low = vowel(np.full(third, 120.0), SPEECH_RATE_HZ)
    high = vowel(np.full(third, 240.0), SPEECH_RATE_HZ)
    samples = np.concatenate([0.05 * low / np.abs(low).max(), np.zeros(third), 0.5 * high / np.abs(high).max()])
    return samples.astype(np.float32), np.repeat(np.eye(3, dtype=np.float32), FRAMES // 2 // 3, axis=0)


def test_properties_are_those_of_the_symbols_frames() -> None:
    samples, alignment = said()
    melody, voicing, energy, length = measure_symbols(samples, alignment, reduction=2).T
    assert np.exp(melody[0]) == pytest.approx(120, rel=0.03)
    assert np.isnan(melody[1])
    assert np.exp(melody[2]) == pytest.approx(240, rel=0.03)
    assert voicing[0] > 0.8
    assert voicing[1] < 0.2
    assert energy[2] > energy[0] + 3 > energy[1] + 6  # 20 dB are 4.6 nepers
    np.testing.assert_allclose(np.exp(length), 30, rtol=1e-5)


def test_what_cannot_be_measured_deviates_by_nothing() -> None:
    scale = ProsodyScale(np.zeros(4, np.float32), np.full(4, 2.0, np.float32))
    raw = np.array([[np.nan, 1.0, -100.0, 0.0]], np.float32)
    np.testing.assert_array_equal(scale.normalise(raw), [[0.0, 0.5, -3.0, 0.0]])


def test_measurements_are_stored_and_read_back(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    scale = ProsodyScale(draw.normal(size=4).astype(np.float32), np.ones(4, np.float32))
    rows = {f"corpus-train/{i}": draw.normal(size=(i + 1, 4)).astype(np.float32) for i in range(3)}
    SymbolProsody(scale, rows).save(tmp_path / "prosody.npz")
    found = SymbolProsody.load(tmp_path / "prosody.npz")
    assert set(found.rows) == set(rows)
    for key, values in rows.items():
        np.testing.assert_allclose(found.rows[key], values, atol=2e-3)
    np.testing.assert_array_equal(found.scale.mean, scale.mean)


def test_another_file_is_refused(tmp_path: Path) -> None:
    for content in (b"no", b"PK", b"PK\3\4"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(InputError, match="expected a file of `ondevice train prosody`"):
            SymbolProsody.load(tmp_path / "x.npz")
        with pytest.raises(InputError, match="expected a table of embeddings"):
            load_embedding(tmp_path / "x.npz")
