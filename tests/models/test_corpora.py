"""Every corpus layout gives the same utterances; every broken one a line that says where."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from models.corpora import load_audio, read_corpus
from ondevice.errors import InputError

SAID = {"a1": "good morning", "a2": "it is a fine day"}


def tone(seconds: float, rate_hz: int = 16000) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def write(path: Path, seconds: float = 0.5, rate_hz: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, tone(seconds, rate_hz), rate_hz)
    return path


def make_jsonl(folder: Path) -> Path:
    for key in SAID:
        write(folder / f"{key}.flac")
    rows = [{"file": f"{key}.flac", "text": text.upper(), "speaker": "s"} for key, text in SAID.items()]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return folder


def make_tar(folder: Path) -> Path:
    with tarfile.open(folder / "audio-00.tar", "w") as archive:
        for key in SAID:
            buffer = io.BytesIO()
            sf.write(buffer, tone(0.5), 16000, format="OGG", subtype="OPUS")
            member = tarfile.TarInfo(f"audio/{key}.opus")
            member.size = buffer.tell()
            archive.addfile(member, io.BytesIO(buffer.getvalue()))
    rows = [
        {"file": f"audio/{key}.opus", "tar": "audio-00.tar", "text": text, "speaker": "s", "seconds": 0.5}
        for key, text in SAID.items()
    ]
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def make_librispeech(folder: Path) -> Path:
    chapter = folder / "train-clean-5" / "s" / "12"
    for key in SAID:
        write(chapter / f"s-12-{key}.flac")
    (chapter / "s-12.trans.txt").write_text("".join(f"s-12-{k} {t.upper()}\n" for k, t in SAID.items()))
    return folder


def make_ljspeech(folder: Path) -> Path:
    for key in SAID:
        write(folder / "wavs" / f"{key}.wav", rate_hz=22050)
    (folder / "metadata.csv").write_text("".join(f"{k}|raw 1|{t.title()}.\n" for k, t in SAID.items()))
    return folder


def make_common_voice(folder: Path) -> Path:
    for key in SAID:
        write(folder / "clips" / f"{key}.mp3", rate_hz=48000)
    rows = "".join(f"s\t{key}.mp3\t{text}!\t2\n" for key, text in SAID.items())
    (folder / "train.tsv").write_text("client_id\tpath\tsentence\tup_votes\n" + rows)
    return folder


def make_kaldi(folder: Path) -> Path:
    for key in SAID:
        write(folder / "wav dir" / f"{key}.wav")
    (folder / "wav.scp").write_text("".join(f"{key} wav dir/{key}.wav\n" for key in SAID))
    (folder / "text").write_text("".join(f"{k} {t.upper()}\n" for k, t in SAID.items()))
    (folder / "utt2spk").write_text("".join(f"{key} s\n" for key in SAID))
    return folder


LAYOUTS = (make_jsonl, make_tar, make_librispeech, make_ljspeech, make_common_voice, make_kaldi)


@pytest.mark.parametrize("make", LAYOUTS)
def test_every_layout_gives_the_same_utterances(tmp_path: Path, make) -> None:
    folder = tmp_path / "corpus"  # the name must tell no split
    folder.mkdir()
    make(folder)
    utterances = list(read_corpus(folder))
    assert [utterance.text for utterance in utterances] == list(SAID.values())
    assert {utterance.split for utterance in utterances} == {"train"}
    assert {utterance.corpus for utterance in utterances} == {folder.name}
    assert {utterance.speaker for utterance in utterances} <= {"s", folder.name}
    for utterance in utterances:
        samples = load_audio(utterance)
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert abs(len(samples) / 16000 - 0.5) < 0.06  # MP3 adds its encoder's padding
        assert abs(utterance.seconds - 0.5) < 0.06
        assert 0.15 < np.sqrt(np.mean(samples[2000:6000] ** 2)) < 0.25  # the tone, whatever the rate of the file


def test_splits_are_read_from_names_and_chosen(tmp_path: Path) -> None:
    make_librispeech(tmp_path / "LibriSpeech")
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "t" / "1"
    write(chapter / "t-1-0.flac")
    (chapter / "t-1.trans.txt").write_text("t-1-0 HELLO\n")
    assert [u.split for u in read_corpus(tmp_path / "LibriSpeech")] == ["dev", "train", "train"]
    assert [u.text for u in read_corpus(tmp_path / "LibriSpeech", "dev")] == ["hello"]
    make_common_voice(tmp_path / "cv")
    (tmp_path / "cv" / "train.tsv").rename(tmp_path / "cv" / "test.tsv")
    assert {u.split for u in read_corpus(tmp_path / "cv")} == {"test"}
    with pytest.raises(InputError, match="'tset' is not known"):
        list(read_corpus(tmp_path / "cv", "tset"))


def test_kaldi_segments_cut_the_recording(tmp_path: Path) -> None:
    make_kaldi(tmp_path)
    (tmp_path / "segments").write_text("a1 a1 0.1 0.3\na2 a2 0.25 -1\n")
    first, second = read_corpus(tmp_path)
    assert first.seconds == pytest.approx(0.2)
    assert len(load_audio(first)) == 3200
    np.testing.assert_array_equal(
        load_audio(first), sf.read(tmp_path / "wav dir/a1.wav", dtype="float32")[0][1600:4800]
    )
    assert second.seconds == pytest.approx(0.25)
    assert len(load_audio(second)) == 4000
    (tmp_path / "segments").write_text("a1 a1 7 8\na2 a2 0.3 0.2\n")
    with pytest.raises(InputError, match=r"segments:2.*before its start"):
        list(read_corpus(tmp_path))
    with pytest.raises(InputError, match=r"a1\.wav: has 0\.50 s"):
        load_audio(next(iter(read_corpus(tmp_path))))


def test_empty_text_means_no_speech_and_foreign_text_is_left_out(tmp_path: Path, caplog) -> None:
    write(tmp_path / "a.wav")
    rows = [{"file": "a.wav", "text": text} for text in ("", "Привет", "Hello.")]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [u.text for u in read_corpus(tmp_path / "list.jsonl")] == ["", "hello"]
    assert "1 of 3 transcripts left out" in caplog.text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{oops", "not JSON"),
        ("7", "expected a JSON object"),
        ('{"text": "x"}', "`file` is missing"),
        ('{"file": "a.wav"}', "`text` is missing"),
        ('{"file": "a.wav", "text": 3}', "expected text"),
        ('{"file": "b.wav", "text": "x"}', "b.wav is missing"),
        ('{"file": "a.wav", "text": "x", "split": "tain"}', "expected one of train, dev, test"),
        ('{"file": "a.wav", "text": "x", "seconds": -1}', "positive number of seconds"),
        ('{"file": "a.wav", "text": "x", "seconds": NaN}', "positive number of seconds"),
        ('{"file": "a.wav", "text": "x", "tar": "none.tar"}', "not a readable uncompressed tar"),
        ('{"file": "a.wav", "text": "x", "tar": ["t"]}', "expected text"),
    ],
)
def test_a_broken_manifest_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    write(tmp_path / "a.wav")
    (tmp_path / "m.jsonl").write_text('{"file": "a.wav", "text": "fine"}\n' + line + "\n")
    with pytest.raises(InputError, match=says) as error:
        list(read_corpus(tmp_path / "m.jsonl"))
    assert "m.jsonl:2: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("wav.scp", "a1 sph2pipe -f wav a1.sph |\n", r"wav\.scp:1: a command pipe"),
        ("wav.scp", "a1\n", r"wav\.scp:1: expected a key and a value"),
        ("wav.scp", "a1 gone.wav\n", r"wav\.scp:1: audio file .*gone\.wav is missing"),
        ("text", "a9 HELLO\n", r"text:1: utterance a9 is not in wav\.scp"),
        ("segments", "a1 a1 zero 2\n", r"segments:1: 'zero' is not a time"),
    ],
)
def test_broken_kaldi_tables_are_named(tmp_path: Path, file: str, content: str, says: str) -> None:
    make_kaldi(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=says):
        list(read_corpus(tmp_path))


def test_other_broken_layouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such corpus"):
        list(read_corpus(tmp_path / "none"))
    with pytest.raises(InputError, match="no known corpus layout"):
        list(read_corpus(tmp_path))
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match="no utterances"):
        list(read_corpus(tmp_path / "empty.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9\n")
    with pytest.raises(InputError, match="UTF-8"):
        list(read_corpus(tmp_path / "latin.jsonl"))
    make_common_voice(tmp_path)
    (tmp_path / "train.tsv").write_text("path\tsentence\na1.mp3\n")
    with pytest.raises(InputError, match=r"train\.tsv:2: 1 columns, expected 2"):
        list(read_corpus(tmp_path))
    make_ljspeech(tmp_path / "lj")
    (tmp_path / "lj" / "metadata.csv").write_text("a1|one|one\na7|two|two\n")
    with pytest.raises(InputError, match=r"metadata\.csv:2: no audio file"):
        list(read_corpus(tmp_path / "lj"))


def test_corrupt_audio_in_an_archive_is_an_input_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        member = tarfile.TarInfo("a.opus")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"abcd"))
    (tmp_path / "m.jsonl").write_text('{"file": "a.opus", "tar": "t.tar", "text": "x", "seconds": 1}\n')
    with pytest.raises(InputError, match="byte 512 is not a sound file"):
        load_audio(next(iter(read_corpus(tmp_path / "m.jsonl"))))
