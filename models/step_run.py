"""A training run counted in steps: batches drawn from (seed, step), so a killed run goes on with the very next one.

Checkpoints, averaged weights and the log are those of `models.train_rnnt.Run`; this leaves out its epochs.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from models.train_rnnt import Board, Run, TrainConfig, Watcher, compile_with, learning_rate, prefetch

Batch = dict[str, np.ndarray]
JUDGE_RATE = 7e-4


class Batches(Protocol):
    """Where batches come from."""

    seconds: float  # of audio in a batch

    def batch(self, step: int) -> Batch:
        """The batch of a step, the same whenever it is asked for."""


@dataclass(frozen=True)
class StepConfig(TrainConfig):
    """How long and how fast; `TrainConfig` with what suits generators."""

    steps: int = 60_000
    peak_rate: float = 1e-3
    warmup_steps: int = 300
    cooldown_steps: int = 10_000
    weight_decay: float = 1e-3
    clip_norm: float = 10.0
    beta_1: float = 0.9
    evaluate_steps: int = 1_000


class StepRun(Run):
    """A run in a directory: `train()` goes on from the newest checkpoint there, to the same weights as if unbroken."""

    def __init__(
        self, directory: Path, trainer: keras.Model, batches: Batches, config: StepConfig,
        evaluate: Callable[[], dict[str, float]] = dict,
    ) -> None:  # fmt: skip
        """`trainer` takes a batch as its x; all its weights are built. `evaluate` runs with averaged weights."""
        self.directory, self.trainer, self.config = directory, trainer, config
        self.batches, self._evaluate = batches, evaluate
        self._board = Board(directory / "tensorboard") if keras.backend.backend() == "tensorflow" else None
        self.step = self.epoch = self.batch = 0
        self.stop = False
        directory.mkdir(parents=True, exist_ok=True)
        optimizer = keras.optimizers.AdamW(
            config.peak_rate, beta_1=config.beta_1, beta_2=0.99, weight_decay=config.weight_decay,
            global_clipnorm=config.clip_norm,
        )  # fmt: skip
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        trainer.compile(optimizer=optimizer, jit_compile="auto" if keras.backend.backend() == "jax" else False)
        optimizer.build(trainer.trainable_variables)
        self.average = [np.array(v) for v in self._weights()]

    def _ahead(self, first: int) -> Iterator[Batch]:
        for step in range(first, self.config.steps):
            yield self.batches.batch(step)

    def train(self, watch: Watcher, stop_after_s: float = float("inf"), report_steps: int = 50) -> None:
        """Train to `config.steps`, or stop cleanly after so many seconds or when `stop` is set."""
        config, started = self.config, time.monotonic()
        saved = mark = started
        heard_s, since = 0.0, list[dict[str, Any]]()
        for batch in prefetch(self._ahead(self.step)):
            self.trainer.optimizer.learning_rate = learning_rate(self.step, config)
            since.append(self.trainer.train_on_batch(batch, return_dict=True))
            self.step += 1
            heard_s += self.batches.seconds
            if self.step % 5 == 0:
                self._update_average()
            now = time.monotonic()
            if self.step % report_steps == 0:
                values = mean_logs(since)
                self._log("train", {**values, "audio_s_per_s": heard_s / (now - mark)})
                watch.step(self.step, values, heard_s / (now - mark))
                if not np.isfinite(values["loss"]):
                    raise FloatingPointError(f"{self.directory}: the loss is {values['loss']} at step {self.step}")
                heard_s, mark, since = 0.0, now, []
            if self.step % config.evaluate_steps == 0 or self.step == config.steps:
                self._log("dev", scores := self.evaluate())
                watch.note("dev  " + "  ".join(f"{k} {v:.4f}" for k, v in scores.items()))
                mark, heard_s = time.monotonic(), 0.0
            last = self.stop or self.step == config.steps or now - started > stop_after_s
            if last or now - saved > config.checkpoint_s:
                self.save()
                saved = now
            if last:
                return

    def evaluate(self) -> dict[str, float]:
        """The development scores with the averaged weights."""
        with self.averaged():
            return self._evaluate()


def warm_judge(run: StepRun, generator: keras.Model, steps: int) -> None:
    """Let a run's discriminator learn for so many steps what the generator makes, which is held; save it at step 0.

    A discriminator that knows nothing would teach a generator that does well nothing but noise.
    """
    trainer, optimizer = run.trainer, run.trainer.optimizer
    generator.trainable = False
    compile_with(trainer, keras.optimizers.Adam(JUDGE_RATE, beta_1=0.8))
    for step in range(steps):
        trainer.train_on_batch(run.batches.batch(step))
    generator.trainable = True
    compile_with(trainer, optimizer)
    run.average = [np.array(v) for v in run._weights()]
    run.save()


def mean_logs(logs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means of what `train_on_batch` or `test_on_batch` returned, which Keras resets with every batch."""
    return {name: float(np.mean([row[name] for row in logs])) for name in logs[0]}


def read_log(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of a run's log.jsonl by kind."""
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "dev": []}
    for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.setdefault(row["kind"], []).append(row)
    return rows


def plot_log(directory: Path, names: tuple[str, ...]) -> Path:
    """curves.png: the named values over the steps, training lines and development points; returns the file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_log(directory)
    figure, axes = pyplot.subplots(figsize=(8, 5))
    for number, name in enumerate(names):
        for kind, style in (("train", "-"), ("dev", "o")):
            points = [(r["step"], r[name]) for r in rows[kind] if name in r]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=f"C{number}", ms=4, label=f"{kind} {name}")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    path = directory / "curves.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
