"""The training recipe of the vocoders: what `ondevice train vocoder` and `ondevice train wavenet` do.

    corpora -> cached waveforms -> mel statistics (norm.json) -> run -> <model>.weights.h5, curves.png, spoken/*.wav

The default vocoder learns from spectral losses alone in stage one; stage two goes on from its weights (`start`) with
discriminators (`adversarial`), perhaps on spectra that a voice made, too (`voice`). A WaveNet learns the likelihood of
samples. A run stopped at any point goes on with the same options.
"""

import hashlib
import json
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np

from models.discriminators import Discriminators
from models.led_spectra import LedSpectra
from models.progress import Progress
from models.recipe import write_json
from models.speech_store import SpeechStore, cached_speech
from models.step_run import StepConfig, StepRun, mean_logs, plot_log, warm_judge
from models.vocoder import PRESETS, Vocoder, VocoderConfig
from models.vocoder_data import MelStatistics, SegmentBatches
from models.vocoder_start import take_vocoder
from models.vocoder_training import VocoderTrainer
from models.wavenet import PRESETS as WAVENET_PRESETS
from models.wavenet import Wavenet, WavenetConfig
from models.wavenet_training import WavenetTrainer
from ondevice.acoustic import AcousticModel
from ondevice.errors import InputError
from ondevice.manifest_base import MODEL_FILE, Manifest
from ondevice.opening import open_model
from ondevice.pronounce import Pronouncer
from ondevice.speech_features import SPEECH_MEL, speech_mel
from ondevice.voice_manifest import VocoderManifest, VoiceManifest

DEV_BATCHES = 6
JUDGE_STEPS = 300  # a discriminator that begins with a vocoder that speaks well already learns alone for so long
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VocoderOptions:
    """What is trained, on what, and for how long."""

    data: tuple[Path, ...]  # corpora with train and dev splits
    output: Path
    cache: Path | None = None  # of decoded waveforms; None: in the output folder
    model: str = "vocoder"  # or wavenet
    preset: str = "small"  # or paper, of wavenet
    steps: int = 60_000
    cooldown: int | None = None  # steps over which the rate falls; None: a quarter
    rate: float = 1e-3
    batch: int = 8  # segments
    frames: int = 112  # of 10.7 ms in a segment
    precision: str = "float32"
    start: Path | VocoderManifest | None = None  # weights of an earlier stage, or an exported vocoder
    adversarial: bool = False
    voice: VoiceManifest | None = None  # an exported voice, whose spectra of the recordings are half of what is learnt
    evaluate: int = 1_000  # steps between evaluations
    seed: int = 0

    def __post_init__(self) -> None:
        presets = {"vocoder": PRESETS, "wavenet": WAVENET_PRESETS}.get(self.model)
        if presets is None:
            raise InputError(f"--model {self.model}: expected vocoder or wavenet")
        if self.preset not in presets:
            raise InputError(f"--preset {self.preset}: expected one of {', '.join(presets)} for a {self.model}")
        if self.model != "vocoder" and (self.adversarial or self.voice):
            raise InputError(f"--{'adversarial' if self.adversarial else 'voice'}: is for a vocoder, not for a wavenet")


def stores_of(corpora: Sequence[Path], split: str, cache: Path) -> list[SpeechStore]:
    """The waveforms of a split of every corpus. Raises InputError when there are none."""
    stores = [store for path in corpora if (store := cached_speech(path, split, cache)) is not None]
    if not stores:
        raise InputError(f"--data: no utterances in the {split} split; expected corpora with train and dev splits")
    return stores


def evaluator(trainer: keras.Model, batches: SegmentBatches) -> Callable[[], dict[str, float]]:
    """A function that returns the losses on the first batches of the development set.

    Those on spectra that a voice made, where there are any, are called `led_` and so on.
    """
    parts = {"": replace(batches, led=None)}
    if batches.led is not None:
        parts["led_"] = replace(batches, led_share=1.0)
    fixed = {prefix: [part.batch(i) for i in range(DEV_BATCHES)] for prefix, part in parts.items()}

    def evaluate() -> dict[str, float]:
        found = {}
        for prefix, each in fixed.items():
            logs = mean_logs([trainer.test_on_batch(batch, return_dict=True) for batch in each])
            found |= {prefix + name: value for name, value in logs.items()}
        return found

    return evaluate


def led_spectra(voice: VoiceManifest, stores: Sequence[SpeechStore], folder: Path) -> LedSpectra:
    """What an exported voice makes of the recordings in the stores, kept in a file of the folder."""
    known = "|".join([voice.files[MODEL_FILE].sha256, *(store.directory.name for store in stores)])
    path = folder / f"spectra-{hashlib.sha256(known.encode()).hexdigest()[:8]}.npz"
    acoustic = AcousticModel(voice, open_model(voice).signatures)
    encode = Pronouncer(voice.pronunciation_path, voice.symbols).encode
    return LedSpectra.of(acoustic, stores, encode, path)


def make_trainer(options: VocoderOptions, statistics: MelStatistics) -> tuple[keras.Model, keras.Model]:
    """(trainer, the vocoder in it), built, beginning with the weights of an earlier stage if there are any."""
    if options.model == "wavenet":
        model = Wavenet(WAVENET_PRESETS[options.preset])
        trainer = WavenetTrainer(model)
    else:
        model = Vocoder(PRESETS[options.preset])
        discriminators = Discriminators() if options.adversarial else None
        if discriminators is not None:
            discriminators.build()
        trainer = VocoderTrainer(model, SPEECH_MEL, discriminator=discriminators)
    model.build()
    model.set_statistics(statistics.mean, statistics.std)
    if isinstance(options.start, VocoderManifest):
        take_vocoder(model, options.start.model_path)
    elif options.start:
        model.load_weights(options.start)
    return trainer, model


def prepare(options: VocoderOptions) -> tuple[StepRun, list[SpeechStore]]:
    """Everything up to the first step: the run, at its newest checkpoint, and the development waveforms."""
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    cache = options.cache or output / "cache"
    train, development = (stores_of(options.data, split, cache) for split in ("train", "dev"))
    statistics = MelStatistics.of(train, output / "norm.json", SPEECH_MEL)

    config = StepConfig(
        preset=options.preset, steps=options.steps, peak_rate=options.rate, seed=options.seed,
        cooldown_steps=options.cooldown or max(1, options.steps // 4), evaluate_steps=options.evaluate,
        beta_1=0.8 if options.adversarial else 0.9,
    )  # fmt: skip
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(options.precision)
    trainer, model = make_trainer(options, statistics)
    led = [None, None]
    if options.voice:
        led = [led_spectra(options.voice, stores, output) for stores in (train, development)]
    batches = SegmentBatches(train, SPEECH_MEL, options.batch, options.frames, seed=config.seed, led=led[0])
    fixed = replace(batches, stores=development, seed=1, gain_db=0.0, led=led[1])
    run = StepRun(output, trainer, batches, config, evaluator(trainer, fixed))
    settings = {
        "model": options.model, "sizes": asdict(model.config), "mel": asdict(SPEECH_MEL),
        "train": asdict(config),
        "options": {k: v.name if isinstance(v, Manifest) else str(v) for k, v in vars(options).items()},
    }  # fmt: skip
    if options.model == "vocoder":
        settings["losses"] = asdict(trainer.config)
    write_json(output / "config.json", settings)
    if run.restore():
        _log.info("going on from step %d", run.step)
    elif options.adversarial and isinstance(options.start, VocoderManifest):
        warm_judge(run, model, JUDGE_STEPS)
    return run, development


def write_final(run: StepRun, development: Sequence[SpeechStore]) -> Path:
    """The averaged weights of the vocoder alone, whose file is returned; the curves; some utterances spoken by it."""
    trainer = run.trainer
    model = trainer.vocoder if isinstance(trainer, VocoderTrainer) else trainer.wavenet
    path = run.directory / f"{type(model).__name__.lower()}.weights.h5"
    with run.averaged():
        model.save_weights(path.with_name("part.weights.h5"))
        os.replace(path.with_name("part.weights.h5"), path)
        if isinstance(trainer, VocoderTrainer):
            speak(model, development[0], run.directory / "spoken")
    plot_log(run.directory, ("loss", "convergence", "log_magnitude", "mel", "adversarial", "discriminator"))
    return path


def speak(vocoder: Vocoder, store: SpeechStore, folder: Path, count: int = 4) -> None:
    """Recordings of a store beside what the vocoder makes of their mel, as WAV files."""
    import soundfile

    folder.mkdir(exist_ok=True)
    for number, utterance in enumerate(store.utterances[:count]):
        samples = store.samples(utterance)
        heard = keras.ops.convert_to_numpy(vocoder(speech_mel(samples)[None]))[0]
        soundfile.write(folder / f"{number}-recorded.wav", samples, SPEECH_MEL.rate_hz)
        soundfile.write(folder / f"{number}-vocoder.wav", np.clip(heard, -1, 1), SPEECH_MEL.rate_hz)


def train(options: VocoderOptions, stop_after_s: float = float("inf")) -> Path:
    """Train to the end, a signal or so many seconds; returns the file of the averaged weights."""
    run, development = prepare(options)

    def stop(*_: object) -> None:
        run.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Progress(options.steps) as progress:
            run.train(progress, stop_after_s)
        return write_final(run, development)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load_vocoder(directory: Path) -> Vocoder | Wavenet:
    """The trained network of a finished run. Raises InputError when the folder holds none."""
    try:
        settings = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        kinds = {"vocoder": (Vocoder, VocoderConfig), "wavenet": (Wavenet, WavenetConfig)}
        network, config = kinds[settings["model"]]
        vocoder = network(config(**settings["sizes"]))
        vocoder.build()
        vocoder.load_weights(directory / f"{settings['model']}.weights.h5")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{directory}: {reason}; expected the folder of a finished vocoder run") from None
    return vocoder
