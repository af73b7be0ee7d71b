"""The training recipe of the recogniser: schedule, averaging, checkpoints that survive a kill, curves."""

import json
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from models.batches import BatchMaker
from models.greedy import collapse, greedy_tokens
from models.rnnt_training import RnntTrainer
from models.starting import settle

STACKED_S = 0.03  # one stacked frame
AVERAGE_STEPS = 5  # steps between updates of the averaged weights
REPORT_STEPS = 50


class Watcher(Protocol):
    """What a run tells about itself."""

    def step(self, number: int, logs: dict[str, float], audio_s_per_s: float) -> None: ...

    def note(self, line: str) -> None: ...


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast; written beside the checkpoint."""

    preset: str = "small"
    steps: int = 20_000
    peak_rate: float = 1e-3
    warmup_steps: int = 500
    cooldown_steps: int = 3_000  # the rate falls to a fiftieth, exponentially, over the last steps
    weight_decay: float = 1e-2
    clip_norm: float = 2.0
    averaging: float = 0.999  # decay of the moving average of the weights, which is what is shipped
    ascending_epochs: int = 1  # first epochs run from short to long utterances
    evaluate_steps: int = 500
    checkpoint_s: float = 240.0
    seed: int = 0


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, a plateau, then an exponential fall: the plateau can be prolonged by a later run."""
    rate = config.peak_rate * min(1.0, (step + 1) / config.warmup_steps)
    into = step - (config.steps - config.cooldown_steps)
    return rate * 50.0 ** (-into / config.cooldown_steps) if into > 0 else rate


def compile_with(trainer: keras.Model, optimizer: keras.Optimizer) -> None:
    """Make a trainer ready for `train_on_batch`."""
    trainer.compile(optimizer=optimizer, jit_compile="auto" if keras.backend.backend() == "jax" else False)


def prefetch(batches: Iterator[Any], depth: int = 3) -> Iterator[Any]:
    """The same items, made ahead in a thread."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    end, stop = object(), threading.Event()

    def work() -> None:
        try:
            for item in batches:
                while not stop.is_set():
                    try:
                        ready.put(item, timeout=0.5)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
            ready.put(end)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()


def error_counts(reference: Sequence[object], heard: Sequence[object]) -> int:
    """Fewest insertions, deletions and substitutions that turn one sequence into the other."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


class Run:
    """A training run in a directory: `train()` goes on from the newest checkpoint there."""

    def __init__(
        self, directory: Path, trainer: RnntTrainer, maker: BatchMaker, development: BatchMaker,
        decode: Callable[[list[int]], str], config: TrainConfig,
    ) -> None:  # fmt: skip
        self.directory, self.trainer, self.config = directory, trainer, config
        self.maker, self.development, self.decode = maker, development, decode
        # a run on another backend has log.jsonl, which says the same
        self._board = Board(directory / "tensorboard") if keras.backend.backend() == "tensorflow" else None
        self.step = self.epoch = self.batch = 0
        self.stop = False  # set it, from a signal handler say, and `train` saves and returns after this step
        directory.mkdir(parents=True, exist_ok=True)
        optimizer = keras.optimizers.AdamW(
            config.peak_rate, beta_2=0.98, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        compile_with(trainer, optimizer)
        first = next(iter(maker.epoch(0)))
        trainer.predict_on_batch(first)  # builds every weight
        settle(trainer.rnnt, first["features"], first["frames"])
        optimizer.build(trainer.trainable_variables)
        self.average = [np.array(v) for v in self._weights()]

    def _weights(self) -> list[np.ndarray]:
        return [keras.ops.convert_to_numpy(v) for v in self.trainer.trainable_variables]

    def _all_variables(self) -> list[keras.Variable]:
        metrics = {id(v) for m in self.trainer.metrics for v in m.variables}
        return [v for v in [*self.trainer.variables, *self.trainer.optimizer.variables] if id(v) not in metrics]

    def save(self) -> None:
        """Write everything a restart needs, under a temporary name first."""
        arrays = {f"v{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self._all_variables())}
        arrays |= {f"a{i}": a for i, a in enumerate(self.average)}
        position = np.array([self.step, self.epoch, self.batch])
        temporary = self.directory / "checkpoint.part"
        with temporary.open("wb") as file:
            np.savez(file, position=position, **arrays)
        os.replace(temporary, self.directory / "checkpoint.npz")

    def restore(self, path: Path | None = None) -> bool:
        """Go back to a checkpoint; False when there is none."""
        path = path or self.directory / "checkpoint.npz"
        if not path.exists():
            self._forget_later_rows()
            return False
        with np.load(path) as saved:
            self.step, self.epoch, self.batch = (int(x) for x in saved["position"])
            for i, variable in enumerate(self._all_variables()):
                variable.assign(saved[f"v{i}"])
            self.average = [saved[f"a{i}"] for i in range(len(self.average))]
        self._forget_later_rows()
        return True

    def train(self, watch: Watcher, stop_after_s: float = float("inf")) -> None:
        """Train to `config.steps`, or stop cleanly after so many seconds."""
        config, started = self.config, time.monotonic()
        saved = mark = started
        heard_s = 0.0
        while self.step < config.steps:  # not `stop`: set between two epochs, it must still reach the save below
            ascending = self.epoch < config.ascending_epochs
            for batch in prefetch(self.maker.epoch(self.epoch, self.batch, ascending=ascending)):
                self.trainer.optimizer.learning_rate = learning_rate(self.step, config)
                logs = self.trainer.train_on_batch(batch, return_dict=True)
                self.step, self.batch = self.step + 1, self.batch + 1
                heard_s += float(batch["frames"].sum()) * STACKED_S
                if self.step % AVERAGE_STEPS == 0:
                    self._update_average()
                now = time.monotonic()
                last = self.stop or self.step == config.steps or now - started > stop_after_s
                if self.step % REPORT_STEPS == 0:
                    values = {name: float(value) for name, value in logs.items()}
                    self._log("train", values)
                    watch.step(self.step, values, heard_s / (now - mark))
                    heard_s, mark = 0.0, now
                    self.trainer.reset_metrics()
                if self.step % config.evaluate_steps == 0 or self.step == config.steps:
                    self._log("dev", scores := self.evaluate())
                    watch.note("dev WER  " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))
                    mark = time.monotonic()
                if last or now - saved > config.checkpoint_s:
                    self.save()
                    saved = now
                if last:
                    return
            self.epoch, self.batch = self.epoch + 1, 0

    def _update_average(self) -> None:
        decay = min(self.config.averaging, (1 + self.step) / (10 + self.step)) ** AVERAGE_STEPS
        for average, value in zip(self.average, self._weights(), strict=True):
            average += (1 - decay) * (value - average)

    def averaged(self) -> "Averaged":
        """Context in which the model has its averaged weights."""
        return Averaged(self)

    def evaluate(self) -> dict[str, float]:
        """Of each corpus the WER of greedy decoding (averaged weights) and of the CTC head; PER of the phone head."""
        errors: dict[str, int] = defaultdict(int)
        words: dict[str, int] = defaultdict(int)
        examples = []
        with self.averaged():
            for items in self.development.plan(0, ascending=True):
                batch = self.development.batch(items, np.random.default_rng(0))
                out = self.trainer.predict_on_batch(batch)
                frames = batch["frames"] // self.trainer.rnnt.config.reduction
                found = greedy_tokens(self.trainer.rnnt, out["encoded"], frames)
                for row, item in enumerate(items):
                    spelled = self.decode(collapse(out["spelled"][row][: frames[row]]))
                    heard, corpus = self.decode(found[row]), item.parts[0][1].corpus
                    reference = item.text.split()
                    errors[corpus] += error_counts(reference, heard.split())
                    errors["ctc:" + corpus] += error_counts(reference, spelled.split())
                    words[corpus] += len(reference)
                    words["ctc:" + corpus] += len(reference)
                    if "sounds" in out and (count := int(batch["phone_labels"][row])):
                        sounds = collapse(out["sounds"][row][: batch["frames"][row]])
                        errors["phones:" + corpus] += error_counts(batch["phones"][row][:count].tolist(), sounds)
                        words["phones:" + corpus] += count
                    examples.append({"text": item.text, "heard": heard, "ctc": spelled, "corpus": corpus})
        with (self.directory / "examples.jsonl").open("w") as file:
            file.writelines(json.dumps(e) + "\n" for e in examples)
        return {name: errors[name] / max(1, words[name]) for name in sorted(errors)}

    def _forget_later_rows(self) -> None:
        """Take out of the log what a killed run wrote after its last checkpoint: it comes again."""
        path = self.directory / "log.jsonl"
        if path.exists():
            rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = "".join(row for row in rows if 0 <= _step_of(row) <= self.step)
            temporary = path.with_name("log.part")
            temporary.write_text(kept, encoding="utf-8")
            os.replace(temporary, path)

    def _log(self, kind: str, values: dict[str, float]) -> None:
        line = {"kind": kind, "step": self.step, "epoch": self.epoch, **values}
        with (self.directory / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.scalar(f"{kind}/{name}", value, self.step)


def _step_of(row: str) -> int:
    """The step of a line of the log; -1 for one that was cut short."""
    try:
        return int(json.loads(row)["step"]) if row.endswith("\n") else -1
    except ValueError:
        return -1


class Board:
    """TensorBoard event files, written through TensorFlow's summaries."""

    def __init__(self, directory: Path) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(directory))

    def scalar(self, name: str, value: float, step: int) -> None:
        """One point of one curve."""
        with self._writer.as_default():
            self._summary.scalar(name, value, step=step)
        self._writer.flush()


class Averaged:
    """Swaps a run's averaged weights in, and the trained ones back."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __enter__(self) -> None:
        self.kept = self.run._weights()
        for variable, value in zip(self.run.trainer.trainable_variables, self.run.average, strict=True):
            variable.assign(value)

    def __exit__(self, *_: object) -> None:
        for variable, value in zip(self.run.trainer.trainable_variables, self.kept, strict=True):
            variable.assign(value)
