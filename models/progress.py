"""How a training run shows itself: one bar with speed and time left, and a line per measurement."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Context manager whose `step` and `note` are called by `Run.train`; plain lines when stderr is no terminal."""

    def __init__(self, steps: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = Bar(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"), BarColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[speed]:.0f} audio-s/s  loss {task.fields[loss]:.3f}"),
            console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("train", total=steps, speed=0.0, loss=float("nan"))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, number: int, logs: dict[str, float], audio_s_per_s: float) -> None:
        """Called every few steps with the means since the last call."""
        self._bar.update(self._task, completed=number, speed=audio_s_per_s, loss=logs["loss"])
        if not self._console.is_terminal:
            parts = "  ".join(f"{name} {value:.3f}" for name, value in logs.items())
            self.note(f"step {number}  {parts}  {audio_s_per_s:.0f} audio-s/s")

    def note(self, line: str) -> None:
        """A line that stays."""
        self._console.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True)
