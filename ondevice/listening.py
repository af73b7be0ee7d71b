"""Hearing a stream of audio blocks as it comes: partial results while it runs, a final one for each utterance."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, TextIO, TypeVar

import numpy as np
import numpy.typing as npt

from ondevice.errors import OndeviceError
from ondevice.recognizer import Recognizer
from ondevice.results import Result
from ondevice.stats import Meter

T = TypeVar("T")
_ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def listen(
    recognizer: Recognizer,
    blocks: Iterable[npt.NDArray[np.float32]],
    partial: Callable[[Result], None],
    final: Callable[[Result], None],
    meter: Meter,
) -> None:
    """Hear all blocks [n] at the recogniser's rate; `partial` gets changed texts, `final` utterances with words.

    When the source fails midway, what was heard is finished and given out before the error goes on.
    """
    stream, shown = recognizer.stream(), ""
    fault: OndeviceError | None = None

    def finish() -> None:
        nonlocal shown
        with meter.final():
            result = stream.finish()
        shown = ""
        if result.text:
            meter.word()
            final(result)

    try:
        for block in blocks:
            with meter.chunk(len(block)):
                stream.accept(block)
                result = stream.result()
            if result.text != shown:
                shown = result.text
                meter.word()
                partial(result)
            while result.endpoint:
                finish()
                stream.reset()
                result = stream.result()
    except OndeviceError as error:
        fault = error
    finish()
    if fault is not None:
        raise fault


def until_interrupted(items: Iterable[T], stop: Callable[[], None] | None = None) -> Iterator[T]:
    """The same items up to Ctrl-C, SIGTERM or SIGHUP, no error then: work on an item is never torn, waiting for one is.

    `stop` tells the source to end after what it holds already, which then is still given out.
    """
    if threading.current_thread() is not threading.main_thread():
        yield from items  # signals reach the main thread only
        return
    waiting = stopped = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stop is not None and not stopped:
            stop()
        elif waiting:
            raise KeyboardInterrupt
        stopped = True

    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in _ENDING}
    source = iter(items)
    try:
        while not stopped or stop is not None:
            waiting = True
            try:
                item = next(source)
            except (StopIteration, KeyboardInterrupt):
                return
            finally:
                waiting = False
            yield item
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class PartialLine:
    """Shows partial texts on stderr: in place on a terminal, a line for each change when piped."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._in_place = self._out.isatty()
        self._drawn = False

    def show(self, result: Result) -> None:
        """Draw the text heard so far."""
        if not self._in_place:
            print(result.text, file=self._out, flush=True)
            return
        import shutil

        room = shutil.get_terminal_size().columns - 1
        text = result.text if len(result.text) <= room else "…" + result.text[len(result.text) - room + 1 :]
        self._out.write(f"\r\x1b[2K{text}")
        self._out.flush()
        self._drawn = True

    def clear(self) -> None:
        """Wipe what is drawn, before a final line is printed."""
        if self._drawn:
            self._out.write("\r\x1b[2K")
            self._out.flush()
            self._drawn = False
