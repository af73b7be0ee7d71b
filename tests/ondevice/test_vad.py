"""What tells speech from noise: its evidence, its file, and what a stream does where nobody speaks."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.assets import sha256_of
from ondevice.errors import InputError
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.vad import FRAMES, SpeechDetector, SpeechWatch, load_detector
from tests.ondevice.hearing import AUDIO, HASTY, hear
from tests.ondevice.toy import JOINER

ONE = SpeechDetector(np.array([1.0, 0.0], np.float32), 0.5, 2.0)


def frames(values: list[float]) -> np.ndarray:
    return np.array([[value, -7.0] for value in values], np.float32)


@given(st.lists(st.integers(-8, 8), min_size=FRAMES, max_size=30))
def test_evidence_is_the_largest_mean_of_five_frames(values: list[int]) -> None:
    means = [np.mean(values[i : i + FRAMES]) for i in range(len(values) - FRAMES + 1)]
    assert ONE.evidence(frames(list(map(float, values)))) == pytest.approx(max(means) + 0.5, abs=1e-5)


def test_less_than_that_is_no_evidence() -> None:
    assert ONE.evidence(frames([9.0] * (FRAMES - 1))) == -np.inf
    assert ONE.evidence(frames([])[:, None].reshape(0, 2)) == -np.inf


def test_speech_once_heard_stays_heard_until_the_next_utterance() -> None:
    watch, heard = SpeechWatch(ONE), []
    for frame in frames([-5, -5, -5, -5, -5, 9, 9, 9, 9, -9, -9, -9, -9, -9]):
        watch.accept(frame[None])
        heard.append(watch.heard)
    assert heard == [False] * 7 + [True] * 7  # the mean of -5 -5 9 9 9 is above 2 - 0.5 for the first time
    watch.reset()
    assert not watch.heard


def test_it_is_stored_and_read_back(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=6).astype(np.float32)
    SpeechDetector(weights, 0.25, 3.5).save(tmp_path / "vad.npz")
    found = load_detector(tmp_path / "vad.npz", 6)
    np.testing.assert_array_equal(found.weights, weights)
    assert (found.bias, found.threshold) == (0.25, 3.5)
    with pytest.raises(InputError, match="6 weights; expected one for each of 7"):
        load_detector(tmp_path / "vad.npz", 7)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vad.npz"
    SpeechDetector(np.ones(9, np.float32), 0.0, 1.0).save(path)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[whole.index(np.float32(1).tobytes() * 9)] ^= 1  # its checksum tells
    for content in (b"", b"nothing of the kind", b"PK", b"PK\3\4", whole[:200], whole[:-30], bytes(changed)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="expected a file of `ondevice train vad`"):
            SpeechDetector.load(path)


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "vad.npz", format=1, weights=np.array([np.nan, 1.0]), bias=0.0, threshold=1.0)
    with pytest.raises(InputError, match="expected a row of finite weights"):
        SpeechDetector.load(tmp_path / "vad.npz")


def with_detector(asset: Path, folder: Path, threshold: float) -> Path:
    """A copy of an asset with a detector whose evidence is 0 whatever it hears."""
    shutil.copytree(asset, folder)
    SpeechDetector(np.zeros(JOINER, np.float32), 0.0, threshold).save(folder / "vad.npz")
    values = json.loads((folder / "manifest.json").read_text())
    file = folder / "vad.npz"
    values["files"]["vad.npz"] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(values))
    return folder


def test_where_nobody_speaks_there_are_no_words_at_any_time(toy_asset: Path, tmp_path: Path) -> None:
    config = RecognizerConfig(endpoint=HASTY, n_best=3)
    plain = hear(Recognizer.load(toy_asset, config).stream(), [AUDIO])
    assert any(result.text for result in plain)
    deaf = with_detector(toy_asset, tmp_path / "deaf", threshold=1.0)
    stream = Recognizer.load(deaf, config).stream()
    for tenth in np.array_split(AUDIO, 40):
        stream.accept(tenth)
        assert stream.result().words == ()
        while stream.result().endpoint:
            assert stream.finish().text == ""
            stream.reset()
    last = stream.finish()
    assert (last.text, last.words, last.confidence, [a.text for a in last.n_best]) == ("", (), 0.0, [""])
    assert Recognizer.load(deaf, config).transcribe(AUDIO) == []


def test_it_changes_nothing_where_it_hears_speech_or_is_not_wanted(toy_asset: Path, tmp_path: Path) -> None:
    plain = hear(Recognizer.load(toy_asset, RecognizerConfig(endpoint=HASTY)).stream(), [AUDIO])
    keen = with_detector(toy_asset, tmp_path / "keen", threshold=-1.0)
    assert hear(Recognizer.load(keen, RecognizerConfig(endpoint=HASTY)).stream(), [AUDIO]) == plain
    deaf = with_detector(toy_asset, tmp_path / "deaf", threshold=1.0)
    assert hear(Recognizer.load(deaf, RecognizerConfig(endpoint=HASTY, vad=False)).stream(), [AUDIO]) == plain


def test_a_detector_of_another_encoder_is_refused(toy_asset: Path, tmp_path: Path) -> None:
    folder = with_detector(toy_asset, tmp_path / "other", threshold=1.0)
    SpeechDetector(np.zeros(JOINER + 1, np.float32), 0.0, 1.0).save(folder / "vad.npz")
    values = json.loads((folder / "manifest.json").read_text())
    file = folder / "vad.npz"
    values["files"]["vad.npz"] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"{JOINER + 1} weights; expected one for each of {JOINER} encoder outputs"):
        Recognizer.load(folder)
