"""Waveforms come back from the store as they went in, with their text as written."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.speech_store import SpeechStore, cached_speech, load_speech, read_original, write_speech_store
from ondevice.errors import InputError

TEXTS = ["Dr. Smith paid $5!", "Naïve café, 1999?", "Gad, your letter came."]


def tone(number: int) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * (200 + 100 * number) * np.arange(4800 + 240 * number) / 24_000)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest with two files in a tar archive and one beside it."""
    folder = tmp_path / "voice"
    folder.mkdir()
    rows = []
    with tarfile.open(folder / "voice.tar", "w") as archive:
        for number, text in enumerate(TEXTS):
            name = f"{number}.wav"
            soundfile.write(folder / name, tone(number), 24_000, subtype="PCM_16")
            row = {"file": name, "text": text, "speaker": "kathleen", "split": "dev" if number == 1 else "train"}
            if number != 2:
                archive.add(folder / name, name)
                (folder / name).unlink()
                row |= {"tar": "voice.tar", "seconds": 0.2}
            rows.append(json.dumps(row))
    (folder / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_samples_and_text_survive(corpus: Path, tmp_path: Path) -> None:
    seen = []
    write_speech_store(tmp_path / "store", read_original(corpus, "train"), progress=seen.append)
    store = SpeechStore(tmp_path / "store")
    assert (len(store), store.rate_hz, seen) == (2, 24_000, [1, 2])
    assert [u.text for u in store.utterances] == [TEXTS[0], TEXTS[2]]
    assert [u.key for u in store.utterances] == ["voice-train/0", "voice-train/1"]
    assert {u.speaker for u in store.utterances} == {"kathleen"}
    for number, utterance in zip((0, 2), store.utterances, strict=True):
        samples = store.samples(utterance)
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, tone(number), atol=1 / 32_768)
        np.testing.assert_array_equal(store.samples(utterance, 100, 50), samples[100:150])
        assert len(store.samples(utterance, utterance.count - 10, 50)) == 10
    assert store.seconds == pytest.approx((4800 + 5280) / 24_000)


def test_another_rate_is_resampled(corpus: Path) -> None:
    utterance = next(read_original(corpus))
    assert len(load_speech(utterance, 16_000)) == pytest.approx(3200, abs=2)


def test_the_cache_is_written_once(corpus: Path, tmp_path: Path) -> None:
    said: list[str] = []
    stores = [cached_speech(corpus, "train", tmp_path / "cache", say=said.append, jobs=1) for _ in range(2)]
    assert len(said) == 1
    assert [len(store) for store in stores if store] == [2, 2]
    assert cached_speech(corpus, "test", tmp_path / "cache", say=said.append) is None
    listed = corpus / "manifest.jsonl" if corpus.is_dir() else corpus
    listed.write_text(listed.read_text().replace(TEXTS[0], "Another text."))
    changed = cached_speech(corpus, "train", tmp_path / "cache", say=said.append, jobs=1)
    assert changed is not None
    assert len(said) == 2
    assert "Another text." in [u.text for u in changed.utterances]


def test_broken_stores_and_splits_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no speech store"):
        SpeechStore(tmp_path / "nowhere")
    with pytest.raises(InputError, match="expected one of train, dev, test"):
        list(read_original(corpus, "training"))
    write_speech_store(tmp_path / "store", read_original(corpus))
    with (tmp_path / "store" / "samples.i16").open("ab") as file:
        file.write(b"\0\0")
    with pytest.raises(InputError, match=r"index\.jsonl tells of"):
        SpeechStore(tmp_path / "store")
