"""`ondevice speak`: text to speech."""

import codecs
import contextlib
import re
import select
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ondevice.errors import InputError

if TYPE_CHECKING:
    from ondevice.synthesizer import Said, Style, Synthesizer

PAUSE_S = 0.3  # without more text: what may be the end of a sentence is one


def speak(
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to say; - is stdin. (default: stdin)")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Text file to read, UTF-8; - is stdin.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Name or directory of a voice.")] = "tacotron",
    vocoder: Annotated[
        str | None, typer.Option(help="Name or directory of a vocoder. (default: the voice's own)")
    ] = None,
    style_token: Annotated[
        list[str] | None,
        typer.Option(metavar="N[=WEIGHT]", help="Style token, 1 if no weight is given. Repeatable; see `styles`."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Recording whose style to take.")] = None,
    transfer: Annotated[
        str, typer.Option(help="What to take from --reference: style, or prosody where it says the same text.")
    ] = "style",
    speed: Annotated[float, typer.Option(help="2 is twice as fast.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed says the same.")] = 0,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="WAV file, or - for stdout. (default: play it)")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="With --output: raw s16le instead of WAV.")] = False,
    device: Annotated[str | None, typer.Option(help="Loudspeaker: number or part of its name.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Picture (.png) of the first sentence: spectrum, melody, attention.")
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Show latency, speed and memory at the end.")] = False,
) -> None:
    """Say something: play it as it is made, or write it to a file.

    [[HH AH0 L OW1]] in the text is said as these phones.
    """
    if text is not None and file is not None:
        raise InputError(f"--file {file}: the text is given already; give one of them")
    if raw and output is None:
        raise InputError("--raw: expected --output FILE or --output - with it")
    if device is not None and output is not None:
        raise InputError(f"--device {device}: names a loudspeaker, but --output is {output}; give one of them")
    if output is not None and not output:
        raise InputError("--output: expected the name of a file, or -")
    tokens = _tokens(style_token or [])
    if plot is not None:
        from ondevice.plotting import check_picture

        check_picture(plot)
    from ondevice.synthesizer import Style, Synthesizer

    synthesizer = Synthesizer.load(model, vocoder, threads)
    for note in synthesizer.notes:
        print(note, file=sys.stderr)
    style = Style(tokens, _reference(reference, synthesizer.rate_hz), transfer, speed)
    _run(synthesizer, _lines(text, file), style, seed, output, raw, device, plot, stats)


def _tokens(options: Iterable[str]) -> dict[int, float]:
    """Amounts by token of options such as 3 and 7=-0.2; the same token twice adds up."""
    amounts: dict[int, float] = {}
    for option in options:
        number, _, weight = option.partition("=")
        try:
            token, amount = int(number), float(weight) if "=" in option else 1.0
        except ValueError:
            raise InputError(
                f"--style-token {option}: expected a token's number, or number=weight as in 3=0.4"
            ) from None
        amounts[token] = amounts.get(token, 0.0) + amount
    return amounts


def _reference(path: Path | None, rate_hz: int) -> Any:
    """As much of a recording as a synthesizer uses."""
    if path is None:
        return None
    from ondevice.audio import stream_audio
    from ondevice.synthesizer import first_speech

    return first_speech(stream_audio(path, rate_hz, block_ms=1000), rate_hz)


def _lines(text: str | None, file: Path | None) -> Iterator[str]:
    """The text in lines or parts of lines, as they come; phones in each are checked before any of it is said."""
    if text is not None and text != "-":
        check_escapes(text)
        yield text
    elif file is not None and str(file) != "-":
        try:
            with file.open("rb") as source:
                yield from _parts(f"--file {file}", source)
        except OSError as error:
            raise InputError(f"--file {file}: {error.strerror or error}; expected a text file") from None
    else:
        if sys.stdin is None:
            raise InputError("standard input is closed; expected text")
        typed = sys.stdin.isatty()
        for part in _parts("standard input", sys.stdin.buffer):
            yield part
            if typed:
                yield ""  # each line that is typed is said at once, whatever it ends in


def _parts(name: str, source: Any) -> Iterator[str]:
    """The parts of a binary stream of text, each checked when it comes."""
    if b"\0" in source.peek(1):
        raise InputError(f"{name}: it holds a zero byte; expected text in UTF-8")
    from ondevice.sentences import text_parts

    for part in text_parts(_blocks(source)):
        check_escapes(part)
        yield part


def _blocks(source: Any) -> Iterator[str]:
    """Text as it arrives, "" for each pause."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while block := source.read1():
        if text := decoder.decode(block):
            yield text
            if _pauses(source):
                yield ""
    if text := decoder.decode(b"", final=True):
        yield text


def _pauses(source: Any) -> bool:
    """Whether nothing more comes for a moment; False where the system cannot tell."""
    with contextlib.suppress(OSError, ValueError):
        return not select.select([source], [], [], PAUSE_S)[0]
    return False


def check_escapes(text: str) -> None:
    """Raise InputError for [[phones]] that are none."""
    from ondevice.pronounce import escaped

    for found in re.findall(r"\[\[[^\[\]]*\]\]", text):
        escaped(found)


def _run(
    synthesizer: "Synthesizer", lines: Iterator[str], style: "Style", seed: int, output: str | None, raw: bool,
    device: str | None, plot: Path | None, stats: bool,
) -> None:  # fmt: skip
    from ondevice.listening import until_interrupted
    from ondevice.plotting import SpeechPicture
    from ondevice.speaking import SpeechMeter, pcm_output

    picture = SpeechPicture(synthesizer.rate_hz, synthesizer.voice.features.hop_samples) if plot else None
    meter = SpeechMeter(synthesizer.rate_hz)

    def said(sentence: "Said") -> None:
        if picture:
            picture.said(sentence)

    chunks = meter.chunks(synthesizer.stream(lines, style, seed, Warner(), said, meter.timing))
    if picture:
        chunks = picture.chunks(chunks)
    first = next(chunks, None)  # wrong options and empty texts are told before anything is opened
    if first is None:
        raise InputError("nothing to say; expected text with letters or digits in it")
    underflows = 0
    if output is not None:
        with pcm_output(output, synthesizer.rate_hz, raw) as sink:
            sink.write(first)
            for chunk in chunks:
                sink.write(chunk)
            if picture and plot:
                picture.write(plot)  # or neither is there
    else:
        from ondevice.loudspeaker import Loudspeaker

        with Loudspeaker(device, synthesizer.rate_hz) as speaker:
            speaker.write(first)
            for chunk in until_interrupted(chunks):
                speaker.write(chunk)
            underflows = speaker.underflows
        if underflows:
            print(f"ondevice: the loudspeaker ran dry {underflows} times", file=sys.stderr)
        if picture and plot:
            picture.write(plot)
    if stats:
        for line in meter.lines(underflows):
            print(line, file=sys.stderr)


class Warner:
    """Tells warnings on stderr, each kind of trouble a limited number of times."""

    def __init__(self, most: int = 20) -> None:
        self._left = most

    def __call__(self, line: str) -> None:
        """One more warning."""
        if self._left > 0:
            print(f"ondevice: {line}", file=sys.stderr)
        elif self._left == 0:
            print("ondevice: further warnings are not shown", file=sys.stderr)
        self._left -= 1
