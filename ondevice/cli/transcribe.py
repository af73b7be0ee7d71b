"""`ondevice transcribe`: recordings to text and subtitles."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice.cli.checks import check_raw_rate, check_search
from ondevice.errors import FailureError, InputError, OndeviceError

if TYPE_CHECKING:
    from ondevice.recognizer import Recognizer
    from ondevice.transcription import Transcript


def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="WAV, FLAC, Ogg, Opus or MP3; - is WAV or raw s16le on stdin."),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Name or directory of a model.")] = "rnnt",
    formats: Annotated[
        str, typer.Option("--format", "-f", help="txt, json, srt or vtt; with -o several, as in txt,srt.")
    ] = "txt",
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="Folder for NAME.txt, NAME.srt ..., made if missing; else stdout."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Files side by side, a process each.")] = 1,
    beam: Annotated[int | None, typer.Option(help="Hypotheses kept, 1 is greedy; else as the model says.")] = None,
    lm_weight: Annotated[
        float | None, typer.Option(help="Weight of the language model; else as the model says.")
    ] = None,
    second_pass: Annotated[
        bool, typer.Option(help="Weigh all readings again, by their sounds too, at the end of an utterance.")
    ] = True,
    vad: Annotated[bool, typer.Option(help="No words where nobody speaks, if the model can tell.")] = True,
    bias: Annotated[
        Path | None, typer.Option(help="File of phrases to favour: one a line, perhaps a tab and a weight.")
    ] = None,
    n_best: Annotated[int, typer.Option(min=1, help="Readings of each utterance in json.")] = 1,
    rate: Annotated[int, typer.Option(help="Sample rate of raw audio on stdin, Hz.")] = 16_000,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter in each process.")] = 1,
    endpoint_silence: Annotated[
        float, typer.Option(help="Seconds of silence that end an utterance; 0 never ends one.")
    ] = 0.8,
) -> None:
    """Transcribe sound files, faster than real time.

    Without -o, results go to stdout in the order of the files:
    txt is a line for each utterance, after FILE and a tab if there are several files;
    json is a line for each file, an object with file, model, duration, text and segments,
    which have times, confidence, words and n_best.

    A file that cannot be read is reported on stderr and the others go on.
    The exit code is then 1, or 2 if no file could be read.
    """
    from ondevice.output import parse_formats

    wanted = parse_formats(formats)
    if output_dir is None:
        _check_stdout(files, wanted)
    else:
        _check_folder(output_dir, files, wanted)
    from ondevice.bias import read_bias_file
    from ondevice.endpoint import EndpointConfig
    from ondevice.recognizer import Recognizer, RecognizerConfig

    check_search(beam, lm_weight)
    check_raw_rate(rate)
    config = RecognizerConfig(
        beam=beam, lm_weight=lm_weight, second_pass=second_pass, vad=vad, n_best=n_best,
        bias=read_bias_file(bias) if bias else (), endpoint=EndpointConfig(silence_s=endpoint_silence), threads=threads,
    )  # fmt: skip
    recognizer = Recognizer.load(model, config)
    for note in recognizer.notes:
        print(note, file=sys.stderr)
    for phrase in recognizer.unspelled:
        print(f"ondevice: {bias}: {phrase!r} cannot be written with the model's pieces; left out", file=sys.stderr)
    code = _run(recognizer, files, wanted, output_dir, jobs, rate)
    if code:
        raise typer.Exit(code)


def _run(
    recognizer: "Recognizer", files: Sequence[str], formats: Sequence[str], folder: Path | None, jobs: int, rate: int
) -> int:
    """Transcribe and write; the exit code."""
    from ondevice.files import atomic_write, open_output
    from ondevice.output import render
    from ondevice.transcription import Failure, transcribe_files

    def rendered(transcript: "Transcript", format_: str) -> str:
        model, seconds = recognizer.manifest.name, transcript.duration_s
        return render(transcript.results, format_, model=model, duration_s=seconds, file=transcript.source)

    def show(transcript: "Transcript") -> None:
        if folder is not None:
            for format_ in formats:
                atomic_write(_path(folder, transcript.source, format_), rendered(transcript, format_))
            return
        text = rendered(transcript, formats[0])
        if len(files) > 1 and formats[0] == "text":
            text = "".join(f"{transcript.source}\t{line}\n" for line in text.splitlines())
        with open_output(None) as out:
            out.write(text)

    failures: list[Failure] = []
    with _terminated_as_interrupted(), _progress(files) as (heard, paused):
        outcomes = transcribe_files(
            recognizer, files, jobs=jobs, in_order=folder is None, heard=heard, raw_rate_hz=rate
        )
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                with paused():
                    if isinstance(outcome, Failure):
                        failures.append(outcome)
                        print(f"ondevice: {outcome.error}", file=sys.stderr, flush=True)
                    else:
                        show(outcome)
    if not failures:
        return 0
    bad_input = all(failure.error.exit_code == InputError.exit_code for failure in failures)
    return InputError.exit_code if bad_input and len(failures) == len(files) else FailureError.exit_code


def _check_stdout(files: Sequence[str], formats: Sequence[str]) -> None:
    if len(formats) > 1:
        raise InputError(f"--format {','.join(formats)}: several formats need files; expected --output-dir with them")
    if len(files) > 1 and formats[0] in ("srt", "vtt"):
        raise InputError(f"--format {formats[0]}: subtitles of {len(files)} files; expected --output-dir with them")


def _check_folder(folder: Path, files: Sequence[str], formats: Sequence[str]) -> None:
    """Make the folder, when no file in it would be written twice or over a recording."""
    sources = {os.path.realpath(file): file for file in files if file != "-"}
    outputs: dict[Path, str] = {}
    for file in files:
        for format_ in formats:
            path = _path(folder, file, format_)
            if path in outputs:
                raise InputError(f"{outputs[path]} and {file} would both become {path}; expected different names")
            if source := sources.get(os.path.realpath(path)):
                raise InputError(f"{path} would be written over the input {source}; expected another --output-dir")
            outputs[path] = file
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"--output-dir {folder} is or lies in a file; expected a folder") from None
    except OSError as error:
        raise FailureError(f"--output-dir {folder} cannot be made ({error.strerror or error})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FailureError(f"--output-dir {folder} cannot be written to (permission denied)")


def _path(folder: Path, file: str, format_: str) -> Path:
    from ondevice.output import FORMATS

    return folder / f"{'stdin' if file == '-' else Path(file).stem}.{FORMATS[format_]}"


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: processes are stopped, temporary files removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _progress(files: Sequence[str]) -> Iterator[tuple[Callable[[float], None] | None, Callable[[], Any]]]:
    """What to tell the seconds heard, and a context in which other lines may be printed: a bar, on a terminal."""
    if not sys.stderr.isatty():
        yield None, contextlib.nullcontext
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    task, began, seconds = bar.add_task("", total=_total_s(files)), time.monotonic(), 0.0

    def heard(more_s: float) -> None:
        nonlocal seconds
        seconds += more_s
        speed = seconds / max(time.monotonic() - began, 1e-3)
        bar.update(task, completed=seconds, description=f"{speed:.0f} times real time")

    @contextlib.contextmanager
    def paused() -> Iterator[None]:
        bar.stop()
        yield
        bar.start()

    with bar:
        yield heard, paused


def _total_s(files: Sequence[str]) -> float | None:
    """Seconds of audio there are, as far as headers tell; None if nobody knows."""
    from ondevice.decode import open_path

    total = 0.0
    for file in files:
        if not os.path.isfile(file):  # a pipe can be read only once
            continue
        with contextlib.suppress(OndeviceError), open_path(file, 16_000) as opened:
            total += opened.seconds or 0.0
    return total or None
