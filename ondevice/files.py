"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Literal, TextIO

from ondevice.errors import FailureError, InputError

# What NumPy raises on the way through a damaged .npz, beside OSError.
DAMAGED = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, NotImplementedError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def atomic_write(path: str | os.PathLike[str], text: str) -> None:
    """Write a file whole; raises as `atomic_file` does."""
    with atomic_file(path) as out:
        out.write(text)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A UTF-8 text stream that becomes the file `path` when the block ends, and vanishes when it fails.

    Until then the text has a temporary name in the same folder. Pipes and devices are written to directly.
    Raises InputError if `path` is a directory or in none, FailureError if it cannot be written.
    """
    with atomic_bytes(path) as out:
        text = io.TextIOWrapper(out, encoding="utf-8", errors="replace", newline="\n")
        try:
            yield text
            text.flush()
        finally:
            with contextlib.suppress(OSError):  # it is being told already
                text.detach()


@contextlib.contextmanager
def atomic_bytes(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """`atomic_file` for bytes."""
    name = os.fspath(path)
    with _written(name):
        if (mode := _mode(name)) is not None and not stat.S_ISREG(mode):
            with _open(name, "wb") as out:
                yield out
            return
        file = Path(os.path.realpath(name))  # a link stays one
        with _part_of(file) as part:
            with _open(part, "xb") as out:
                yield out
            if mode is not None:
                part.chmod(stat.S_IMODE(mode))
            part.replace(file)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise as `atomic_file` does where a file `path` could not even be begun now."""
    name = os.fspath(path)
    with _written(name):
        if (mode := _mode(name)) is None or stat.S_ISREG(mode):
            with _part_of(Path(os.path.realpath(name))) as part:
                _open(part, "xb").close()


@contextlib.contextmanager
def _part_of(file: Path) -> Iterator[Path]:
    """A temporary name beside `file`; what still has it at the end is removed, whatever ends the block."""
    part = file.with_name(f".ondevice-{os.urandom(8).hex()}.part")
    with _unwinding():
        try:
            yield part
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


@contextlib.contextmanager
def _unwinding() -> Iterator[None]:
    """SIGTERM and SIGHUP leave the block as an exit with status 128 + signal, unless somebody handles them already."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    ours = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]

    def leave(number: int, frame: FrameType | None) -> None:
        for another in ours:
            signal.signal(another, signal.SIG_IGN)  # nothing interrupts the way out
        raise SystemExit(128 + number)

    for number in ours:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def open_output(path: str | os.PathLike[str] | None) -> Iterator[TextIO]:
    """A text stream to a file as `atomic_file` writes it, or to standard output for None and "-".

    A FailureError from the block, such as a microphone unplugged, keeps what was written before it.
    """
    if path is None or os.fspath(path) == "-":
        with _standard_output() as out:
            yield out
        return
    failure: FailureError | None = None
    with atomic_file(path) as out:
        try:
            yield out
        except FailureError as error:
            failure = error
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _standard_output() -> Iterator[TextIO]:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may not know every letter
    with _written("standard output"):
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError:
            with contextlib.suppress(OSError):  # or the interpreter tries, and complains, once more at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def _mode(name: str) -> int | None:
    """What is there now, as `os.stat` tells it; None: nothing."""
    folder = os.path.dirname(os.path.realpath(name))
    if not os.path.isdir(folder):
        raise InputError(f"{name} cannot be written: {folder} is not a folder; expected a file in one that exists")
    try:
        mode = os.stat(name).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise InputError(f"{name} is a directory; expected the name of a file")
    return mode


def _open(name: str | Path, mode: Literal["wb", "xb"]) -> BinaryIO:
    return open(name, mode)


@contextlib.contextmanager
def _written(name: str) -> Iterator[None]:
    """Say in one line what kept `name` from being written; a reader that went away is left to the command."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FailureError(f"{name} cannot be written ({error.strerror or error})") from None
