"""The training recipe of the vocoders: `python -m models.train_vocoder --data CORPUS --output FOLDER`.

    corpora -> cached waveforms -> mel statistics (norm.json) -> run -> <model>.weights.h5, curves.png, spoken/*.wav

The default vocoder learns from spectral losses alone in stage one; stage two goes on from its weights (`--start`) with
discriminators (`--adversarial`). `--model wavenet` learns the likelihood of samples. A run stopped at any point goes
on with the same command.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from models.discriminators import Discriminators
from models.progress import Progress
from models.recipe import write_json
from models.speech_store import SpeechStore, cached_speech
from models.step_run import StepConfig, StepRun, mean_logs, plot_log
from models.vocoder import PRESETS, Vocoder
from models.vocoder_data import MelStatistics, SegmentBatches
from models.vocoder_training import VocoderTrainer
from models.wavenet import PRESETS as WAVENET_PRESETS
from models.wavenet import Wavenet
from models.wavenet_training import WavenetTrainer
from ondevice.errors import InputError, OndeviceError
from ondevice.speech_features import SPEECH_MEL, speech_mel

DEV_BATCHES = 6


def stores_of(corpora: Sequence[Path], split: str, cache: Path) -> list[SpeechStore]:
    """The waveforms of a split of every corpus. Raises InputError when there are none."""
    stores = [store for path in corpora if (store := cached_speech(path, split, cache)) is not None]
    if not stores:
        raise InputError(f"--data: no utterances in the {split} split; expected corpora with train and dev splits")
    return stores


def evaluator(trainer: keras.Model, batches: SegmentBatches) -> Callable[[], dict[str, float]]:
    """A function that returns the losses on the first batches of the development set."""
    fixed = [batches.batch(i) for i in range(DEV_BATCHES)]

    def evaluate() -> dict[str, float]:
        return mean_logs([trainer.test_on_batch(batch, return_dict=True) for batch in fixed])

    return evaluate


def make_trainer(arguments: argparse.Namespace, statistics: MelStatistics) -> tuple[keras.Model, keras.Model]:
    """(trainer, the vocoder in it), built, beginning with the weights of an earlier stage if there are any."""
    if arguments.model == "wavenet":
        model = Wavenet(WAVENET_PRESETS[arguments.preset])
        trainer = WavenetTrainer(model)
    else:
        model = Vocoder(PRESETS[arguments.preset])
        discriminators = Discriminators() if arguments.adversarial else None
        if discriminators is not None:
            discriminators.build()
        trainer = VocoderTrainer(model, SPEECH_MEL, discriminator=discriminators)
    model.build()
    model.set_statistics(statistics.mean, statistics.std)
    if arguments.start:
        model.load_weights(arguments.start)
    return trainer, model


def prepare(arguments: argparse.Namespace) -> tuple[StepRun, list[SpeechStore]]:
    """Everything up to the first step: the run, at its newest checkpoint, and the development waveforms."""
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    cache = arguments.cache or output / "cache"
    train, development = (stores_of(arguments.data, split, cache) for split in ("train", "dev"))
    statistics = MelStatistics.of(train, output / "norm.json", SPEECH_MEL)

    config = StepConfig(
        preset=arguments.preset, steps=arguments.steps, peak_rate=arguments.rate, seed=arguments.seed,
        cooldown_steps=arguments.cooldown or max(1, arguments.steps // 4), evaluate_steps=arguments.evaluate,
        beta_1=0.8 if arguments.adversarial else 0.9,
    )  # fmt: skip
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(arguments.precision)
    trainer, model = make_trainer(arguments, statistics)
    batches = SegmentBatches(train, SPEECH_MEL, arguments.batch, arguments.frames, seed=config.seed)
    fixed = replace(batches, stores=development, seed=1, gain_db=0.0)
    run = StepRun(output, trainer, batches, config, evaluator(trainer, fixed))
    settings = {
        "model": arguments.model, "sizes": asdict(model.config), "mel": asdict(SPEECH_MEL),
        "train": asdict(config), "arguments": {k: str(v) for k, v in vars(arguments).items()},
    }  # fmt: skip
    if arguments.model == "vocoder":
        settings["losses"] = asdict(trainer.config)
    write_json(output / "config.json", settings)
    if run.restore():
        print(f"going on from step {run.step}", file=sys.stderr)
    return run, development


def write_final(run: StepRun, development: Sequence[SpeechStore]) -> None:
    """The averaged weights of the vocoder alone, the curves, and some development utterances spoken by it."""
    trainer = run.trainer
    model = trainer.vocoder if isinstance(trainer, VocoderTrainer) else trainer.wavenet
    path = run.directory / f"{type(model).__name__.lower()}.weights.h5"
    with run.averaged():
        model.save_weights(path.with_name("part.weights.h5"))
        os.replace(path.with_name("part.weights.h5"), path)
        if isinstance(trainer, VocoderTrainer):
            speak(model, development[0], run.directory / "spoken")
    plot_log(run.directory, ("loss", "convergence", "log_magnitude", "mel", "adversarial", "discriminator"))


def speak(vocoder: Vocoder, store: SpeechStore, folder: Path, count: int = 4) -> None:
    """Recordings of a store beside what the vocoder makes of their mel, as WAV files."""
    import soundfile

    folder.mkdir(exist_ok=True)
    for number, utterance in enumerate(store.utterances[:count]):
        samples = store.samples(utterance)
        heard = keras.ops.convert_to_numpy(vocoder(speech_mel(samples)[None]))[0]
        soundfile.write(folder / f"{number}-recorded.wav", samples, SPEECH_MEL.rate_hz)
        soundfile.write(folder / f"{number}-vocoder.wav", np.clip(heard, -1, 1), SPEECH_MEL.rate_hz)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.train_vocoder", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help="corpus; repeatable")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--cache", type=Path, help="folder of decoded waveforms (default: in the output folder)")
    parser.add_argument("--model", choices=("vocoder", "wavenet"), default="vocoder")
    parser.add_argument("--preset", choices=("small", "paper"), default="small", help="paper: of wavenet only")
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--cooldown", type=int, help="steps over which the rate falls (default: a quarter)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=8, help="segments in a batch")
    parser.add_argument("--frames", type=int, default=112, help="frames of 10.7 ms in a segment")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--start", type=Path, help="vocoder.weights.h5 of an earlier stage")
    parser.add_argument("--adversarial", action="store_true", help="train with discriminators")
    parser.add_argument("--evaluate", type=int, default=1_000, help="steps between evaluations")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop cleanly after so long")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; 0, or 2 for bad input."""
    options = parse(arguments)
    if options.model == "wavenet" and options.adversarial:
        print("error: --adversarial is for --model vocoder", file=sys.stderr)
        return 2
    if options.model == "vocoder" and options.preset not in PRESETS:
        print(f"error: --preset {options.preset} is of --model wavenet; expected small", file=sys.stderr)
        return 2
    try:
        run, development = prepare(options)
    except OndeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    def stop(*_: object) -> None:
        run.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Progress(options.steps) as progress:
            run.train(progress, options.minutes * 60)
        write_final(run, development)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


if __name__ == "__main__":
    sys.exit(main())
