"""`ondevice listen`: speech to words as it is spoken."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice.cli.checks import check_raw_rate, check_search
from ondevice.errors import InputError

if TYPE_CHECKING:
    from ondevice.recognizer import Recognizer
    from ondevice.results import Result


def listen(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT]", help="Sound file, or - for WAV or raw s16le on stdin. (default: microphone)"),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Name or directory of a model.")] = "rnnt",
    device: Annotated[str | None, typer.Option(help="Microphone: number or part of its name.")] = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List microphones and stop.")] = False,
    beam: Annotated[int | None, typer.Option(help="Hypotheses kept; 1 is greedy. (default: the model's)")] = None,
    lm_weight: Annotated[
        float | None, typer.Option(help="Weight of the language model. (default: the model's)")
    ] = None,
    second_pass: Annotated[
        bool, typer.Option(help="Weigh all readings again, by their sounds too, at the end of an utterance.")
    ] = True,
    vad: Annotated[bool, typer.Option(help="No words where nobody speaks, if the model can tell.")] = True,
    bias: Annotated[
        Path | None, typer.Option(help="File of phrases to favour: one a line, perhaps a tab and a weight.")
    ] = None,
    n_best: Annotated[int, typer.Option(min=1, help="Readings of each utterance in json.")] = 1,
    format_: Annotated[str, typer.Option("--format", "-f", help="text, json (an object a line), srt or vtt.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the utterances. (default: stdout)")
    ] = None,
    rate: Annotated[int, typer.Option(help="Sample rate of raw audio on stdin, Hz.")] = 16_000,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    endpoint_silence: Annotated[
        float, typer.Option(help="Seconds of silence that end an utterance; 0 never ends one.")
    ] = 0.8,
    stats: Annotated[bool, typer.Option("--stats", help="Show speed, latency and memory at the end.")] = False,
) -> None:
    """Hear speech and print its words as they come.

    Partial results go to stderr (redrawn in place on a terminal), utterances to stdout. Ctrl-C ends the utterance.
    """
    if list_devices:
        from ondevice.cli.devices import devices

        devices()
        return
    from ondevice.output import FORMATS

    if format_ not in FORMATS:
        raise InputError(f"--format {format_}: expected one of {', '.join(FORMATS)}")
    if source is not None and device is not None:
        raise InputError(f"--device {device}: names a microphone, but the input is {source}; give one of them")
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
    _run(recognizer, source, device, rate, format_, output, stats)


def _run(
    recognizer: "Recognizer",
    source: str | None,
    device: str | None,
    rate: int,
    format_: str,
    output: Path | None,
    stats: bool,
) -> None:
    from ondevice import listening
    from ondevice.files import open_output
    from ondevice.output import Writer
    from ondevice.stats import Meter

    meter, line = Meter(recognizer.rate_hz), listening.PartialLine()
    with _blocks(recognizer, source, device, rate) as (blocks, lost), open_output(output) as out:
        writer = Writer(out, format_)

        def final(result: "Result") -> None:
            line.clear()
            writer.write(result)

        try:
            listening.listen(recognizer, blocks, line.show, final, meter)
        finally:
            line.clear()
            writer.close()
            if stats:
                for text in meter.summary(*lost()).lines():
                    print(text, file=sys.stderr)
    samples, overflows = lost()
    if overflows:
        print(f"ondevice: audio was lost {overflows} times ({samples} samples of it counted)", file=sys.stderr)


@contextlib.contextmanager
def _blocks(recognizer: "Recognizer", source: str | None, device: str | None, rate: int) -> Iterator[tuple[Any, Any]]:
    """The blocks of the input, one encoder step each, up to Ctrl-C; and a function: samples dropped, overflows."""
    from ondevice.listening import until_interrupted

    block_ms = round(1000 * recognizer.manifest.step_s)
    if source is not None:
        from ondevice.audio import stream_audio

        yield until_interrupted(stream_audio(source, recognizer.rate_hz, block_ms, raw_rate_hz=rate)), lambda: (0, 0)
        return
    from ondevice.microphone import Microphone

    with Microphone(device, recognizer.rate_hz, block_ms) as microphone:
        print(f"listening to {microphone.device.name}, Ctrl-C ends", file=sys.stderr)
        yield (
            until_interrupted(microphone, microphone.stop),
            lambda: (microphone.dropped_samples, microphone.overflows),
        )
