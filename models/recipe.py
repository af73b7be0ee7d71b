"""From corpora on disk to a trained recogniser: what `ondevice train rnnt` does, in the order it does it.

    corpora -> word pieces (pieces.model) -> cached features -> statistics (norm.json) -> training run -> final weights

Everything the next step or a later export needs lies in the output folder, so a run can be stopped at any point and
started again with the same command.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np

from models.batches import AugmentConfig, BatchMaker
from models.corpora import fingerprint, read_corpus
from models.feature_store import FeatureStore, Variant, write_store
from models.phones import Lexicon
from models.pieces import load_pieces, train_pieces
from models.rnnt import CELL_CLIP, PRESETS, Rnnt, RnntConfig
from models.rnnt_training import LossConfig, RnntTrainer
from models.train_rnnt import Run, TrainConfig
from models.warm_start import start_from
from ondevice.errors import InputError
from ondevice.features import LogMelConfig
from ondevice.manifest import PIECES_FILE, TranscribeManifest
from ondevice.manifest_base import MODEL_FILE

_log = logging.getLogger(__name__)
HUMAN_VARIANTS: tuple[Variant, ...] = ("plain", "speed:0.9", "speed:1.1", "room")
SYNTHETIC_VARIANTS: tuple[Variant, ...] = ("plain",)  # its speed, pitch and level are random already


@dataclass(frozen=True)
class DataConfig:
    """Which recordings and texts a recogniser learns from."""

    data: tuple[Path, ...]  # corpora with their own train and dev splits, in any layout `read_corpus` knows
    synthetic: tuple[Path, ...] = ()  # further training speech, used in part
    synthetic_share: float = 0.5  # how much of it an epoch uses
    noise: tuple[Path, ...] = ()  # recordings without speech, train split
    text: tuple[Path, ...] = ()  # further text for the word pieces, one sentence a line
    lexicon: Path | None = None  # CMUdict file; without it there is no loss on phones
    symbols: int = 256
    cache: Path = Path("cache")
    corpus_share: tuple[tuple[str, float], ...] = ()  # (corpus, factor): how often an epoch uses its utterances
    batch_seconds: float = 160.0
    jobs: int = 2


@dataclass(frozen=True)
class Trained:
    """What an export needs of a finished run."""

    rnnt: Rnnt
    pieces: Path
    mean: np.ndarray
    std: np.ndarray
    features: LogMelConfig
    phones: tuple[str, ...] = ()  # of the phone head, behind its blank


def cached_store(
    corpus: Path, split: str, variants: Sequence[Variant], config: DataConfig, say: Callable[[str], None]
) -> FeatureStore | None:
    """Features of one split of a corpus, computed now if they are not in the cache; None when the split is empty."""
    utterances = list(read_corpus(corpus, split))
    if not utterances:
        return None
    key = fingerprint(list(variants), asdict(LogMelConfig()), utterances=utterances)
    directory = config.cache / f"{corpus.stem if corpus.is_file() else corpus.name}-{split}-{key}"
    if not (directory / "index.jsonl").exists():
        say(f"{corpus}: features of {len(utterances)} utterances ({split})")

        def progress(done: int) -> None:
            if done % 1000 == 0:
                say(f"{corpus}: {done}/{len(utterances)}")

        write_store(directory, utterances, lambda _: variants, jobs=config.jobs, progress=progress)
    return FeatureStore(directory)


def _stores(
    paths: Sequence[Path], split: str, variants: Sequence[Variant], config: DataConfig, say: Callable[[str], None]
) -> list[FeatureStore]:
    found = (cached_store(path, split, variants, config, say) for path in paths)
    return [store for store in found if store is not None]


def _piece_text(human: Sequence[FeatureStore], texts: Sequence[Path]) -> Iterator[str]:
    """Transcripts, eight times so that they weigh as much as some of the text, and every second line of the text."""
    transcripts = sorted({u.text for store in human for u in store.utterances if u.text})
    for _ in range(8):
        yield from transcripts
    for path in texts:
        with path.open(encoding="utf-8") as file:
            yield from (line.strip() for number, line in enumerate(file) if number % 2 == 0)


def write_json(path: Path, value: object) -> None:
    """Write under a temporary name and rename."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def prepare(
    output: Path, data: DataConfig, train: TrainConfig, losses: LossConfig, *,
    precision: str = "float32", augment: AugmentConfig | None = None, start: TranscribeManifest | None = None,
    quantized: bool = False, say: Callable[[str], None] = print,
) -> Run:  # fmt: skip
    """Everything up to the first step: a `Run` in `output`, at its newest checkpoint if there is one.

    start: an exported recogniser whose weights, word pieces and statistics a new run begins with; quantized: train for
    8 bits everywhere.
    """
    if train.preset not in PRESETS:
        raise InputError(f"--preset {train.preset}: expected one of {', '.join(PRESETS)}")
    human = _stores(data.data, "train", HUMAN_VARIANTS, data, say)
    development = _stores(data.data, "dev", ("plain",), data, say)
    if not human or not development:
        missing = "train" if not human else "dev"
        raise InputError(f"--data: no utterances in the {missing} split; expected corpora with train and dev splits")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}; expected a folder") from None
    synthetic = _stores(data.synthetic, "train", SYNTHETIC_VARIANTS, data, say)
    noises = [
        np.array(s.features(u)) for s in _stores(data.noise, "train", ("plain",), data, say) for u in s.utterances
    ]

    pieces_path = output / PIECES_FILE
    if start and not (output / "checkpoint.npz").exists():
        _take_settings(start, output)
    if not pieces_path.exists():
        train_pieces(_piece_text(human, data.text), data.symbols, pieces_path)
    pieces = load_pieces(pieces_path)
    mean, std = _normalisation(output / "norm.json", human)
    lexicon = Lexicon(data.lexicon) if data.lexicon else None

    keras.utils.set_random_seed(train.seed)
    keras.config.set_dtype_policy(precision)
    width = human[0].config.stacked_width
    config = replace(PRESETS[train.preset], features=width, symbols=pieces.vocab_size(), phones=len(lexicon or ()))
    if quantized:
        config = replace(config, cell_clip=CELL_CLIP, quantized=True)
    _check_sizes(output, config)
    settings = {"rnnt": asdict(config), "train": asdict(train), "losses": asdict(losses)}
    write_json(output / "config.json", settings | {"phones": lexicon.phones if lexicon else []})
    common = {
        "encode": pieces.encode, "phones": lexicon or (lambda _: []), "mean": mean, "std": std, "seed": train.seed,
        "corpus_share": dict(data.corpus_share),
    }  # fmt: skip
    frames = int(data.batch_seconds * 100)
    maker = BatchMaker(
        [*human, *synthetic], [1.0] * len(human) + [data.synthetic_share] * len(synthetic), batch_frames=frames,
        max_frames=2400, multiple=losses.towers, noises=noises, config=augment or AugmentConfig(), **common,
    )  # fmt: skip
    watcher = BatchMaker(
        development, [1.0] * len(development), batch_frames=60_000, max_frames=4000, multiple=1, config=None, **common
    )
    rnnt = Rnnt(config)
    rnnt.build()  # a model that was only ever a part of the trainer cannot be saved alone
    trainer = RnntTrainer(rnnt, losses)
    run = Run(output, trainer, maker, watcher, pieces.decode, train)
    if run.restore():
        say(f"going on from step {run.step}")
    elif start:
        start_from(run, start.directory / MODEL_FILE, say)
    return run


def _check_sizes(output: Path, config: RnntConfig) -> None:
    """Raise InputError where a training has begun with a network of other sizes."""
    if not (output / "checkpoint.npz").exists():
        return
    begun = asdict(RnntConfig()) | json.loads((output / "config.json").read_text(encoding="utf-8"))["rnnt"]
    sizes = asdict(config).items()
    if other := [f"{name} {begun.get(name)}, not {value}" for name, value in sizes if begun.get(name) != value]:
        raise InputError(
            f"--output {output}: a training of other sizes ({', '.join(other)}); expected the same options"
        )


def _take_settings(start: TranscribeManifest, output: Path) -> None:
    """Word pieces and statistics of an exported recogniser, into a run's folder."""
    if PIECES_FILE not in start.files:
        raise InputError(f"{start.directory}: no {PIECES_FILE}; expected a recogniser that `ondevice export rnnt` made")
    mean, std = list(start.feature_mean), list(start.feature_std)
    write_json(output / "norm.json", {"mean": mean, "std": std, "features": asdict(start.features)})
    shutil.copyfile(start.directory / PIECES_FILE, output / PIECES_FILE)


def _normalisation(path: Path, stores: Sequence[FeatureStore]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per band of the training speech, computed once."""
    if not path.exists():
        mean, std = stores[int(np.argmax([len(s) for s in stores]))].statistics()
        write_json(path, {"mean": mean.tolist(), "std": std.tolist(), "features": asdict(stores[0].config)})
    saved = json.loads(path.read_text(encoding="utf-8"))
    return np.array(saved["mean"], np.float32), np.array(saved["std"], np.float32)


def write_final(run: Run) -> Path:
    """The averaged weights of the recogniser alone, as Keras writes them; returns the file."""
    path = run.directory / "rnnt.weights.h5"
    with run.averaged():
        run.trainer.rnnt.save_weights(path.with_name("part.weights.h5"))
    os.replace(path.with_name("part.weights.h5"), path)
    return path


def load_trained(output: Path) -> Trained:
    """The recogniser of a finished (or stopped) run in `output`."""
    for name in ("config.json", "rnnt.weights.h5", PIECES_FILE, "norm.json"):
        if not (output / name).exists():
            raise InputError(f"{output}: {name} is missing; expected the output folder of `ondevice train rnnt`")
    try:
        settings = json.loads((output / "config.json").read_text(encoding="utf-8"))
        norm = json.loads((output / "norm.json").read_text(encoding="utf-8"))
        rnnt = Rnnt(RnntConfig(**settings["rnnt"]))
        rnnt.build()
        rnnt.load_weights(output / "rnnt.weights.h5")
        return Trained(
            rnnt, output / PIECES_FILE, np.array(norm["mean"], np.float32), np.array(norm["std"], np.float32),
            LogMelConfig(**norm["features"]), tuple(settings.get("phones", ())),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{output}: {reason}; expected the output folder of `ondevice train rnnt`") from None


def plot_curves(output: Path) -> Path:
    """Loss and word error rate over the steps as a picture, from log.jsonl; returns the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(8, 8), sharex=True)
    train_rows = [r for r in rows if r["kind"] == "train"]
    dev_rows = [r for r in rows if r["kind"] == "dev"]
    for name in ("transducer", "ctc", "phone_ctc"):
        known = [r for r in train_rows if name in r]
        top.plot([r["step"] for r in known], [r[name] for r in known], label=name)
    top.set(ylabel="loss per label", yscale="log")
    for name in sorted({k for r in dev_rows for k in r} - {"kind", "step", "epoch"}):
        if ":" not in name:
            bottom.plot([r["step"] for r in dev_rows], [r.get(name) for r in dev_rows], label=name)
    bottom.set(ylabel="greedy word error rate (dev)", xlabel="step", ylim=(0, 1.05))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        if axes.lines:  # nothing is measured on dev yet in a run that was stopped early
            axes.legend()
    path = output / "curves.png"
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
