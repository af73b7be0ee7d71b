"""Where speech goes: a loudspeaker, a file or standard output; and how fast it came.

A sink is a context manager whose `write` takes samples float32 [n] in -1..1 and returns whether to go on.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from ondevice.errors import FailureError
from ondevice.files import atomic_bytes
from ondevice.stats import peak_memory_mb
from ondevice.synthesizer import Said

Float32 = npt.NDArray[np.float32]
UNKNOWN_BYTES = 0xFFFFFFFF  # what a WAV header says when it is written before the sound


class Sink(Protocol):
    """Takes samples."""

    def write(self, samples: Float32) -> bool:
        """Samples [n]; False when nobody wants more."""


class PcmSink:
    """16-bit samples to a binary stream, with a WAV header before them or raw."""

    def __init__(self, out: BinaryIO, rate_hz: int, raw: bool) -> None:
        self._out, self._raw, self._rate_hz, self._bytes = out, raw, rate_hz, 0
        if not raw:
            out.write(wav_header(rate_hz, None))

    def write(self, samples: Float32) -> bool:
        """Samples [n] in -1..1, clipped."""
        self._bytes += self._out.write(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        self._out.flush()
        return True

    def finish(self) -> None:
        """Put the true length into the header, where one can go back to it."""
        if not self._raw and self._out.seekable():
            self._out.seek(0)
            self._out.write(wav_header(self._rate_hz, self._bytes))


def wav_header(rate_hz: int, data_bytes: int | None) -> bytes:
    """44 bytes: RIFF, PCM, mono, 16 bits; None: the length is not known yet."""
    size = UNKNOWN_BYTES if data_bytes is None else data_bytes
    total = UNKNOWN_BYTES if data_bytes is None else data_bytes + 36
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", total, b"WAVE") + form + struct.pack("<4sI", b"data", size)


@contextlib.contextmanager
def pcm_output(path: str | os.PathLike[str], rate_hz: int, raw: bool) -> Iterator[PcmSink]:
    """A file that is there whole or not at all, or standard output for "-"."""
    if os.fspath(path) == "-":
        try:
            sink = PcmSink(sys.stdout.buffer, rate_hz, raw)
            yield sink
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FailureError(f"standard output cannot be written ({error.strerror or error})") from None
        return
    with atomic_bytes(path) as out:
        sink = PcmSink(out, rate_hz, raw)
        yield sink
        sink.finish()


@dataclass
class SpeechMeter:
    """What `--stats` tells: seconds of work per stage, the wait for the first sound, the time per chunk."""

    rate_hz: int
    _began: float = field(default_factory=time.perf_counter)
    _first_s: float | None = None
    _samples: int = 0
    _work_s: float = 0.0
    _acoustic_s: float = 0.0
    _chunks: list[tuple[float, int]] = field(default_factory=list)  # seconds, samples

    def said(self, sentence: Said) -> None:
        """A sentence's spectra are ready."""
        self._acoustic_s += sentence.acoustic_s

    def chunks(self, source: Iterator[Float32]) -> Iterator[Float32]:
        """The same chunks, timed as they are made."""
        while True:
            began = time.perf_counter()
            chunk = next(source, None)
            now = time.perf_counter()
            self._work_s += now - began
            if chunk is None:
                return
            if self._first_s is None:
                self._first_s = now - self._began
            self._samples += len(chunk)
            self._chunks.append((now - began, len(chunk)))
            yield chunk

    def lines(self) -> list[str]:
        """One line per measurement, for a person."""
        audio_s = self._samples / self.rate_hz
        if not audio_s or self._first_s is None:
            return ["nothing was said"]
        times = [1000 * seconds for seconds, _ in self._chunks]
        longest_ms = 1000 * max(count for _, count in self._chunks) / self.rate_hz
        vocoder_s = self._work_s - self._acoustic_s
        return [
            f"audio            {audio_s:.2f} s",
            f"first audio      {1000 * self._first_s:.0f} ms after the text",
            f"computing        {self._work_s:.2f} s, real-time factor {self._work_s / audio_s:.4f}",
            f"  text to mel    {self._acoustic_s:.2f} s, real-time factor {self._acoustic_s / audio_s:.4f}",
            f"  mel to audio   {vocoder_s:.2f} s, real-time factor {vocoder_s / audio_s:.4f}",
            f"chunk            p50 {np.quantile(times, 0.5):.1f}  p99 {np.quantile(times, 0.99):.1f}  "
            f"max {max(times):.1f} ms for up to {longest_ms:.0f} ms of audio",
            f"peak memory      {peak_memory_mb():.0f} MB",
        ]
