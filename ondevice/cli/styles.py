"""`ondevice styles`: what each style token of a voice does."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ondevice.synthesizer import Synthesizer

PROPERTIES = {  # key of a manifest's row -> what the table calls it
    "f0_mean_semitones": "F0 mean, semitones",
    "f0_range_semitones": "F0 range, semitones",
    "energy_db": "energy, dB",
    "rate_percent": "rate, %",
}
EXAMPLE = "The old man looked up from his book and smiled."


def styles(
    model: Annotated[str, typer.Option("--model", "-m", help="Name or directory of a voice.")] = "tacotron",
    measure: Annotated[bool, typer.Option("--measure", help="Measure now; else as the card says.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for a sample and a picture of each token.")
    ] = None,
    text: Annotated[str, typer.Option(help="What the samples say.")] = EXAMPLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what each style token does: the change of melody, loudness and rate per unit of its weight.

    rho is Spearman's correlation over seven weights from -1.5 to 1.5: +1 or -1 where the property moves steadily.
    """
    from ondevice.assets import find_asset, load_manifest
    from ondevice.voice_manifest import VoiceManifest

    speaking = _ready(model, output, text) if output is not None else None
    manifest = load_manifest(find_asset(model), kind=VoiceManifest)
    rows: list[Any] = [dict(row) for row in manifest.styles]
    if measure or not rows:
        rows = list(_measured(model))
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{'token':<6}" + "".join(f"{name:>21} {'rho':>6}" for name in PROPERTIES.values()))
        for row in rows:
            cells = (f"{row[key]['slope']:+21.2f} {row[key]['rho']:+6.2f}" for key in PROPERTIES)
            print(f"{row['token']:<6}" + "".join(cells))
    if output is not None and speaking is not None:
        _write_samples(speaking, output, text)


def _measured(model: str) -> Iterator[dict[str, Any]]:
    from ondevice.styles import measure_styles
    from ondevice.synthesizer import Style, Synthesizer

    synthesizer = Synthesizer.load(model)

    def say(sentence: str, token: int, weight: float) -> Any:
        return synthesizer(sentence, Style({token: weight}))

    for number, found in enumerate(measure_styles(say, synthesizer.voice.tokens, synthesizer.rate_hz), start=1):
        print(f"token {found.token} measured, {number} of {synthesizer.voice.tokens}", file=sys.stderr)
        yield found.values()


def _ready(model: str, folder: Path, text: str) -> "Synthesizer":
    """A synthesizer that can say the text, pictures that can be drawn, and a folder for both."""
    from ondevice.errors import FailureError, InputError
    from ondevice.plotting import load_pyplot
    from ondevice.synthesizer import Synthesizer

    load_pyplot()
    synthesizer = Synthesizer.load(model)
    if not list(synthesizer.pronouncer.sentences(text, synthesizer.voice.most_symbols)):
        raise InputError(f"--text {text!r}: nothing to say; expected text with letters or digits in it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FailureError(f"{folder} cannot be made ({error.strerror or error})") from None
    return synthesizer


def _write_samples(synthesizer: "Synthesizer", folder: Path, text: str) -> None:
    _write_sample(synthesizer, folder / "neutral", text, {})
    for token in range(synthesizer.voice.tokens):
        _write_sample(synthesizer, folder / f"token-{token}", text, {token: 1.0})
    print(f"samples and pictures in {folder}", file=sys.stderr)


def _write_sample(synthesizer: "Synthesizer", path: Path, text: str, tokens: dict[int, float]) -> None:
    """A WAV file and a picture of the text's first sentence in a style."""
    import numpy as np

    from ondevice.plotting import plot_speech
    from ondevice.speaking import pcm_output
    from ondevice.synthesizer import Said, Style

    said: list[Said] = []
    samples = np.concatenate([np.zeros(0, np.float32), *synthesizer.stream(text, Style(tokens), said=said.append)])
    with pcm_output(path.with_suffix(".wav"), synthesizer.rate_hz, raw=False) as sink:
        sink.write(samples)
    first = said[0]
    count = round(first.seconds * synthesizer.rate_hz)
    hop = synthesizer.voice.features.hop_samples
    plot_speech(path.with_suffix(".png"), first, samples[:count], synthesizer.rate_hz, hop)
