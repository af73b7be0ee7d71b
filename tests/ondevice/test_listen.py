"""`ondevice listen` as a person uses it: files, pipes, a microphone, Ctrl-C, and everything that can be wrong."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ondevice.audio import read_audio
from ondevice.errors import FailureError
from ondevice.listening import PartialLine, listen, until_interrupted
from ondevice.recognizer import Recognizer
from ondevice.results import Result
from ondevice.stats import Meter
from tests.ondevice import pulse

pulse_microphone = pulse.pulse_microphone
SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
SPEECH = SAMPLES / "librispeech-2035-152373-0018.opus"


def ondevice(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ondevice", "listen", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120)


@pytest.fixture
def model(toy_asset: Path) -> list[str | Path]:
    return ["--model", toy_asset]


def test_partials_go_to_stderr_and_utterances_to_stdout(model: list[str | Path]) -> None:
    done = ondevice(SPEECH, *model)
    assert done.returncode == 0, done.stderr
    finals, partials = done.stdout.decode().splitlines(), done.stderr.decode().splitlines()
    assert len(finals) >= 1
    assert len(partials) > len(finals)
    assert b"\x1b" not in done.stderr  # piped: plain lines
    assert partials[0] == finals[0][: len(partials[0])]


def test_a_file_a_wav_pipe_and_a_raw_pipe_give_the_same_words(model: list[str | Path]) -> None:
    samples = (read_audio(SPEECH) * 32767).astype("<i2")
    wav = io.BytesIO()
    soundfile.write(wav, samples, 16_000, format="WAV", subtype="PCM_16")
    piped = ondevice("-", *model, stdin=wav.getvalue())
    raw = ondevice("-", *model, stdin=samples.tobytes())
    assert piped.stdout
    assert piped.stdout == raw.stdout


def test_json_lines_carry_words_and_times(model: list[str | Path], tmp_path: Path) -> None:
    output = tmp_path / "heard.jsonl"
    done = ondevice(SPEECH, *model, "--format", "json", "--n-best", "2", "--output", output)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    for line in output.read_text().splitlines():
        segment = json.loads(line)
        assert segment["text"] == " ".join(word["word"] for word in segment["words"])
        assert 1 <= len(segment["n_best"]) <= 2
        assert all(0 <= w["start"] <= w["end"] <= 6.1 for w in segment["words"])


def test_stats_tell_speed_latency_and_memory(model: list[str | Path]) -> None:
    done = ondevice(SPEECH, *model, "--stats", "--beam", "1")
    lines = done.stderr.decode()
    for measurement in ("real-time factor", "p50", "p90", "p99", "max", "60 ms of audio", "first word", "final text",
                        "dropped samples", "peak memory"):  # fmt: skip
        assert measurement in lines


WRONG = {
    "missing": (["nowhere.wav"], "no such file", 2),
    "empty": (["empty.wav"], "is empty", 2),
    "text named wav": (["text.wav"], "is not a sound file", 2),
    "truncated": (["cut.wav"], "cut short", 2),
    "not a number": (["nan.wav"], "is not a number", 2),
    "rate": (["rate.wav"], "sample rate", 2),
    "folder": (["."], "is a directory", 2),
    "format": (["good.wav", "--format", "xml"], "expected one of text, json, srt, vtt", 2),
    "beam": (["good.wav", "--beam", "0"], "beam 0: expected 1 to 64", 2),
    "endpoint": (["good.wav", "--endpoint-silence", "-1"], "expected 0 (off) to 60", 2),
    "bias missing": (["good.wav", "--bias", "nowhere.txt"], "nowhere.txt", 2),
    "bias broken": (["good.wav", "--bias", "bias.txt"], "bias.txt, line 2", 2),
    "model": (["good.wav", "--model", "rnnnt"], "unknown model 'rnnnt'", 2),
    "two inputs": (["good.wav", "--device", "1"], "give one of them", 2),
    "output folder": (["good.wav", "--output", "no/such/place.txt"], "no/such/place.txt cannot be written", 2),
}


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    samples = read_audio(SPEECH)[:16_000]
    soundfile.write(folder / "good.wav", samples, 16_000)
    (folder / "cut.wav").write_bytes((folder / "good.wav").read_bytes()[:9000])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no sound at all\n")
    broken = samples.copy()
    broken[8000] = np.nan
    soundfile.write(folder / "nan.wav", broken, 16_000, subtype="FLOAT")
    soundfile.write(folder / "rate.wav", samples, 12)
    (folder / "bias.txt").write_text("a phrase\nanother\theavy\n")
    return folder


@pytest.mark.parametrize("name", WRONG)
def test_bad_usage_and_bad_input_are_one_line_and_leave_nothing(
    name: str, bad_files: Path, toy_asset: Path, tmp_path: Path
) -> None:
    arguments, expected, code = WRONG[name]
    if "--model" not in arguments:
        arguments = [*arguments, "--model", str(toy_asset)]
    if "--output" not in arguments:
        arguments = [*arguments, "--output", str(tmp_path / "out.txt")]
    command = [sys.executable, "-m", "ondevice", "listen", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SAMPLES.parents[1])}
    done = subprocess.run(command, cwd=bad_files, env=environment, capture_output=True, text=True, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if line.startswith("ondevice: ")]
    assert done.returncode == code, done.stderr
    assert len(complaints) == 1, done.stderr
    assert expected in complaints[0]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_utterance_and_it_is_written(ending: str, toy_asset: Path, tmp_path: Path) -> None:
    samples = (read_audio(SPEECH) * 32767).astype("<i2").tobytes()
    command = [sys.executable, "-m", "ondevice", "listen", "-", "--model", str(toy_asset), "--endpoint-silence", "0"]
    if ending != "SIGINT":
        command += ["--output", str(tmp_path / "heard.txt")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(samples)
        process.stdin.flush()
        assert process.stderr.readline()  # something was heard; the pipe stays open
        time.sleep(1.0)
        process.send_signal(getattr(signal, ending))
        finals = process.stdout.read()
        assert process.wait(timeout=60) == 0
    if ending != "SIGINT":
        assert [path.name for path in tmp_path.iterdir()] == ["heard.txt"]
        finals = (tmp_path / "heard.txt").read_bytes()
    assert len(finals.decode().splitlines()) == 1


def test_what_was_heard_before_a_fault_is_given_out(toy_asset: Path) -> None:
    def source() -> Iterator[np.ndarray]:
        samples = read_audio(SPEECH)
        yield from (samples[start : start + 960] for start in range(0, 48_000, 960))
        raise FailureError("the microphone is gone")

    finals: list[Result] = []
    meter = Meter(16_000)
    with pytest.raises(FailureError, match="gone"):
        listen(Recognizer.load(toy_asset), source(), lambda _: None, finals.append, meter)
    assert finals
    assert meter.summary().audio_s == pytest.approx(3.0)


def test_an_interrupt_while_working_lets_the_work_finish() -> None:
    done = []
    for item in until_interrupted(range(5)):
        if item == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        done.append(item)
    assert done == [0, 1, 2]


def test_a_source_that_can_be_stopped_gives_out_what_it_holds() -> None:
    stopped = []

    def source() -> Iterator[int]:
        yield 0
        yield from (1, 2) if stopped else range(1, 100)

    done = []
    for item in until_interrupted(source(), lambda: stopped.append(True)):
        if item == 0:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        done.append(item)
    assert done == [0, 1, 2]


def test_a_terminal_redraws_the_partial_in_place() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def heard(text: str) -> Result:
        return Result(text, (), 0.0, (), 0.0, 1.0, False)

    out = Terminal()
    line = PartialLine(out)
    line.show(heard("a b"))
    line.show(heard("word " * 100))
    line.clear()
    drawn = out.getvalue().split("\r\x1b[2K")
    assert drawn[1] == "a b"
    assert drawn[2].startswith("…")
    assert len(drawn[2]) < 100
    assert "\n" not in out.getvalue()


def test_listen_hears_a_microphone(pulse_microphone: pulse.PulseMicrophone) -> None:
    pytest.importorskip("sounddevice")
    from ondevice.assets import find_asset, load_manifest

    manifest = load_manifest(find_asset("rnnt"))
    command = [sys.executable, "-m", "ondevice", "listen", "--model", manifest.name, "--stats"]
    environment = {**os.environ, **pulse_microphone.env, "PYTHONPATH": str(SAMPLES.parents[1])}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        player = pulse_microphone.play(read_audio(SPEECH))
        player.wait(timeout=60)
        time.sleep(2.5)  # the endpoint comes after 0.8 s of silence
        process.send_signal(signal.SIGINT)
        heard, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    direct = Recognizer.load("rnnt").transcribe(read_audio(SPEECH))
    words, expected = set(heard.split()), set(" ".join(r.text for r in direct).split())
    assert len(words & expected) >= len(expected) // 2, heard
