"""The training recipe of the speech generator: what `ondevice train tacotron` does, in the order it does it.

    corpora -> cached waveforms -> symbols -> mel statistics (norm.json) -> run -> tacotron.weights.h5, curves, pictures

A voice of an hour learns to read from a synthetic voice first (`start`: weights of an earlier run, or an exported
voice). Distances alone leave spectra smooth; a last stage goes on against a discriminator (`adversarial`).
"""

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from models.discriminators import MelDiscriminator
from models.progress import Progress
from models.prosody_features import SymbolProsody
from models.recipe import write_json
from models.speaking import Speaker, plot_spoken
from models.speech_store import SpeechStore, cached_speech
from models.step_run import StepConfig, StepRun, mean_logs, plot_log, warm_judge
from models.style import StyleConfig
from models.tacotron import PRESETS, Tacotron, TacotronConfig
from models.tacotron_data import TacotronBatches
from models.tacotron_training import TacotronLossConfig, TacotronTrainer
from models.vocoder_data import MelStatistics
from models.voice_start import spread, take_voice
from ondevice.errors import InputError
from ondevice.speech_features import SPEECH_MEL
from ondevice.transfer import ProsodyScale
from ondevice.voice_manifest import VoiceManifest

DEV_SENTENCES = 48
SETTLING_BATCHES = 40
NEUTRAL_SENTENCES = 200  # whose mean style is the neutral one
PICTURES = 3
SPREAD_BATCHES = 6  # of an exported voice's training
JUDGE_STEPS = 200  # of a discriminator that meets a voice which speaks well already


@dataclass(frozen=True)
class VoiceData:
    """Which recordings a voice learns from."""

    data: tuple[Path, ...]  # corpora with train and dev splits
    extra: tuple[Path, ...] = ()  # further training speech: synthetic voices, prosody-changed copies
    extra_share: float = 1.0  # how often they are drawn, the voice itself being 1
    cache: Path = Path("cache")
    batch_frames: int = 12_000
    norm: Path | None = None  # statistics of an earlier run, which its weights expect
    prosody: Path | None = None  # measurements by `models.prosody_features`; without them none is learnt


def prepare(
    output: Path, data: VoiceData, config: StepConfig, encode: Callable[[str], Sequence[int]], *,
    symbols: int, start: Path | VoiceManifest | None = None, precision: str = "float32",
    losses: TacotronLossConfig | None = None, adversarial: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> StepRun:  # fmt: skip
    """Everything up to the first step: a run in `output`, at its newest checkpoint if there is one.

    start: weights of an earlier run, or an exported voice whose weights and statistics a new run begins with.
    """
    if config.preset not in PRESETS:
        raise InputError(f"--preset {config.preset}: expected one of {', '.join(PRESETS)}")
    output.mkdir(parents=True, exist_ok=True)
    voice = _stores(data.data, "train", data.cache)
    development = _stores(data.data, "dev", data.cache)
    extra = _stores(data.extra, "train", data.cache) if data.extra else []
    if data.norm and not (output / "norm.json").exists():
        try:
            (output / "norm.json").write_bytes(data.norm.read_bytes())
        except OSError as error:
            raise InputError(f"--start: {data.norm}: {error.strerror}; expected the folder of a run") from None
    resumed = (output / "checkpoint.npz").exists()
    if isinstance(start, VoiceManifest) and not resumed:
        _take_settings(start, output)
    statistics = MelStatistics.of(voice, output / "norm.json", SPEECH_MEL)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(precision)
    sizes = PRESETS[config.preset]
    if symbols > sizes.symbols:
        raise InputError(f"{symbols} symbols: preset {config.preset} has room for {sizes.symbols}")
    tacotron = Tacotron(sizes)
    tacotron.build()
    if isinstance(start, Path):
        try:
            tacotron.load_weights(start)
        except (OSError, ValueError) as error:
            raise InputError(f"--start: {error}; expected the folder of a finished run of the same preset") from None
    batches = TacotronBatches(
        [*voice, *extra], encode, statistics, [1.0] * len(voice) + [data.extra_share] * len(extra),
        batch_frames=data.batch_frames, block=max(sizes.style.block, sizes.reduction), seed=config.seed,
        prosody=_prosody(data.prosody, output),
    )  # fmt: skip
    if isinstance(start, VoiceManifest) and not resumed:
        take_voice(tacotron, start.model_path)
        spread(tacotron, [batches.batch(step) for step in range(SPREAD_BATCHES)])
    watched = TacotronBatches(development, encode, statistics, block=batches.block, batch_frames=data.batch_frames)
    judge = MelDiscriminator() if adversarial else None
    if judge is not None:
        judge.build()
    trainer = TacotronTrainer(tacotron, losses, judge)
    run = StepRun(output, trainer, batches, config, _evaluator(trainer, watched, output))
    write_json(
        output / "config.json", {"tacotron": asdict(sizes), "train": asdict(config), "losses": asdict(trainer.config)}
    )
    if not run.restore() and isinstance(start, VoiceManifest) and judge is not None:
        say(f"the discriminator learns for {JUDGE_STEPS} steps, the voice held")
        warm_judge(run, tacotron, JUDGE_STEPS)
    return run


def _take_settings(start: VoiceManifest, output: Path) -> None:
    """What the weights of an exported voice expect: scale of the spectra, and of prosody if it knows any."""
    mean, std = start.mean_and_std
    write_json(output / "norm.json", {"mean": mean.tolist(), "std": std.tolist()})
    if start.prosody_mean and start.prosody_std:
        write_json(output / "prosody.json", {"mean": list(start.prosody_mean), "std": list(start.prosody_std)})


def _prosody(path: Path | None, output: Path) -> Callable[[str], np.ndarray | None]:
    """Measurements by utterance; their scale goes into the run's folder, for the export."""
    if path is None:
        return lambda _: None
    known = SymbolProsody.load(path)
    write_json(output / "prosody.json", {"mean": known.scale.mean.tolist(), "std": known.scale.std.tolist()})
    return known.rows.get


def _stores(corpora: Sequence[Path], split: str, cache: Path) -> list[SpeechStore]:
    stores = [store for path in corpora if (store := cached_speech(path, split, cache)) is not None]
    if not stores:
        raise InputError(f"--data: no utterances in the {split} split; expected corpora with train and dev splits")
    return stores


def _evaluator(trainer: TacotronTrainer, batches: TacotronBatches, output: Path) -> Callable[[], dict[str, float]]:
    """Losses on the development sentences, and pictures of some said freely; `ended` is the share that stopped."""
    chosen = batches.items[:: max(1, len(batches.items) // DEV_SENTENCES)]
    parts = [batches.arrays(chosen[i : i + 16]) for i in range(0, len(chosen), 16)]
    heard = [chosen[i] for i in np.linspace(0, len(chosen) - 1, PICTURES).astype(int)]
    speaker = Speaker(trainer.tacotron)

    def evaluate() -> dict[str, float]:
        logs = mean_logs([trainer.test_on_batch(part, return_dict=True) for part in parts])
        spoken = [speaker.say(np.array(i.symbols, np.int32), speaker.style_of(batches.mel(i))) for i in heard]
        plot_spoken(output / "spoken.png", spoken, [i.utterance.text for i in heard])
        return {
            **{name: float(value) for name, value in logs.items()},
            "ended": float(np.mean([s.ended for s in spoken])),
            "length": float(np.mean([len(s.mel) / len(batches.mel(i)) for s, i in zip(spoken, heard, strict=True)])),
            "free_focus": float(np.mean([s.alignment.max(axis=1).mean() for s in spoken])),
        }

    return evaluate


def train(run: StepRun, stop_after_s: float = float("inf")) -> Path:
    """Train to the end or a signal; returns the file of the averaged weights."""

    def stop(*_: object) -> None:
        run.stop = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with Progress(run.config.steps) as progress:
        run.train(progress, stop_after_s)
    path, part = run.directory / "tacotron.weights.h5", run.directory / "part.weights.h5"
    with run.averaged():
        settle_statistics(run)
        run.trainer.tacotron.save_weights(part)
        neutral, reach = neutral_style(run)
    os.replace(part, path)
    write_json(run.directory / "neutral.json", {"style": neutral.tolist(), "reach": reach})
    plot_log(run.directory, ("before", "refined", "stop", "guide"))
    return path


def settle_statistics(run: StepRun) -> None:
    """Let batch normalisation find the statistics that belong to the averaged weights."""
    for step in range(SETTLING_BATCHES):
        run.trainer(run.batches.batch(step), training=True)


def neutral_style(run: StepRun) -> tuple[np.ndarray, float]:
    """The mean style [S] of the voice's own recordings, how it speaks when nothing is asked for, and its reach.

    The reach is twice the recordings' RMS distance from that mean: what a style token does at weight 1, about as far as
    anything said in training. A token alone lies far beyond, for attention never was on a single one.
    """
    batches: TacotronBatches = run.batches
    own = [item for item in batches.items if item.store is batches.stores[0]]
    speaker = Speaker(run.trainer.tacotron)
    chosen = own[:: max(1, len(own) // NEUTRAL_SENTENCES)]
    styles = np.array([speaker.style_of(batches.mel(item))[0] for item in chosen])
    neutral = styles.mean(axis=0)
    return neutral, 2 * float(np.sqrt(((styles - neutral) ** 2).sum(axis=1).mean()))


def load_tacotron(directory: Path) -> Tacotron:
    """The trained network of a finished run. Raises InputError when the folder holds none."""
    try:
        values = json.loads((directory / "config.json").read_text(encoding="utf-8"))["tacotron"]
        style = {**values.pop("style")}
        style["filters"] = tuple(style["filters"])
        tacotron = Tacotron(TacotronConfig(**values, style=StyleConfig(**style)))
        tacotron.build()
        tacotron.load_weights(directory / "tacotron.weights.h5")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{directory}: {reason}; expected the folder of a finished voice run") from None
    return tacotron


def load_scale(directory: Path) -> ProsodyScale | None:
    """The scale of the prosody a run learnt with; None: it learnt without."""
    path = directory / "prosody.json"
    if not path.exists():
        return None
    saved = json.loads(path.read_text(encoding="utf-8"))
    return ProsodyScale(*(np.array(saved[name], np.float32) for name in ("mean", "std")))
