"""What an export tells the person who waits for it: lines that stay, and a bar for what takes long."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class Teller:
    """Tells nothing."""

    def __call__(self, line: str) -> None:
        """A line that stays."""

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """The items, while it is shown how many of `total` are done; `total` is their number if they have one."""
        del what, total
        yield from items


class Terminal(Teller):
    """Lines on stderr, and bars where that is a terminal."""

    def __call__(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
            count = len(items) if isinstance(items, Sequence) else total
            yield from bar.track(items, total=count, description=what)


quiet = Teller()
