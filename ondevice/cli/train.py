"""`ondevice train`: the recipes of `models/`, from a checkout."""

import enum
import logging
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ondevice.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Train a model from recordings and text (needs a checkout).")


@app.callback()
def train() -> None:
    """Train a model from recordings and text (needs a checkout)."""
    from ondevice.checkout import require_checkout

    require_checkout("train")


Everyday = Annotated[Path | None, typer.Option(exists=True, help="TSV with columns split and en: everyday sentences.")]
Paths = Annotated[
    list[Path],
    typer.Option(
        "--data",
        help="Corpus with train and dev splits: JSONL manifest, LibriSpeech, LJSpeech, Common Voice or Kaldi folder. "
        "Repeatable.",
    ),
]
HeldOut = Annotated[
    list[Path], typer.Option(help="Manifest whose dev and test sentences must not be used. Repeatable.")
]


class Unit(enum.StrEnum):
    """What a language model counts."""

    WORDS = "words"
    PIECES = "pieces"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _shares(options: Iterable[str]) -> tuple[tuple[str, float], ...]:
    shares = []
    for option in options:
        corpus, _, factor = option.partition("=")
        try:
            shares.append((corpus, float(factor)))
        except ValueError:
            raise InputError(f"--share {option}: expected CORPUS=FACTOR such as digits=0.4") from None
    return tuple(shares)


@app.command("rnnt")
def rnnt(
    data: Paths,
    output: Annotated[Path, typer.Option(help="Folder of the run: checkpoints, logs, curves, final weights.")],
    synthetic: Annotated[list[Path] | None, typer.Option(help="Synthetic speech, used in part. Repeatable.")] = None,
    synthetic_share: Annotated[float, typer.Option(min=0, help="How much of it an epoch uses.")] = 0.5,
    share: Annotated[
        list[str] | None, typer.Option(help="CORPUS=FACTOR: how often an epoch uses a corpus. Repeatable.")
    ] = None,
    noise: Annotated[list[Path] | None, typer.Option(help="Corpus of noises to mix in. Repeatable.")] = None,
    text: Annotated[
        list[Path] | None, typer.Option(exists=True, help="Sentences, one a line, for the word pieces.")
    ] = None,
    lexicon: Annotated[
        Path | None, typer.Option(exists=True, help="CMUdict file, for the auxiliary loss on phones.")
    ] = None,
    preset: Annotated[str, typer.Option(help="tiny, small or mobile-80mb.")] = "small",
    symbols: Annotated[int, typer.Option(min=32, help="Number of word pieces.")] = 256,
    start: Annotated[
        str | None, typer.Option(help="Shipped recogniser, by name or folder, to begin with instead of from nothing.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps in all.")] = 20_000,
    cooldown: Annotated[int, typer.Option(min=1, help="Steps over which the rate falls at the end.")] = 3_000,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    batch_seconds: Annotated[float, typer.Option(min=1, help="Seconds of audio in a batch, padding included.")] = 160.0,
    towers: Annotated[int, typer.Option(min=1, help="Parts of a batch computed side by side, one per core.")] = 2,
    precision: Annotated[str, typer.Option(help="float32 or mixed_bfloat16.")] = "float32",
    token_dropout: Annotated[float, typer.Option(min=0, max=0.9, help="Labels hidden from the predictor.")] = 0.0,
    ctc: Annotated[float, typer.Option(min=0, help="Weight of the auxiliary CTC loss on word pieces.")] = 0.3,
    phone_ctc: Annotated[float, typer.Option(min=0, help="Weight of the auxiliary CTC loss on phones.")] = 0.3,
    quantization_aware: Annotated[
        bool, typer.Option("--quantization-aware", help="Train for `export rnnt --quantize int8-full`, after --start.")
    ] = False,
    evaluate_steps: Annotated[int, typer.Option(min=1, help="Steps between measurements on the dev split.")] = 500,
    cache: Annotated[Path, typer.Option(help="Folder for cached features.")] = Path("cache"),
    jobs: Annotated[int, typer.Option(min=1, help="Processes that compute features.")] = 2,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in --output.")] = True,
    stop_after: Annotated[float | None, typer.Option(help="Stop cleanly after so many minutes.")] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
) -> None:
    """Train the streaming recogniser (RNN-T). Interrupted? The same command goes on where it stopped."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    if precision not in ("float32", "mixed_bfloat16"):
        raise InputError(f"--precision {precision}: expected float32 or mixed_bfloat16")
    if cooldown > steps:
        raise InputError(f"--cooldown {cooldown}: expected at most --steps ({steps})")
    if (output / "checkpoint.npz").exists() and not resume:
        raise InputError(f"--output {output}: holds a run already; give an empty folder, or --resume to go on")
    from models.backend import start_backend

    start_backend(towers)
    from models import recipe
    from models.batches import AugmentConfig
    from models.rnnt_training import LossConfig
    from models.train_rnnt import TrainConfig
    from ondevice.assets import find_asset, load_manifest
    from ondevice.manifest import TranscribeManifest

    run = recipe.prepare(
        output,
        recipe.DataConfig(
            tuple(data), tuple(synthetic or ()), synthetic_share, tuple(noise or ()), tuple(text or ()), lexicon,
            symbols, cache, corpus_share=_shares(share or ()), batch_seconds=batch_seconds, jobs=jobs,
        ),
        TrainConfig(preset, steps, rate, cooldown_steps=cooldown, evaluate_steps=evaluate_steps, seed=seed),
        LossConfig(ctc=ctc, phone_ctc=phone_ctc, towers=towers),
        precision=precision,
        augment=AugmentConfig(token_dropout=token_dropout, ramp_epochs=0 if start else AugmentConfig.ramp_epochs),
        start=load_manifest(find_asset(start), kind=TranscribeManifest) if start else None,
        quantized=quantization_aware,
        say=_say,
    )  # fmt: skip
    from models.progress import Progress

    def stop(*_: object) -> None:
        run.stop = True
        _say("stopping after this step; the same command goes on from here")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with Progress(steps) as progress:
        run.train(progress, stop_after_s=stop_after * 60 if stop_after else float("inf"))
    weights = recipe.write_final(run)
    picture = recipe.plot_curves(output)
    _say(f"{run.step} steps done; weights in {weights}, curves in {picture}")


@app.command("synth")
def synth(
    books: Annotated[Path, typer.Option(exists=True, help="Book text, plain or .xz, to read from.")],
    output: Annotated[Path, typer.Option(help="Folder for the corpus (tar shards and manifest.jsonl).")],
    held_out: HeldOut,
    everyday: Everyday = None,
    lexicon: Annotated[
        Path | None, typer.Option(exists=True, help="CMUdict file; sentences with other words are left out.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="Hours of speech in all.")] = 10.0,
    voice: Annotated[
        list[str] | None, typer.Option(help="Only these voices, such as flite-slt. Repeatable; default: all there are.")
    ] = None,
    shard_minutes: Annotated[float, typer.Option(min=0.1, help="Minutes in one tar file.")] = 30.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same corpus.")] = 0,
) -> None:  # fmt: skip
    """Have espeak-ng, flite and festival read books: training speech in hundreds of voices."""
    from models.prompts import PromptMixer, load_sources
    from models.synthesis import installed_voices, write_corpus
    from models.text import held_out_filter

    voices = installed_voices()
    if voice:
        there = {v.speaker: v for v in voices}
        if missing := sorted(set(voice) - set(there)):
            raise InputError(f"--voice {missing[0]}: not installed; expected one of {', '.join(list(there)[:12])}, ...")
        voices = tuple(there[name] for name in voice)

    filter_ = held_out_filter(held_out)
    mixer = PromptMixer(load_sources(books, everyday, lexicon, filter_), filter_)
    for done in write_corpus(output, mixer, hours, seed=seed, shard_minutes=shard_minutes, voices=voices):
        _say(f"{done:.2f} of {hours:.2f} hours")


@app.command("text")
def text_command(
    books: Annotated[Path, typer.Option(exists=True, help="Book text, plain or .xz.")],
    output: Annotated[Path, typer.Option(help="File to write: one normalised sentence a line.")],
    held_out: HeldOut,
) -> None:  # fmt: skip
    """Clean book text into training sentences, without any that the dev and test splits contain."""
    from models.text import clean_books, held_out_filter
    from ondevice.files import atomic_file

    held = held_out_filter(held_out)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(output) as file:
        file.writelines(line + "\n" for line in clean_books(books, held))


@app.command("lm")
def lm(
    pieces: Annotated[Path, typer.Option(exists=True, help="SentencePiece model of the recogniser: its pieces.model.")],
    text: Annotated[list[Path], typer.Option(exists=True, help="Normalised sentences, one a line. Repeatable.")],
    output: Annotated[Path, typer.Option(help="File to write (.npz).")],
    everyday: Everyday = None,
    transcripts: Annotated[
        list[Path] | None, typer.Option(help="Manifest whose train transcripts are added. Repeatable.")
    ] = None,
    weight: Annotated[int, typer.Option(min=1, help="How many times the transcripts count.")] = 3,
    unit: Annotated[Unit, typer.Option(help="What it counts; it scores pieces either way.")] = Unit.WORDS,
    order: Annotated[int, typer.Option(min=1, max=8, help="Length of the longest n-grams.")] = 3,
    min_gain: Annotated[float, typer.Option(min=0, help="Leave out n-grams that gain less: makes it small.")] = 0.0,
) -> None:  # fmt: skip
    """Estimate the n-gram language model that the recogniser's beam search fuses (Kneser-Ney)."""
    from models.ngram import estimate, perplexity
    from models.pieces import load_pieces
    from models.prompts import everyday_sentences
    from models.text import held_out_filter, read_lines, training_transcripts
    from models.words import estimate_words
    from ondevice.tokens import Pieces

    processor = load_pieces(pieces)
    heard = list(training_transcripts(transcripts or ()))

    def sentences() -> Iterator[str]:
        for _ in range(weight):
            yield from heard
        for path in text:
            yield from read_lines(path)
        if everyday:
            held_out = held_out_filter(transcripts or ())
            fresh = dict.fromkeys(norm for _, norm in everyday_sentences(everyday))
            yield from (norm for norm in fresh if not held_out.overlaps(norm))

    thin: dict[str, Any] = {"min_counts": (1, 1, 2), "min_gain": min_gain}
    if unit is Unit.WORDS:
        inventory = Pieces([processor.id_to_piece(i) for i in range(processor.vocab_size())])
        model = estimate_words(sentences(), inventory, processor.encode, order=order, **thin)
        size = f"{len(model.known_words)} words, {model.ngrams.ngrams} n-grams"
    else:
        model = estimate(map(processor.encode, sentences()), processor.vocab_size(), order, **thin)
        size = f"{model.ngrams} n-grams"
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(output.name + ".part")
    try:
        model.save(temporary)
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    _say(f"{output}: {size}, {output.stat().st_size / 1e6:.1f} MB")
    if transcripts:
        held = [processor.encode(line) for line in training_transcripts(transcripts, "dev")]
        _say(f"perplexity per piece on the dev transcripts: {perplexity(model, held):.2f}")


@app.command("vad")
def vad(
    model: Annotated[str, typer.Argument(help="Name or directory of an exported recogniser.")],
    data: Paths,
    noise: Annotated[list[Path], typer.Option(help="Corpus of sounds that are no speech, likewise. Repeatable.")],
    output: Annotated[Path, typer.Option(help="File to write (.npz).")],
    limit: Annotated[int, typer.Option(min=1, help="Recordings of speech used of each corpus and split.")] = 300,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
) -> None:
    """Train what tells speech from noise, on the encoder of an exported recogniser."""
    from models.vad import VadData, train_detector
    from ondevice.recognizer import Recognizer, RecognizerConfig

    output.parent.mkdir(parents=True, exist_ok=True)
    recognizer = Recognizer.load(model, RecognizerConfig(vad=False))
    train_detector(recognizer, VadData(tuple(data), tuple(noise), limit, seed=seed), _say).save(output)
    _say(f"{output}: written")
