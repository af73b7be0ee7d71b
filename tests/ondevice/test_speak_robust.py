"""`ondevice speak` under signals, from pipes, with long references and with text that nobody would write."""

import errno
import io
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

from ondevice.cli import main
from ondevice.errors import FailureError
from ondevice.files import atomic_file, check_writable
from ondevice.letter_to_sound import LetterToSound, Phones
from ondevice.sentences import LONGEST_PART, text_parts
from ondevice.synthesizer import LONGEST_REFERENCE_S, Style, Synthesizer, first_speech
from ondevice.transfer import ends_together
from tests.ondevice.test_speak import SHORT, ondevice

RATE_HZ = 24_000
COMMAND = [sys.executable, "-m", "ondevice"]
posix = pytest.mark.skipif(
    os.name != "posix" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN,
    reason="needs POSIX signals and pipes, and no nohup",
)


@pytest.fixture(scope="module")
def synthesizer(toy_voice: Path) -> Synthesizer:
    return Synthesizer.load(toy_voice)


@pytest.fixture
def model(toy_voice: Path) -> list[str]:
    return ["--model", os.fspath(toy_voice)]


# references


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, round(seconds * RATE_HZ)).astype(np.float32)


def seconds_of(*pieces: np.ndarray) -> Iterator[np.ndarray]:
    whole = np.concatenate(pieces)
    for start in range(0, len(whole), RATE_HZ):
        yield whole[start : start + RATE_HZ]


def test_no_more_of_a_reference_is_read_than_is_used() -> None:
    blocks = seconds_of(noise(100))
    kept = first_speech(blocks, RATE_HZ)
    assert LONGEST_REFERENCE_S < len(kept) / RATE_HZ < LONGEST_REFERENCE_S + 2
    assert len(list(blocks)) > 60


def test_silence_before_a_reference_is_not_its_beginning() -> None:
    speech = noise(5)
    kept = first_speech(seconds_of(np.zeros(100 * RATE_HZ, np.float32), noise(40, 1e-4), speech), RATE_HZ)
    np.testing.assert_array_equal(kept[-len(speech) :], speech)
    np.testing.assert_array_equal(first_speech(seconds_of(speech), RATE_HZ), speech)


def test_a_long_reference_is_told_and_gives_the_style_of_its_first_part(
    synthesizer: Synthesizer, model: list[str], tmp_path: Path
) -> None:
    path, samples = tmp_path / "long.wav", noise(60)
    soundfile.write(path, samples, RATE_HZ, "FLOAT")
    done = ondevice("speak", SHORT, *model, "--reference", path, "--output", "-", "--raw")
    assert done.returncode == 0
    assert done.stderr.decode() == "ondevice: reference: only the first 30 s of its speech are used\n"
    said = synthesizer(SHORT, Style(reference=samples))
    np.testing.assert_allclose(np.frombuffer(done.stdout, "<i2") / 32767, said, atol=1e-4)


def test_whether_a_text_and_a_recording_end_together() -> None:
    steps, symbols = 60, 10
    straight = np.eye(symbols, dtype=np.float32)[np.arange(steps) * symbols // steps]
    late = np.concatenate([straight, np.repeat(straight[-1:], 40, axis=0)])
    assert ends_together(straight, 4)
    assert not ends_together(straight[: steps // 2], 4)  # half of it is said
    assert not ends_together(late, 4)  # something follows
    assert ends_together(straight[::6][:, -3:], 4)  # a short word ends early


def test_a_reference_that_says_something_else_is_told() -> None:
    synthesizer, text = Synthesizer.load("tacotron"), "Please leave the keys on the table by the door."
    style, told = Style(reference=synthesizer(text), transfer="prosody"), []
    next(synthesizer.stream(text, style, warn=told.append))
    assert told == []
    next(synthesizer.stream("Nobody had told her that the train would be late.", style, warn=told.append))
    assert len(told) == 1
    assert "something else" in told[0]


# signals


@posix
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(model: list[str], tmp_path: Path, kind: signal.Signals) -> None:
    out = tmp_path / "out.wav"
    with subprocess.Popen(
        [*COMMAND, "speak", *model, "--output", str(out)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"[[AA1]].\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(kind)
        process.send_signal(kind)
        assert process.wait(timeout=60) == 128 + kind
        assert b"Traceback" not in process.stderr.read()
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_signal_that_somebody_handles_stays_theirs(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with atomic_file(tmp_path / "out.txt") as out:
            os.kill(os.getpid(), signal.SIGTERM)
            out.write("whole")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert (tmp_path / "out.txt").read_text() == "whole"
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


# what is checked before anything is said or written


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.png")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FailureError, match="cannot be written"):
        check_writable(tmp_path / ("x" * 300))


def test_a_picture_that_cannot_be_written_leaves_no_sound(model: list[str], tmp_path: Path) -> None:
    (tmp_path / "taken.png").mkdir()
    done = ondevice("speak", SHORT, *model, "--output", tmp_path / "out.wav", "--plot", tmp_path / "taken.png")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


@pytest.mark.parametrize("trouble", ["text", "phones", "matplotlib"])
def test_styles_print_and_write_nothing_where_samples_cannot_be_made(
    model: list[str], tmp_path: Path, trouble: str
) -> None:
    text = {"text": "...", "phones": "[[AA1]]. [[XX]]."}.get(trouble, SHORT)
    arguments = ["styles", *model, "--output", str(tmp_path / "styles"), "--text", text]
    missing = "sys.modules['matplotlib'] = None; " if trouble == "matplotlib" else ""
    code = f"import sys; {missing}from ondevice.cli import main; sys.argv[1:] = {arguments}; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == (1 if missing else 2)
    assert done.stdout == b""
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speak", "--speed", "abc"], "'--speed'"),
        (["speak", "--nope"], "--nope"),
        (["speak", "a", "b"], "(b)"),
        (["nope"], "'nope'"),
        (["models", "nope"], "see"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], message: str) -> None:
    done = ondevice(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("ondevice: ")
    assert message in line
    assert line.endswith("--help")


def test_help_stays_help() -> None:
    for arguments, status in ((["speak", "--help"], 0), ([], 2)):
        done = ondevice(*arguments)
        assert done.returncode == status
        assert "Usage:" in done.stdout.decode()
        assert done.stderr == b""


# text


def test_phones_are_never_cut() -> None:
    for filler in range(12):
        text = "x" * filler + "[[HH AH0]]" * 2_000 + "[[AA1 " * 3
        parts = list(text_parts([text]))
        assert "".join(parts) == text
        assert len(parts) > 2
        assert all(part.endswith("]]") for part in parts[:-1])
        assert max(map(len, parts)) <= LONGEST_PART
    assert "".join(text_parts(["[[" * 20_000])) == "[[" * 20_000


def test_a_finished_sentence_does_not_wait_for_its_line() -> None:
    def first(*blocks: str) -> str:
        return next(text_parts([*blocks, "\n"]))

    assert first("One is done. And then", " more") == "One is done."
    assert first("One is done.", "com") == "One is done.com\n"
    assert first("One is done.", "", " And") == "One is done."
    assert first("This is Dr. Who", "", " again") == "This is Dr. Who again\n"
    assert first("It costs 3.", "", "5 dollars") == "It costs 3.5 dollars\n"
    assert first('"Why?" he', "", " asked") == '"Why?" he asked\n'


@posix
def test_a_sentence_on_stdin_is_spoken_before_its_line_ends(model: list[str]) -> None:
    command = [*COMMAND, "speak", "-", *model, "--output", "-", "--raw"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello there.")
        process.stdin.flush()
        assert process.stdout.read(1)  # while the pipe is open
        process.stdin.close()
        process.stdout.read()


@posix
def test_text_comes_from_a_named_pipe(model: list[str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [*COMMAND, "speak", "--file", str(pipe), *model, "--output", "-", "--raw"], stdout=subprocess.PIPE
    ) as process:
        pipe.write_text(SHORT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said == ondevice("speak", "-", *model, "--output", "-", "--raw", stdin=SHORT.encode()).stdout != b""


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_a_binary_file_is_refused(model: list[str], tmp_path: Path, source: str) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, noise(1), RATE_HZ, format="WAV")
    (tmp_path / "sound").write_bytes(sound.getvalue())
    given = ["--file", tmp_path / "sound"] if source == "file" else ["-"]
    done = ondevice("speak", *given, *model, "--output", tmp_path / "out.wav", stdin=sound.getvalue())
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert b"zero byte" in done.stderr
    assert not (tmp_path / "out.wav").exists()


def test_phones_far_behind_do_not_keep_a_text_waiting(model: list[str], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("[[AA1]].\n" * 3 + "[[XX]].\n")
    done = ondevice("speak", "--file", text, *model, "--output", "-", "--raw")
    assert done.returncode == 2
    assert b"'XX' is not a phone" in done.stderr
    assert done.stdout != b""


@pytest.mark.parametrize("word", [8, 100_000])
def test_no_text_is_pronounced_far_ahead(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch, word: int) -> None:
    letters = "".join(map(chr, np.random.default_rng(0).integers(ord("a"), ord("z"), 100_000)))
    text = " ".join(letters[start : start + word] for start in range(0, len(letters), word))
    heard, call = 0, LetterToSound.__call__

    def counted(self: LetterToSound, word: str) -> Phones:
        nonlocal heard
        heard += len(word)
        return call(self, word)

    monkeypatch.setattr(LetterToSound, "__call__", counted)
    assert next(synthesizer.pronouncer.sentences(text), None) is not None
    assert heard < 300


def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out.txt")

    monkeypatch.setattr("ondevice.cli.app", refused)
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err == "ondevice: out.txt: No space left on device\n"
