"""`ondevice export`: trained weights to a model asset, from a checkout."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ondevice.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Turn trained weights into a TFLite model asset (needs a checkout).")

Card_ = Annotated[
    Path | None,
    typer.Option(
        help="Model card (JSON): name, description, licence, data, search settings. Else the exported model's."
    ),
]
Quantize = Annotated[
    str,
    typer.Option(
        help="float32, float16, int8 (weights only), int8-full (everything), int4, or mixed: int8 and int4, layer by "
        "layer, within --max-size."
    ),
]
Target = Annotated[
    str,
    typer.Option(
        help="cpu; edgetpu: with parts for a Coral Edge TPU; or compat: runs on tflite-runtime 2.14 (numpy<2) too."
    ),
]
Calibrate = Annotated[
    list[Path] | None,
    typer.Option(help="Manifest whose train split sets the scales of int8-full and edgetpu. Repeatable."),
]
CalibrationSize = Annotated[int, typer.Option(min=1, help="Recordings taken from each, evenly.")]
MaxSize = Annotated[str | None, typer.Option(help="Largest size of model.tflite, such as 80MB.")]


@app.command("rnnt")
def rnnt(
    run: Annotated[
        Path, typer.Argument(help="Output folder of `ondevice train rnnt`, or name or directory of an exported model.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the asset to write.")],
    recording: Annotated[Path, typer.Option(help="A real recording over which the files are compared with Keras.")],
    text: Annotated[str, typer.Option(help="What is said in it.")],
    card: Card_ = None,
    quantize: Quantize = "int8",
    max_size: MaxSize = None,
    target: Target = "cpu",
    lm: Annotated[Path | None, typer.Option(help="Language model of `ondevice train lm` to ship with it.")] = None,
    lexicon: Annotated[
        Path | None, typer.Option(help="CMUdict file: with it and --lm the asset has a second pass over sounds.")
    ] = None,
    pronunciation: Annotated[
        Path | None, typer.Option(help="File of `ondevice train lexicon`: how words outside --lexicon sound.")
    ] = None,
    vad: Annotated[
        Path | None, typer.Option(help="File of `ondevice train vad`: no words where nobody speaks.")
    ] = None,
    labelled: Annotated[
        list[Path] | None, typer.Option(help="Manifest on which word error rates are compared. Repeatable.")
    ] = None,
    split: Annotated[str, typer.Option(help="Its split to use.")] = "dev",
    calibrate: Calibrate = None,
    calibration_size: CalibrationSize = 32,
) -> None:
    """Export the recogniser: model.tflite, manifest.json and report.json, proven equal to the trained network."""
    wanted = _wanted(quantize, max_size, target, output, run)
    if pronunciation and not lexicon:
        raise InputError(f"--pronunciation {pronunciation}: says how words outside --lexicon sound; expected both")
    _check_text(text)
    calibration = _calibration(calibrate, calibration_size, wanted.precision == "int8-full", "--quantize int8-full")
    from export import exported
    from export.asset import build_asset
    from export.telling import Terminal
    from models.recipe import load_trained
    from ondevice.audio import read_audio
    from ondevice.manifest import TranscribeManifest
    from ondevice.utterances import read_utterances
    from ondevice.vad import SpeechDetector

    utterances = read_utterances(labelled, split) if labelled else []
    samples, made = read_audio(recording), _exported(run, TranscribeManifest)
    about, sounds = _card(card, made), None
    if made:
        trained, sounds = exported.recogniser(made)
        run, sounds, lm = made.directory, None if lm else sounds, lm or made.lm_path
        vad = vad or made.vad_path
    else:
        trained = load_trained(run)
    if lexicon:
        sounds = _sounds(trained, run, lm, lexicon, pronunciation)
    curves = run / "curves.png"
    report = build_asset(
        trained, output, about, wanted, (samples, text), lm, utterances,
        curves if curves.exists() else None, Terminal(), calibration, sounds, SpeechDetector.load(vad) if vad else None,
    )  # fmt: skip
    for precision, rows in report["parity"].items():
        worst = max(rows, key=lambda row: row["relative_rms"])
        print(
            f"{precision:<13} {report['bytes'][precision] / 1e6:7.2f} MB  largest relative RMS error "
            f"{worst['relative_rms']:.2e} ({worst['signature']}.{worst['tensor']})"
        )
    for point in report.get("mixture", {}).get("curve", ()):
        wer = f"  greedy WER {point['wer']:.4f}" if "wer" in point else ""
        print(
            f"{point['int4_layers']:3} layers at int4 {point['bytes'] / 1e6:7.2f} MB  error {point['error']:.4f}{wer}"
        )
    for name, wer in report.get("wer", {}).items():
        print(f"{name:<13} greedy WER {wer:.4f} on {report['utterances']} utterances")
    print(f"{output}: written", file=sys.stderr)


def _sounds(trained: Any, run: Path, lm: Path | None, lexicon: Path, pronunciation: Path | None) -> Any:
    """The lexicon of the second pass."""
    from export.sounds import sound_lexicon
    from models.pieces import load_pieces, piece_list
    from ondevice.tokens import Pieces
    from ondevice.wordlm import WordLm, load_lm

    if not trained.phones:
        raise InputError(
            f"--lexicon {lexicon}: {run} was trained without phones; expected a run trained with --lexicon"
        )
    processor = load_pieces(trained.pieces)
    words = load_lm(lm, Pieces(piece_list(processor))) if lm else None
    if not isinstance(words, WordLm):
        raise InputError(f"--lexicon {lexicon}: needs --lm with a language model of words")
    return sound_lexicon(words.known_words, processor.encode, trained.phones, lexicon, pronunciation)


@app.command("tune")
def tune(
    model: Annotated[str, typer.Argument(help="Name or directory of a model.")],
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...", help="Labelled recordings.")],
    split: Annotated[str, typer.Option(help="Split to tune on.")] = "dev",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many utterances of a manifest.")] = None,
    beam: Annotated[int | None, typer.Option(min=1, help="Hypotheses kept; else as the model says.")] = None,
    second_pass: Annotated[bool, typer.Option("--second-pass", help="Tune the second pass, not the first.")] = False,
) -> None:
    """Find the weights of language model, prior and length bonus that give the fewest word errors on a dev split."""
    from ondevice.checkout import require_checkout

    require_checkout("export")
    from export.tune import Trial
    from export.tune import tune as run
    from ondevice.recognizer import Recognizer
    from ondevice.utterances import read_utterances

    def show(trial: Trial, mark: str = "") -> None:
        settings = "  ".join(f"{name} {value:5.2f}" for name, value in trial.settings.items())
        print(f"{settings}  WER {trial.wer:.4f}{mark}", flush=True)

    show(run(Recognizer.load(model), read_utterances(manifests, split, limit), beam, show, second_pass), "  best")


@app.command("voice")
def voice(
    run: Annotated[
        Path,
        typer.Argument(help="Output folder of `ondevice train tacotron`, or name or directory of an exported voice."),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the asset to write.")],
    recording: Annotated[Path, typer.Option(help="A real recording over which the files are compared with Keras.")],
    text: Annotated[str, typer.Option(help="What is said in it.")],
    card: Card_ = None,
    pronunciation: Annotated[
        Path | None, typer.Option(help="The pronunciation file it was trained with. Else the exported voice's.")
    ] = None,
    vocoder: Annotated[str, typer.Option(help="Name or directory of the vocoder asset to speak with.")] = "vocoder",
    styles: Annotated[bool, typer.Option(help="Measure what the style tokens do, with that vocoder.")] = True,
    quantize: Quantize = "int8",
    max_size: MaxSize = None,
    target: Target = "cpu",
    calibrate: Calibrate = None,
    calibration_size: CalibrationSize = 32,
) -> None:
    """Export a voice: model.tflite, manifest.json, pronunciation.npz and report.json, proven equal to the network."""
    wanted = _wanted(quantize, max_size, target, output, run, for_edge_tpu="int8")
    _check_text(text)
    speech = _calibration(calibrate, calibration_size, wanted.edge_tpu, "--target edgetpu")
    from dataclasses import replace

    import numpy as np

    from export import exported
    from export.telling import Terminal
    from export.voice import build_voice
    from ondevice.assets import find_asset, load_manifest
    from ondevice.audio import read_audio
    from ondevice.pronounce import Pronouncer
    from ondevice.speech_features import SPEECH_RATE_HZ, speech_mel, trim_silence
    from ondevice.voice_manifest import VocoderManifest, VoiceManifest

    try:
        load_manifest(find_asset(vocoder), kind=VocoderManifest)
    except InputError as error:
        if styles:
            raise InputError(f"--vocoder: {error}; or --no-styles") from None
        print(f"--vocoder: {error}", file=sys.stderr)
    made = _exported(run, VoiceManifest)
    about = _card(card, made)
    if made:
        trained = replace(exported.voice(made), vocoder=vocoder)
        trained = replace(trained, pronunciation=pronunciation or trained.pronunciation)
    elif pronunciation is None:
        raise InputError(f"--pronunciation: expected the file that {run} was trained with")
    else:
        trained = _voice_run(run, pronunciation, vocoder)
    pronouncer = Pronouncer(trained.pronunciation)

    def sentence(words: str, samples: Any) -> Any:
        mel = (speech_mel(trim_silence(samples)) - trained.mean) / trained.std
        return pronouncer.encode(words), mel.astype(np.float32)

    said = sentence(text, read_audio(recording, SPEECH_RATE_HZ))
    calibration = [sentence(u.text, u.samples(SPEECH_RATE_HZ)) for u in speech]
    if not said[0]:
        raise InputError(f"--text {text!r}: nothing to say; expected what is said in {recording}")
    _tell(output, build_voice(trained, output, about, wanted, said, calibration, Terminal(), styles))


def _voice_run(run: Path, pronunciation: Path, vocoder: str) -> Any:
    """What a finished voice run holds."""
    import json

    import numpy as np

    from export.voice import TrainedVoice
    from models.train_tacotron import load_scale, load_tacotron

    try:
        norm = json.loads((run / "norm.json").read_text(encoding="utf-8"))
        saved = json.loads((run / "neutral.json").read_text(encoding="utf-8"))
        neutral, reach = np.array(saved["style"], np.float32), float(saved["reach"])
        scale = load_scale(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{run}: {error}; expected the folder of a finished voice run") from None
    mean, std = (np.array(norm[name], np.float32) for name in ("mean", "std"))
    return TrainedVoice(load_tacotron(run), mean, std, neutral, pronunciation, vocoder, scale, reach)


@app.command("vocoder")
def vocoder(
    run: Annotated[
        Path,
        typer.Argument(help="Output folder of `ondevice train vocoder`, or name or directory of an exported vocoder."),
    ],
    output: Annotated[Path, typer.Option(help="Folder of the asset to write.")],
    recording: Annotated[Path, typer.Option(help="A real recording over which the files are compared with Keras.")],
    card: Card_ = None,
    quantize: Quantize = "int8",
    max_size: MaxSize = None,
    target: Target = "cpu",
) -> None:
    """Export a vocoder: model.tflite, manifest.json and report.json, proven equal to the trained network."""
    wanted = _wanted(quantize, max_size, target, output, run, for_edge_tpu=None)
    from export import exported
    from export.telling import Terminal
    from export.voice import build_vocoder
    from models.train_vocoder import load_vocoder
    from ondevice.audio import read_audio
    from ondevice.speech_features import SPEECH_RATE_HZ, speech_mel, whole_frames
    from ondevice.voice_manifest import VocoderManifest

    made = _exported(run, VocoderManifest)
    about = _card(card, made)
    trained = exported.vocoder(made) if made else load_vocoder(run)
    recorded = whole_frames(read_audio(recording, SPEECH_RATE_HZ))
    _tell(output, build_vocoder(trained, output, about, wanted, speech_mel(recorded), Terminal(), recorded))


@app.command("audit")
def audit(model: Annotated[str, typer.Argument(help="Name or directory of a model.")]) -> None:
    """Which operators of a model an Edge TPU would run, and the first that falls back to the CPU, with the reason.

    Of a model with parts for an Edge TPU, those are looked at.
    """
    from ondevice.checkout import require_checkout

    require_checkout("export")
    from export.edgetpu import audit as look
    from ondevice.assets import find_asset, load_manifest
    from ondevice.errors import FailureError

    manifest = load_manifest(find_asset(model))
    parts = [name for name in manifest.signatures if f"{name}.tflite" in manifest.files]
    paths = [manifest.directory / f"{name}.tflite" for name in parts] or [manifest.model_path]
    found = [look(path.read_bytes()) for path in paths]
    for path, one in zip(paths, found, strict=True):
        print(f"{path.name}:")
        for line in one.lines():
            print(f"  {line}")
    if parts and (rest := [name for name in manifest.signatures if name not in parts]):
        print(f"on the CPU, in {manifest.model_path.name}: {', '.join(rest)}")
    if wrong := [str(path) for path, one in zip(paths, found, strict=True) if not one.maps]:
        raise FailureError(f"{', '.join(wrong)}: not all of it runs on an Edge TPU")


def _exported(run: Path, kind: type) -> Any:
    """The manifest where an argument names an exported model; None where it is a folder of a training."""
    from ondevice.assets import find_asset, load_manifest

    return None if _is_training(run) else load_manifest(find_asset(run), kind=kind)


def _is_training(run: Path) -> bool:
    return (run / "config.json").exists() or (run.is_dir() and not (run / "manifest.json").exists())


def _card(path: Path | None, made: Any) -> Any:
    """The card given, else that of an exported model."""
    from export import exported
    from export.asset import Card

    if path is None and made is None:
        raise InputError("--card: expected a model card (JSON) with the folder of a training")
    return Card.load(path) if path else exported.card(made)


def _check_text(text: str) -> None:
    """InputError where nothing is said."""
    if not text.strip():
        raise InputError(f"--text {text!r}: expected what is said in the recording")


def _calibration(manifests: list[Path] | None, size: int, needed: bool, option: str) -> list[Any]:
    """Recordings of train splits that set the scales of an option, evenly chosen.

    Raises InputError when there are none and they are needed, or the other way round.
    """
    from ondevice.utterances import read_utterances

    if not needed:
        if manifests:
            raise InputError(f"--calibrate {manifests[0]}: only {option} has scales to set; expected both or neither")
        return []
    if not manifests:
        raise InputError(f"{option}: expected --calibrate MANIFEST with it: speech that sets the scales")
    chosen = []
    for manifest in manifests:
        every = [utterance for utterance in read_utterances([manifest], "train") if utterance.text]
        if not every:
            raise InputError(f"--calibrate {manifest}: no utterance with text; expected transcribed speech")
        chosen += every[:: max(1, len(every) // size)][:size]
    return chosen


def _wanted(
    quantize: str, max_size: str | None, target: str, output: Path, run: Path, for_edge_tpu: str | None = "int8-full"
) -> Any:  # fmt: skip
    """What is asked for, after everything an export needs is found to be there; see `Wanted.parse`."""
    from ondevice.checkout import require_checkout

    require_checkout("export")
    from export.writing import check_target
    from ondevice.assets import find_asset

    check_target(output, run if _is_training(run) else find_asset(run))
    from models.backend import start_backend

    start_backend()
    from export.precision import Wanted

    return Wanted.parse(quantize, max_size, target, for_edge_tpu)


def _tell(output: Path, report: dict[str, Any]) -> None:
    """One line for each precision of an asset's report."""
    for precision, rows in report["parity"].items():
        worst = max(rows, key=lambda row: row["relative_rms"])
        size = f"{report['bytes'][precision] / 1e6:7.2f} MB" if precision in report["bytes"] else " " * 10
        print(f"{precision:<15} {size}  largest relative RMS error {worst['relative_rms']:.2e} ({worst['tensor']})")
    print(f"{output}: written", file=sys.stderr)
