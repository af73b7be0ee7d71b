"""`ondevice speak` and the synthesizer as people use them: files, pipes, a loudspeaker, and what can be wrong."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from ondevice.errors import InputError
from ondevice.sentences import text_parts
from ondevice.speaking import wav_header
from ondevice.synthesizer import Style, Synthesizer, change_speed
from tests.ondevice import pulse

pulse_microphone = pulse.pulse_microphone
SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
SPEECH = SAMPLES / "librispeech-2035-152373-0018.opus"
SHORT = "[[AA1]]. [[IY1]]!"


def ondevice(*arguments: str | Path, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ondevice", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, **options)


@pytest.fixture
def model(toy_voice: Path) -> list[str | Path]:
    return ["--model", toy_voice]


@pytest.fixture(scope="module")
def synthesizer(toy_voice: Path) -> Synthesizer:
    return Synthesizer.load(toy_voice)


def test_a_file_holds_what_the_synthesizer_says(model: list[str | Path], toy_voice: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    done = ondevice("speak", SHORT, *model, "--output", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == 24_000
    expected = Synthesizer.load(toy_voice)(SHORT)
    assert len(samples) == len(expected) > 24_000 // 4
    np.testing.assert_allclose(samples, expected, atol=1 / 32000)


def test_pipes_carry_the_same_samples_as_files(model: list[str | Path], tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    ondevice("speak", SHORT, *model, "--output", path)
    wav = ondevice("speak", *model, "--output", "-", stdin=SHORT.encode()).stdout
    raw = ondevice("speak", SHORT, *model, "--output", "-", "--raw").stdout
    assert wav[:4] == b"RIFF"
    assert wav[44:] == raw == path.read_bytes()[44:]
    streamed, _ = soundfile.read(io.BytesIO(wav), dtype="int16")
    assert streamed.tobytes() == raw


def test_text_comes_from_a_file_line_by_line(model: list[str | Path], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("[[AA1]].\n\n[[IY1]]!\n", encoding="utf-8")
    one = ondevice("speak", "--file", text, *model, "--output", "-", "--raw").stdout
    other = ondevice("speak", SHORT, *model, "--output", "-", "--raw").stdout
    assert one == other != b""


def test_the_same_seed_says_the_same(synthesizer: Synthesizer) -> None:
    np.testing.assert_array_equal(synthesizer(SHORT, seed=1), synthesizer(SHORT, seed=1))
    assert not np.array_equal(synthesizer(SHORT, seed=1), synthesizer(SHORT, seed=2))


def test_streaming_is_the_whole_and_begins_before_the_end_of_the_text(synthesizer: Synthesizer) -> None:
    chunks = list(synthesizer.stream(SHORT))
    assert len(chunks) > 4
    np.testing.assert_array_equal(np.concatenate(chunks), synthesizer(SHORT))
    read: list[str] = []

    def lines() -> object:
        for number in itertools.count():
            read.append(f"line {number}")
            yield "[[AA1]].\n"

    first = next(iter(synthesizer.stream(lines())))
    assert len(first) > 0
    assert len(read) <= 3


def test_a_very_long_text_is_said_sentence_by_sentence(synthesizer: Synthesizer) -> None:
    read = 0

    def lines() -> Iterator[str]:
        nonlocal read
        for part in text_parts(io.StringIO("[[AA1]]. " * 11_000)):  # one line of 100,000 characters
            read += len(part)
            yield part

    assert len(next(iter(synthesizer.stream(lines())))) > 0
    assert read < 20_000


def test_a_line_without_end_comes_in_parts_between_words() -> None:
    text = "some words and more of them " * 1_000
    parts = list(text_parts(io.StringIO(text)))
    assert "".join(parts) == text
    assert max(map(len, parts)) < 10_000
    assert all(part.endswith(" ") for part in parts)
    assert "".join(text_parts(io.StringIO("x" * 20_000))) == "x" * 20_000


def test_tokens_and_a_reference_change_what_is_said(synthesizer: Synthesizer) -> None:
    from ondevice.audio import read_audio

    neutral = synthesizer(SHORT)
    for style in (Style({1: 1.0}), Style({0: -0.5, 2: 0.5}), Style(reference=read_audio(SPEECH, 24_000))):
        assert not np.array_equal(neutral, synthesizer(SHORT, style))


def test_speed_changes_the_length_and_not_the_spectra() -> None:
    mel = np.random.default_rng(0).normal(size=(100, 80)).astype(np.float32)
    assert len(change_speed(mel, 2.0)) == 50
    assert len(change_speed(mel, 0.5)) == 200
    np.testing.assert_allclose(change_speed(mel, 0.5)[[0, -1]], mel[[0, -1]])


def test_a_sentence_that_goes_wrong_is_told(synthesizer: Synthesizer) -> None:
    warnings: list[str] = []
    samples = list(synthesizer.stream("hello there the cats", warn=warnings.append))
    assert samples
    assert any("cut or garbled" in line for line in warnings)


def test_what_cannot_be_spoken_is_named(model: list[str | Path]) -> None:
    done = ondevice("speak", "[[AA1]] \N{SLIGHTLY SMILING FACE}.", *model, "--output", "-")
    assert done.returncode == 0
    assert "\N{SLIGHTLY SMILING FACE}" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "nothing to say"),
        (["...!?"], "nothing to say"),
        (["\N{SLIGHTLY SMILING FACE}"], "nothing to say"),
        (["[[XX]]"], "XX"),
        ([SHORT, "--style-token", "4"], "style token 4: expected one of 0, 1, 2, 3"),
        ([SHORT, "--style-token", "three"], "--style-token three: expected a token's number"),
        ([SHORT, "--style-token", "1=nan"], "weight nan is out of range"),
        ([SHORT, "--style-token", "1=99"], "weight 99.0 is out of range"),
        ([SHORT, "--speed", "9"], "speed 9.0: expected 0.5 to 2"),
        ([SHORT, "--reference", "nowhere.wav"], "nowhere.wav"),
        ([SHORT, "--transfer", "prosody"], "expected a reference"),
        ([SHORT, "--transfer", "tune"], "expected one of style, prosody"),
        ([SHORT, "--transfer", "prosody", "--reference", str(SPEECH)], "was not trained to transfer prosody"),
        ([SHORT, "--file", "text.txt"], "the text is given already"),
        (["--file", "nowhere.txt"], "nowhere.txt: No such file"),
        ([SHORT, "--seed", "-1"], "--seed"),
        ([SHORT, "--plot", "picture.xyz"], "picture.xyz: not a kind of picture"),
        ([SHORT, "--plot", "nowhere/picture.png"], "is not a folder"),
        (["[[AA1]]. [[XX]]."], "'XX' is not a phone"),
        ([SHORT, "--device", "1"], "names a loudspeaker, but --output"),
        ([SHORT, "--model", "nobody"], "unknown model 'nobody'"),
        ([SHORT, "--model", "rnnt"], "its task is 'transcribe'; expected a model whose task is 'speak'"),
        ([SHORT, "--vocoder", "rnnt"], "its task is 'transcribe'; expected a model whose task is 'vocode'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    model: list[str | Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    path = tmp_path / "out.wav"
    given = [] if "--model" in arguments else model
    done = ondevice("speak", *arguments, *given, "--output", path)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.decode().splitlines()
    assert all(line.startswith("ondevice: ") for line in lines)
    assert message in lines[-1]
    assert "Traceback" not in done.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_a_silent_reference_is_refused(model: list[str | Path], tmp_path: Path) -> None:
    reference = tmp_path / "silence.wav"
    soundfile.write(reference, np.zeros(24_000), 24_000)
    done = ondevice("speak", SHORT, *model, "--reference", reference, "--output", tmp_path / "out.wav")
    assert done.returncode == 2
    assert b"expected speech" in done.stderr
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(
    "reference",
    [
        np.array([0.1, np.nan] * 9_000),
        np.zeros((0,), np.float32),
        np.array(["a"]),
        np.zeros((9, 9, 9)),
        np.zeros(24_000),
    ],
)
def test_references_that_are_no_speech_are_refused(synthesizer: Synthesizer, reference: np.ndarray) -> None:
    with pytest.raises(InputError, match="reference"):
        synthesizer(SHORT, Style(reference=reference))


def test_a_reference_of_integers_or_two_channels_is_the_same_recording(synthesizer: Synthesizer) -> None:
    from ondevice.audio import read_audio

    floats = read_audio(SPEECH, 24_000)
    style = synthesizer.style_of(floats)
    np.testing.assert_allclose(synthesizer.style_of(np.stack([floats, floats], axis=1)), style, atol=1e-5)
    np.testing.assert_allclose(synthesizer.style_of((floats * 32767).astype(np.int16)), style, atol=1e-2)
    late = np.concatenate([np.zeros(24_000 * 40, np.float32), floats])  # half a minute of silence is not the speech
    np.testing.assert_allclose(synthesizer.style_of(late), style, atol=0.1)


def test_dollars_in_a_picture_are_dollars(model: list[str | Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["[[AA1]] $HOME_a_b $.", *model, "--output", tmp_path / "out.wav", "--plot", tmp_path / "out.svg"]
    done = ondevice("speak", *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.svg").read_text().lstrip().startswith("<?xml")


def test_closed_streams_are_one_line(model: list[str | Path]) -> None:
    for redirect, reason in (("<&-", b"standard input is closed"), (">&-", b"standard output is closed")):
        text = "" if redirect == "<&-" else "'[[AA1]].'"
        command = f"{sys.executable} -m ondevice speak {text} --model '{model[1]}' --output - {redirect}"
        done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60)
        assert done.returncode in (1, 2)
        assert reason in done.stderr
        assert b"Traceback" not in done.stderr


def test_raw_needs_an_output(model: list[str | Path]) -> None:
    done = ondevice("speak", SHORT, *model, "--raw")
    assert done.returncode == 2
    assert b"expected --output" in done.stderr


def test_an_output_in_no_folder_is_one_line(model: list[str | Path], tmp_path: Path) -> None:
    done = ondevice("speak", SHORT, *model, "--output", tmp_path / "none" / "out.wav")
    assert done.returncode == 2
    assert len(done.stderr.decode().splitlines()) == 1


def test_a_reader_that_goes_away_is_quiet(model: list[str | Path]) -> None:
    command = [sys.executable, "-m", "ondevice", "speak", *map(str, model), "--output", "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"[[AA1]].\n" * 200)
    process.stdin.close()
    process.stdout.read(100)
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert b"Traceback" not in process.stderr.read()


def test_statistics_and_a_picture(model: list[str | Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    done = ondevice("speak", SHORT, *model, "--output", tmp_path / "out.wav", "--stats", "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes()[:4] == b"\x89PNG"
    told = done.stderr.decode()
    for what in ("first audio", "real-time factor", "p99", "peak memory"):
        assert what in told


def test_styles_are_measured_and_written(model: list[str | Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = ondevice("styles", *model, "--json", "--output", tmp_path / "styles", "--text", "[[AA1]].")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["token"] for row in rows] == [0, 1, 2, 3]
    assert all(-1 <= row["energy_db"]["rho"] <= 1 for row in rows)
    names = {path.name for path in (tmp_path / "styles").iterdir()}
    assert names == {
        f"{stem}.{kind}" for stem in ("neutral", *(f"token-{i}" for i in range(4))) for kind in ("wav", "png")
    }


def test_measured_styles_are_kept_with_the_voice(toy_voice: Path, tmp_path: Path) -> None:
    from export.voice import measure_tokens

    voice = tmp_path / "voice"
    shutil.copytree(toy_voice, voice)
    assert Synthesizer.load(voice).voice.styles == ()
    measure_tokens(voice)
    kept = [dict(row) for row in Synthesizer.load(voice).voice.styles]
    assert [row["token"] for row in kept] == [0, 1, 2, 3]
    assert json.loads(ondevice("styles", "--model", voice, "--json").stdout) == kept


def test_speaking_never_loads_tensorflow(toy_voice: Path) -> None:
    code = (
        "import sys; from ondevice.synthesizer import Synthesizer; "
        f"Synthesizer.load({os.fspath(toy_voice)!r})('[[AA1]].'); "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'tensorflow', 'keras', 'matplotlib', 'sounddevice'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_a_vocoder_for_other_features_is_refused(toy_voice: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(toy_voice.parent / "toy-vocoder", other)
    values = json.loads((other / "manifest.json").read_text())
    values["features"]["floor"] = 1e-5
    (other / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="field 'features' must be the speech generator's"):
        Synthesizer.load(toy_voice, other)


def test_a_wav_header_says_what_follows() -> None:
    data = np.arange(-50, 50, dtype="<i2").tobytes()
    read, rate_hz = soundfile.read(io.BytesIO(wav_header(24_000, len(data)) + data), dtype="int16")
    assert rate_hz == 24_000
    assert read.tobytes() == data


def test_what_is_played_is_heard(
    model: list[str | Path], toy_voice: Path, pulse_microphone: pulse.PulseMicrophone
) -> None:
    """Real playback through PortAudio, captured from the sink's monitor and compared."""
    heard, text = pulse_microphone.home / "heard.raw", " ".join([SHORT] * 4)
    record = ["parec", "--device=mic.monitor", "--rate=24000", "--channels=1", "--format=s16le", "--raw"]
    with heard.open("wb") as out:
        recorder = subprocess.Popen([*record, "--latency-msec=50"], env=pulse_microphone.env, stdout=out)
        try:
            pulse.wait_until(pulse_microphone.is_recorded, "the recorder to begin")
            command = [sys.executable, "-m", "ondevice", "speak", text, *map(str, model)]
            done = subprocess.run(command, env=pulse_microphone.env, capture_output=True, timeout=60)
            time.sleep(1.0)
        finally:
            recorder.terminate()
            recorder.wait()
    assert done.returncode == 0, done.stderr
    captured = soxr.resample(np.frombuffer(heard.read_bytes(), "<i2").astype(np.float64), 24_000, 8_000)
    said = soxr.resample(Synthesizer.load(toy_voice)(text).astype(np.float64), 24_000, 8_000)
    window = 2_000  # a quarter of a second; the server may drop or stretch something between two of them
    found = [likeness(captured, said[start : start + window]) for start in range(0, len(said) - window, window)]
    assert np.median(found) > 0.9


def likeness(heard: np.ndarray, part: np.ndarray) -> float:
    """The correlation of a part with what was heard, where it fits best."""
    size = 1 << (len(heard) + len(part)).bit_length()
    match = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(part, size)), size)[: len(heard)]
    place = int(np.argmax(match))
    found = heard[place : place + len(part)]
    return float(found @ part[: len(found)] / max(np.linalg.norm(found) * np.linalg.norm(part[: len(found)]), 1e-9))
