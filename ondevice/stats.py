"""How fast a stream was heard, measured while it ran."""

import contextlib
import resource
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

KEPT_TIMES = 1 << 16  # about an hour of chunks


@dataclass(frozen=True)
class Summary:
    """Times in seconds unless the name says otherwise; None where nothing was measured."""

    audio_s: float
    compute_s: float
    real_time_factor: float | None  # compute over audio: below 1 keeps up with a microphone
    chunk_ms: float | None  # audio in one chunk
    chunk_p50_ms: float | None  # time to work one chunk off
    chunk_p90_ms: float | None
    chunk_p99_ms: float | None
    chunk_max_ms: float | None
    first_word_s: float | None  # audio heard before the first word was shown
    final_latency_ms: float | None  # from an utterance's end to its final text, mean
    dropped_samples: int
    overflows: int  # times that audio was lost
    peak_memory_mb: float

    def lines(self) -> list[str]:
        """One line per measurement, for a person."""

        def show(value: float | None, form: str, unit: str) -> str:
            return "-" if value is None else f"{value:{form}}{unit}"

        return [
            f"audio            {self.audio_s:.2f} s",
            f"computing        {self.compute_s:.2f} s, real-time factor {show(self.real_time_factor, '.4f', '')}",
            f"chunk            p50 {show(self.chunk_p50_ms, '.2f', '')}  p90 {show(self.chunk_p90_ms, '.2f', '')}  "
            f"p99 {show(self.chunk_p99_ms, '.2f', '')}  max {show(self.chunk_max_ms, '.2f', ' ms')} "
            f"for {show(self.chunk_ms, '.0f', ' ms')} of audio",
            f"first word       {show(self.first_word_s, '.2f', ' s')} after the first sample",
            f"final text       {show(self.final_latency_ms, '.1f', ' ms')} after the utterance ended",
            f"dropped samples  {self.dropped_samples} in {self.overflows} overflows",
            f"peak memory      {self.peak_memory_mb:.0f} MB",
        ]

    def values(self) -> dict[str, float | None]:
        """The same for a program."""
        return asdict(self)


@dataclass
class Meter:
    """Collects what `Summary` reports."""

    rate_hz: int
    _samples: int = 0
    _compute_s: float = 0.0
    _longest: tuple[int, float] = (0, 0.0)  # most samples in a chunk, most seconds for one
    _times: "array[float]" = field(default_factory=lambda: array("d"))  # of every `_stride`th chunk
    _stride: int = 1
    _chunks: int = 0
    _finals: tuple[int, float] = (0, 0.0)  # utterances, seconds for all of them
    _first_word_s: float | None = None

    @contextmanager
    def chunk(self, samples: int) -> Iterator[None]:
        """Time the work on one chunk of so many samples."""
        began = time.perf_counter()
        yield
        self.add(samples, time.perf_counter() - began)

    def add(self, samples: int, seconds: float) -> None:
        """Count a chunk of so many samples that took so many seconds."""
        self._samples += samples
        self._compute_s += seconds
        self._longest = max(self._longest[0], samples), max(self._longest[1], seconds)
        if self._chunks % self._stride == 0:
            self._times.append(seconds)
            if len(self._times) == KEPT_TIMES:  # an endless stream must not fill the memory
                self._times = self._times[::2]
                self._stride *= 2
        self._chunks += 1

    @contextmanager
    def final(self) -> Iterator[None]:
        """Time the work between an utterance's end and its final text."""
        began = time.perf_counter()
        yield
        self._finals = self._finals[0] + 1, self._finals[1] + time.perf_counter() - began

    def word(self) -> None:
        """A word was shown."""
        if self._first_word_s is None:
            self._first_word_s = self._samples / self.rate_hz

    def summary(self, dropped_samples: int = 0, overflows: int = 0) -> Summary:
        """Everything so far."""
        audio_s, compute_s = self._samples / self.rate_hz, self._compute_s + self._finals[1]
        p50, p90, p99 = (1000 * float(np.quantile(self._times, q)) if self._times else None for q in (0.5, 0.9, 0.99))
        return Summary(
            audio_s=audio_s,
            compute_s=compute_s,
            real_time_factor=compute_s / audio_s if audio_s else None,
            chunk_ms=1000 * self._longest[0] / self.rate_hz if self._chunks else None,
            chunk_p50_ms=p50,
            chunk_p90_ms=p90,
            chunk_p99_ms=p99,
            chunk_max_ms=1000 * self._longest[1] if self._chunks else None,
            first_word_s=self._first_word_s,
            final_latency_ms=1000 * self._finals[1] / self._finals[0] if self._finals[0] else None,
            dropped_samples=dropped_samples,
            overflows=overflows,
            peak_memory_mb=peak_memory_mb(),
        )


def peak_memory_mb() -> float:
    """Most resident memory of this process so far, MB."""
    with contextlib.suppress(OSError, StopIteration):  # on Linux; what getrusage says there begins with the parent's
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6  # macOS counts bytes, others KiB
