"""`ondevice transcribe`, driven as a person drives it: files of every kind, broken ones, several processes."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile
import typer
from typer.testing import CliRunner

from ondevice.audio import read_audio
from ondevice.bias import DEFAULT_WEIGHT
from ondevice.cli.transcribe import transcribe
from ondevice.endpoint import EndpointConfig
from ondevice.errors import OndeviceError
from ondevice.output import render
from ondevice.recognizer import Recognizer, RecognizerConfig
from tests.ondevice.sounds import KINDS, RATE_HZ, sound, ten_hours_of_silence

ROOT = Path(__file__).parents[2]


class Done:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def command(*arguments: object, stdin: bytes | None = None) -> Done:
    """Run `ondevice transcribe` in this process, errors printed as `ondevice` does."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(transcribe)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    if isinstance(result.exception, OndeviceError):
        return Done(result.exception.exit_code, result.stdout, f"{result.stderr}ondevice: {result.exception}\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def ondevice(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ondevice", "transcribe", *map(str, arguments)],
        cwd=ROOT, text=True, timeout=60, **{"capture_output": True, **options},
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_any_kind_gives_the_words_the_recogniser_hears(
    toy_asset: Path, sounds: Path, recognizer: Recognizer, name: str
) -> None:
    texts = [result.text for result in recognizer.transcribe(read_audio(sounds / name))]
    assert texts
    done = command(sounds / name, "--model", toy_asset)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == texts


def test_of_several_files_each_line_names_its_own_and_jobs_change_nothing(
    toy_asset: Path, sounds: Path, recognizer: Recognizer
) -> None:
    files = [sounds / name for name in reversed(KINDS)]  # the longest first, so that it is ready last
    expected = [f"{f}\t{result.text}" for f in files for result in recognizer.transcribe(read_audio(f))]
    alone = command(*files, "--model", toy_asset)
    assert alone.out.splitlines() == expected
    together = command(*files, "--model", toy_asset, "--jobs", 2)
    assert (together.code, together.err) == (0, "")
    assert together.out == alone.out


def test_every_format_goes_to_a_new_folder_and_jobs_change_nothing(
    toy_asset: Path, sounds: Path, recognizer: Recognizer, tmp_path: Path
) -> None:
    files = [sounds / name for name in KINDS]
    options = ("--model", toy_asset, "-f", "txt,json,srt,vtt")
    alone, together = tmp_path / "deep" / "alone", tmp_path / "together"
    assert command(*files, *options, "-o", alone).out == ""
    assert sorted(contents(alone)) == sorted(f"{x}.{kind}" for x in "abcde" for kind in ("json", "srt", "txt", "vtt"))
    samples = read_audio(sounds / "e.mp3")
    for kind in ("json", "srt", "txt", "vtt"):
        assert (alone / f"e.{kind}").read_text(encoding="utf-8") == render(
            recognizer.transcribe(samples), "text" if kind == "txt" else kind,
            model="toy", duration_s=len(samples) / RATE_HZ, file=str(sounds / "e.mp3"),
        )  # fmt: skip
    done = command(*files, *options, "-o", together, "--jobs", 2)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert contents(together) == contents(alone)
    command(files[0], *options, "-o", together)  # over what is there
    assert contents(together) == contents(alone)


def test_json_on_standard_output_is_a_line_for_each_file(toy_asset: Path, sounds: Path) -> None:
    done = command(sounds / "a.wav", sounds / "b.flac", "--model", toy_asset, "-f", "json", "--n-best", 3)
    first, second = map(json.loads, done.out.splitlines())
    assert (first["file"], second["file"]) == (str(sounds / "a.wav"), str(sounds / "b.flac"))
    assert (first["model"], first["duration"], second["duration"]) == ("toy", 2.0, 3.0)
    for segment in first["segments"]:
        assert 1 < len(segment["n_best"]) <= 3
        assert segment["n_best"][0]["text"] == segment["text"] == " ".join(w["word"] for w in segment["words"])
        assert segment["start"] == segment["words"][0]["start"] < segment["words"][-1]["end"] == segment["end"]
        assert 0 < segment["confidence"] < 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_bad_files_are_a_line_each_and_the_others_go_on(
    toy_asset: Path, sounds: Path, tmp_path: Path, jobs: int
) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "cut.flac").write_bytes((sounds / "b.flac").read_bytes()[:-2000])
    files = [tmp_path / "text.wav", sounds / "a.wav", tmp_path / "missing.wav", tmp_path / "cut.flac", tmp_path]
    files.append(sounds / "d.opus")
    out = tmp_path / "out"
    done = command(*files, "--model", toy_asset, "-o", out, "--jobs", jobs)
    assert done.code == 1
    bad = sorted(str(path) for path in files if path.parent != sounds)
    assert len(done.err.splitlines()) == len(bad)
    for line, path in zip(sorted(done.err.splitlines()), bad, strict=True):
        assert line.startswith(f"ondevice: {path} ") or line.startswith(f"ondevice: {path}: ")
    assert sorted(contents(out)) == ["a.txt", "d.txt"]
    printed = command(*files, "--model", toy_asset, "--jobs", jobs)
    assert {line.split("\t")[0] for line in printed.out.splitlines()} == {str(files[1]), str(files[5])}
    assert [line.split()[1].rstrip(":") for line in printed.err.splitlines()] == [
        str(path) for path in files if path.parent != sounds
    ]


def test_the_exit_code_is_2_where_no_input_could_be_read(toy_asset: Path, sounds: Path, tmp_path: Path) -> None:
    missing, folder = tmp_path / "missing.wav", tmp_path / "out"
    done = command(missing, "--model", toy_asset)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"ondevice: {missing}: no such file; expected a sound file\n"
    assert command(missing, tmp_path, "--model", toy_asset, "-o", folder).code == 2
    assert contents(folder) == {}
    assert command(missing, sounds / "a.wav", "--model", toy_asset).code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "-f", "mp4"], "--format mp4: 'mp4' is not known; expected txt, json, srt or vtt"),
        (["a.wav", "-f", "txt,json"], "--format text,json: several formats need files; expected --output-dir"),
        (["a.wav", "b.flac", "-f", "vtt"], "--format vtt: subtitles of 2 files; expected --output-dir"),
        (["a.wav", "x/a.flac", "-o", "out"], "a.wav and x/a.flac would both become out/a.txt"),
        (["a.wav", "a.wav", "-o", "out"], "a.wav and a.wav would both become out/a.txt"),
        (["a.wav", "-f", "txt", "x/a.txt", "-o", "x"], "x/a.txt would be written over the input x/a.txt"),
        (["a.wav", "-o", "b.flac"], "--output-dir b.flac is or lies in a file; expected a folder"),
        (["a.wav", "-o", "b.flac/out"], "--output-dir b.flac/out is or lies in a file; expected a folder"),
        (["a.wav", "-", "-j", "2"], "standard input (-) cannot be shared between processes"),
        (["a.wav", "--beam", "1000"], "--beam 1000: expected 1 to 64"),
        (["a.wav", "--lm-weight", "-1"], "--lm-weight -1.0: expected 0 to 5"),
        (["a.wav", "--endpoint-silence", "61"], "endpoint silence 61"),
        (["a.wav", "--bias", "none.txt"], "none.txt: No such file"),
        (["a.wav", "--model", "nosuch"], "'nosuch'"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_done(
    toy_asset: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    for name in ("a.wav", "b.flac"):
        (tmp_path / name).write_bytes((sounds / name).read_bytes())
    (tmp_path / "x").mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    done = command("--model", toy_asset, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ondevice: ")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_options_reach_the_recogniser(toy_asset: Path, sounds: Path, tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("no\nvöllig ßo\n", encoding="utf-8")
    file = sounds / "e.mp3"
    done = command(file, "--model", toy_asset, "--beam", 2, "--bias", phrases, "--endpoint-silence", 0)
    bias = (("no", DEFAULT_WEIGHT), ("völlig ßo", DEFAULT_WEIGHT))
    settings = RecognizerConfig(beam=2, bias=bias, endpoint=EndpointConfig(silence_s=0))
    (result,) = Recognizer.load(toy_asset, settings).transcribe(read_audio(file))
    assert done.out == result.text + "\n"
    assert done.err == f"ondevice: {phrases}: 'völlig ßo' cannot be written with the model's pieces; left out\n"
    plain = command(file, "--model", toy_asset)
    assert plain.out != done.out
    assert plain.out.count("\n") > 1


def test_standard_input_is_a_wav_or_raw_samples(toy_asset: Path, sounds: Path, tmp_path: Path) -> None:
    said = command(sounds / "a.wav", "--model", toy_asset).out
    done = command("-", "--model", toy_asset, stdin=(sounds / "a.wav").read_bytes())
    assert (done.code, done.out) == (0, said)
    raw = io.BytesIO()
    soundfile.write(raw, sound(2.0, 8000), 8000, "PCM_16", format="RAW")
    soundfile.write(tmp_path / "low.wav", sound(2.0, 8000), 8000, "PCM_16")
    low = command(tmp_path / "low.wav", "--model", toy_asset).out
    assert command("-", "--model", toy_asset, "--rate", 8000, stdin=raw.getvalue()).out == low
    assert command("-", "--model", toy_asset, "-o", tmp_path / "out", stdin=(sounds / "a.wav").read_bytes()).code == 0
    assert contents(tmp_path / "out") == {"stdin.txt": said.encode()}
    done = command("-", "--model", toy_asset, stdin=b"")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ondevice: standard input is empty")


def test_a_full_disk_ends_the_work_and_leaves_only_whole_files(
    toy_asset: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def full_from_the_second(path: Path, target: Path) -> Path:
        if Path(target).name == "b.srt":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full_from_the_second)
    options = ("--model", toy_asset, "-f", "txt,srt", "-o", tmp_path / "out")
    done = command(*(sounds / name for name in ("a.wav", "b.flac", "c.ogg")), *options)
    assert done.code == 1
    assert done.err == f"ondevice: {tmp_path / 'out' / 'b.srt'} cannot be written (No space left on device)\n"
    assert sorted(contents(tmp_path / "out")) == ["a.srt", "a.txt", "b.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_standard_output_is_one_line(toy_asset: Path, sounds: Path) -> None:
    with open("/dev/full", "w") as full:
        done = ondevice(
            sounds / "a.wav", "--model", toy_asset, stdout=full, stderr=subprocess.PIPE, capture_output=False
        )
    assert done.returncode == 1
    assert done.stderr == "ondevice: standard output cannot be written (No space left on device)\n"


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_whole_files_and_no_processes(
    toy_asset: Path, sounds: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    out = tmp_path / "out"
    options = ["--model", str(toy_asset), "--jobs", "2", "-o", str(out)]
    files = [str(ten_hours_of_silence(tmp_path / "long.wav")), str(sounds / "a.wav")]
    command, deadline = [sys.executable, "-m", "ondevice", "transcribe", *files, *options], time.monotonic() + 40
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            while not (out / "a.txt").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            if kind == signal.SIGINT:
                os.killpg(process.pid, kind)  # as a terminal does: to all
            else:
                process.send_signal(kind)
            _, errors = process.communicate(timeout=20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode in ((-kind,) if kind == signal.SIGKILL else (130, 1))
    assert "Traceback" not in errors
    assert list(contents(out)) == ["a.txt"]
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_bar_is_drawn_on_a_terminal_and_results_stay_clean(toy_asset: Path, sounds: Path, tmp_path: Path) -> None:
    import pty

    files = [sounds / "a.wav", tmp_path / "missing.wav", sounds / "b.flac"]
    master, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    options = ("--model", toy_asset, "--jobs", 2)
    done = ondevice(*files, *options, stdout=subprocess.PIPE, stderr=terminal, capture_output=False, env=environment)
    os.close(terminal)
    drawn = os.read(master, 1 << 20).decode()
    os.close(master)
    assert done.returncode == 1
    assert done.stdout == command(*files, *options).out
    assert "%" in drawn
    assert f"ondevice: {files[1]}: no such file; expected a sound file" in drawn
    assert "%" not in ondevice(files[0], *options[:2]).stderr  # no terminal, no bar


def test_the_command_loads_nothing_heavy_before_it_runs() -> None:
    code = "import sys, ondevice.cli.transcribe; print({'numpy', 'soundfile', 'rich', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
