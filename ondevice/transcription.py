"""Whole recordings to utterances: streamed as a microphone is, so hours need no more memory, and several at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

from ondevice.audio import RATE_HZ, Samples, stream_audio
from ondevice.errors import FailureError, InputError, OndeviceError
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.results import Result

_BLOCK_MS = 1000  # any length gives the same words
_POLL_S = 0.1
_GRACE_S = 1.0  # work stops at its next block; what waits for a pipe to open has none


@dataclass(frozen=True)
class Transcript:
    """One recording and what was said in it."""

    source: str  # as it was asked for
    results: tuple[Result, ...]  # utterances with words
    duration_s: float


@dataclass(frozen=True)
class Failure:
    """One recording that could not be heard to its end."""

    source: str
    error: OndeviceError


Outcome = Transcript | Failure
Heard = Callable[[float], object]  # told how many more seconds of audio were heard
_Numbered = Generator[tuple[int, Outcome], None, None]


def transcribe_blocks(
    recognizer: Recognizer, blocks: Iterable[Samples], heard: Heard | None = None
) -> tuple[tuple[Result, ...], float]:
    """(utterances with words, seconds of audio) of float32 blocks [n] at the recogniser's rate."""
    stream, results, samples = recognizer.stream(), [], 0
    for block in blocks:
        stream.accept(block)
        while stream.result().endpoint:
            results.append(stream.finish())
            stream.reset()
        samples += len(block)
        if heard:
            heard(len(block) / recognizer.rate_hz)
    results.append(stream.finish())
    return tuple(result for result in results if result.text), samples / recognizer.rate_hz


def transcribe_file(
    recognizer: Recognizer, source: str, heard: Heard | None = None, raw_rate_hz: int = RATE_HZ
) -> Outcome:
    """What was said in a sound file or, for "-", on standard input; bad audio is a Failure."""
    try:
        blocks = stream_audio(source, recognizer.rate_hz, _BLOCK_MS, raw_rate_hz=raw_rate_hz)
        results, duration_s = transcribe_blocks(recognizer, blocks, heard)
    except OndeviceError as error:
        return Failure(source, error)
    except OSError as error:
        return Failure(source, FailureError(f"{source} cannot be read ({error.strerror or error})"))
    return Transcript(source, results, duration_s)


def transcribe_files(
    recognizer: Recognizer,
    sources: Sequence[str],
    *,
    jobs: int = 1,
    in_order: bool = True,
    heard: Heard | None = None,
    raw_rate_hz: int = RATE_HZ,
) -> Generator[Outcome, None, None]:
    """Yield an outcome for each source: in their order, or each as soon as it is there.

    With several `jobs`, processes share the work; standard input must then not be among the sources. Closing the
    iterator, or an exception such as KeyboardInterrupt in it, stops them at once.
    Raises InputError for jobs below 1, FailureError if a process dies.
    """
    if jobs < 1:
        raise InputError(f"jobs {jobs}: expected at least 1")
    jobs = min(jobs, len(sources))
    if jobs <= 1:
        return (transcribe_file(recognizer, source, heard, raw_rate_hz) for source in sources)
    if "-" in sources:
        raise InputError("standard input (-) cannot be shared between processes; expected it alone or with jobs 1")
    return _outcomes(_side_by_side(recognizer, sources, jobs, heard, raw_rate_hz), in_order)


def _outcomes(numbered: _Numbered, in_order: bool) -> Generator[Outcome, None, None]:
    waiting: dict[int, Outcome] = {}
    following = 0
    with contextlib.closing(numbered):
        for number, outcome in numbered:
            if not in_order:
                yield outcome
                continue
            waiting[number] = outcome
            while following in waiting:
                yield waiting.pop(following)
                following += 1


def _side_by_side(
    recognizer: Recognizer, sources: Sequence[str], jobs: int, heard: Heard | None, raw_rate_hz: int
) -> _Numbered:
    """(number of the source, outcome) as they come."""
    # A fresh interpreter for each: a fork would inherit the locks of the model's threads.
    context = multiprocessing.get_context("spawn")
    seconds, stop = context.Value("d", 0.0), context.Event()
    arguments = (recognizer.manifest.directory, recognizer.config, raw_rate_hz, seconds, stop)
    pool = ProcessPoolExecutor(jobs, context, _start_worker, arguments)
    done: queue.SimpleQueue[Future[tuple[int, Outcome]]] = queue.SimpleQueue()
    told_s = 0.0

    def tell() -> None:
        nonlocal told_s
        now_s = float(seconds.get_obj().value)  # without the lock, which a dead process may hold
        if heard and now_s > told_s:
            heard(now_s - told_s)
            told_s = now_s

    def following() -> tuple[int, Outcome]:
        while True:
            with contextlib.suppress(queue.Empty):
                return done.get(timeout=_POLL_S).result()
            tell()

    try:
        with _no_interrupts():  # the processes inherit this: Ctrl-C is handled here
            for job in enumerate(sources):
                pool.submit(_work, job).add_done_callback(done.put)
        for _ in sources:
            yield following()
            tell()
    except BrokenProcessPool:
        raise FailureError("a worker process ended too early (out of memory?); try fewer --jobs") from None
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and is the one that is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_worker: Callable[[str], Outcome]


def _start_worker(
    model: Path, config: RecognizerConfig, raw_rate_hz: int, seconds: Synchronized[float], stop: Event
) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    recognizer = Recognizer.load(model, config)

    def heard(more_s: float) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        with seconds.get_lock():
            seconds.value += more_s

    def work(source: str) -> Outcome:
        return transcribe_file(recognizer, source, heard, raw_rate_hz)

    _worker = work


def _end_with_parent(stop: Event) -> None:
    """End this process when it is told to stop and does not, or when its parent was killed."""
    parent = multiprocessing.parent_process()
    while not stop.wait(1.0) and (parent is None or parent.is_alive()):
        pass
    time.sleep(_GRACE_S)
    os._exit(1)


def _work(job: tuple[int, str]) -> tuple[int, Outcome]:
    number, source = job
    return number, _worker(source)
