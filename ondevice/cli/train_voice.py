"""`ondevice train tacotron | vocoder | copies`: the speech generator's parts, from a checkout."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ondevice.errors import InputError

Data = Annotated[list[Path], typer.Option(help="Corpus with train and dev splits: manifest or folder. Repeatable.")]
Output = Annotated[Path, typer.Option(help="Folder of the run: checkpoints, logs, curves, final weights.")]
Cache = Annotated[Path, typer.Option(help="Folder for decoded waveforms.")]
Steps = Annotated[int, typer.Option(min=1, help="Training steps in all.")]
Cooldown = Annotated[int, typer.Option(min=1, help="Steps over which the rate falls at the end.")]
Rate = Annotated[float, typer.Option(help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(min=1, help="Segments in a batch.")]
Frames = Annotated[int, typer.Option(min=24, help="Frames of 10.7 ms in a segment.")]
EvaluateSteps = Annotated[int, typer.Option(min=1, help="Steps between looks at the dev split.")]
Precision = Annotated[str, typer.Option(help="float32 or mixed_bfloat16.")]
StopAfter = Annotated[float | None, typer.Option(help="Stop cleanly after so many minutes.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]


def tacotron(
    data: Data,
    output: Output,
    pronunciation: Annotated[Path, typer.Option(help="File of `ondevice train lexicon`.")],
    extra: Annotated[
        list[Path] | None, typer.Option(help="Further training speech: a synthetic voice, copies. Repeatable.")
    ] = None,
    extra_share: Annotated[float, typer.Option(min=0, help="How often it is drawn; the voice itself is 1.")] = 1.0,
    prosody: Annotated[Path | None, typer.Option(help="File of `ondevice train prosody`.")] = None,
    start: Annotated[
        str | None, typer.Option(help="Run, or exported voice by name or folder, to begin with the weights of.")
    ] = None,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="Train with a discriminator, after --start.")
    ] = False,
    preset: Annotated[str, typer.Option(help="tiny, small or paper.")] = "small",
    steps: Steps = 20_000,
    cooldown: Cooldown = 5_000,
    rate: Rate = 1e-3,
    batch_seconds: Annotated[float, typer.Option(min=1, help="Seconds of audio in a batch, padding included.")] = 53.0,
    precision: Precision = "float32",
    evaluate_steps: EvaluateSteps = 500,
    cache: Cache = Path("cache"),
    stop_after: StopAfter = None,
    seed: Seed = 0,
) -> None:
    """Train a voice (Tacotron 2 with style tokens). Interrupted? The same command goes on where it stopped."""
    _start(precision, steps, cooldown)
    from models import train_tacotron as recipe
    from models.step_run import StepConfig
    from ondevice.phonemes import SYMBOLS
    from ondevice.pronounce import Pronouncer
    from ondevice.speech_features import SPEECH_HOP_SAMPLES, SPEECH_RATE_HZ
    from ondevice.voice_manifest import VoiceManifest

    frames = round(batch_seconds * SPEECH_RATE_HZ / SPEECH_HOP_SAMPLES)
    weights, norm = _begin(start, "tacotron", VoiceManifest)
    run = recipe.prepare(
        output,
        recipe.VoiceData(tuple(data), tuple(extra or ()), extra_share, cache, frames, norm, prosody),
        StepConfig(
            preset=preset, steps=steps, peak_rate=rate, cooldown_steps=cooldown, weight_decay=1e-6, clip_norm=1.0,
            evaluate_steps=evaluate_steps, seed=seed, beta_1=0.8 if adversarial else 0.9,
        ),
        Pronouncer(pronunciation).encode,
        symbols=len(SYMBOLS),
        precision=precision,
        start=weights,
        adversarial=adversarial,
        say=_say,
    )  # fmt: skip
    if run.step:
        _say(f"going on from step {run.step}")
    final = recipe.train(run, stop_after * 60 if stop_after else float("inf"))
    _say(f"{run.step} steps done; weights in {final}, curves and pictures beside them")


def _begin(start: str | None, model: str, kind: type) -> tuple[Any, Path | None]:
    """What --start names: weights of a run of a model and its statistics, or the manifest of an exported one."""
    from ondevice.assets import find_asset, load_manifest
    from ondevice.manifest_base import MANIFEST

    if start is None:
        return None, None
    weights = Path(start, f"{model}.weights.h5")
    if weights.exists():
        return weights, Path(start, "norm.json")
    if Path(start).is_dir() and not Path(start, MANIFEST).exists():
        raise InputError(
            f"--start {start}: neither {weights.name} nor {MANIFEST} in it; expected the folder of a run or of an "
            f"exported {'voice' if model == 'tacotron' else model}"
        )
    return load_manifest(find_asset(start), kind=kind), None


def vocoder(
    data: Data,
    output: Output,
    start: Annotated[
        str | None, typer.Option(help="Run, or exported vocoder by name or folder, to begin with the weights of.")
    ] = None,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="Train with discriminators, after --start.")
    ] = False,
    voice: Annotated[
        str | None, typer.Option(help="Exported voice: learn from its spectra of the recordings, too.")
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny or small.")] = "small",
    steps: Steps = 60_000,
    cooldown: Cooldown = 10_000,
    rate: Rate = 1e-3,
    batch: Batch = 8,
    frames: Frames = 112,
    precision: Precision = "float32",
    evaluate_steps: EvaluateSteps = 1_000,
    cache: Cache = Path("cache"),
    stop_after: StopAfter = None,
    seed: Seed = 0,
) -> None:
    """Train the streaming vocoder. Interrupted? The same command goes on where it stopped."""
    _start(precision, steps, cooldown)
    from models.train_vocoder import VocoderOptions, train
    from ondevice.assets import find_asset, load_manifest
    from ondevice.voice_manifest import VocoderManifest, VoiceManifest

    weights, _ = _begin(start, "vocoder", VocoderManifest)
    options = VocoderOptions(
        tuple(data), output, cache, "vocoder", preset, steps, cooldown, rate, batch, frames, precision, weights,
        adversarial, load_manifest(find_asset(voice), kind=VoiceManifest) if voice else None, evaluate_steps, seed,
    )  # fmt: skip
    _say(f"weights in {train(options, stop_after * 60 if stop_after else float('inf'))}")


def wavenet(
    data: Data,
    output: Output,
    preset: Annotated[str, typer.Option(help="tiny, small or paper.")] = "small",
    steps: Steps = 60_000,
    cooldown: Cooldown = 10_000,
    rate: Rate = 1e-3,
    batch: Batch = 8,
    frames: Frames = 112,
    precision: Precision = "float32",
    evaluate_steps: EvaluateSteps = 1_000,
    cache: Cache = Path("cache"),
    stop_after: StopAfter = None,
    seed: Seed = 0,
) -> None:
    """Train a WaveNet vocoder. Interrupted? The same command goes on where it stopped."""
    _start(precision, steps, cooldown)
    from models.train_vocoder import VocoderOptions, train

    options = VocoderOptions(
        tuple(data), output, cache, "wavenet", preset, steps, cooldown, rate, batch, frames, precision,
        evaluate=evaluate_steps, seed=seed,
    )  # fmt: skip
    _say(f"weights in {train(options, stop_after * 60 if stop_after else float('inf'))}")


def lexicon(
    dictionary: Annotated[Path, typer.Argument(help="CMUdict file, gzipped or not.")],
    licence: Annotated[Path, typer.Option(help="File with its licence, which goes along.")],
    output: Annotated[Path, typer.Option(help="File to write (.npz).")],
    compare: Annotated[bool, typer.Option("--compare", help="Measure other orders and prunings too.")] = False,
) -> None:
    """Build a voice's pronunciation file: the dictionary, and a letter-to-sound model trained on it."""
    from models.lexicon import build

    try:
        terms = licence.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--licence {licence}: {error}; expected a text file") from None
    output.parent.mkdir(parents=True, exist_ok=True)
    build(dictionary, terms, output, compare=compare)


def prosody(
    voice: Annotated[Path, typer.Argument(help="Exported voice that aligns the recordings.")],
    data: Data,
    output: Annotated[Path, typer.Option(help="File to write (.npz).")],
    extra: Annotated[list[Path] | None, typer.Option(help="Further training speech. Repeatable.")] = None,
    cache: Cache = Path("cache"),
) -> None:
    """Measure melody, loudness and length of every symbol of training speech, for a voice that copies them."""
    from models.prosody_features import measure_stores
    from models.speech_store import cached_speech
    from ondevice.acoustic import AcousticModel
    from ondevice.assets import load_manifest
    from ondevice.opening import open_model
    from ondevice.pronounce import Pronouncer
    from ondevice.voice_manifest import VoiceManifest

    manifest = load_manifest(voice, kind=VoiceManifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    acoustic = AcousticModel(manifest, open_model(manifest).signatures)
    encode = Pronouncer(manifest.pronunciation_path, manifest.symbols).encode
    stores = [s for path in [*data, *(extra or ())] if (s := cached_speech(path, "train", cache, say=_say)) is not None]

    def progress(done: int) -> None:
        if done % 500 == 0:
            _say(f"{done} utterances measured")

    measure_stores(acoustic, stores, encode, progress).save(output)
    _say(f"{output}: written")


def copies(
    corpus: Annotated[Path, typer.Argument(help="Corpus whose train split is copied.")],
    output: Annotated[Path, typer.Option(help="Folder for the copies (tar shards and manifest.jsonl).")],
    count: Annotated[int, typer.Option(min=1, help="Copies of each recording.")] = 2,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that make them.")] = 2,
    seed: Seed = 0,
) -> None:
    """Copy recordings with another pitch, range, rate, loudness and effort, for style tokens to learn from."""
    from models.copies import write_copies

    for done in write_copies(corpus, output, count, seed, jobs):
        _say(f"{done} recordings copied")


def _start(precision: str, steps: int, cooldown: int) -> None:
    """Check what every run has, and start the backend."""
    if precision not in ("float32", "mixed_bfloat16"):
        raise InputError(f"--precision {precision}: expected float32 or mixed_bfloat16")
    if cooldown > steps:
        raise InputError(f"--cooldown {cooldown}: expected at most --steps ({steps})")
    from models.backend import start_backend

    start_backend()


def _say(line: str) -> None:
    print(line, file=sys.stderr)
