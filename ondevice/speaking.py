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
from ondevice.stats import Meter
from ondevice.synthesizer import Timing

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
    size = UNKNOWN_BYTES if data_bytes is None else min(data_bytes, UNKNOWN_BYTES)  # 24 hours fill the field
    total = UNKNOWN_BYTES if data_bytes is None else min(data_bytes + 36, UNKNOWN_BYTES)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", total, b"WAVE") + form + struct.pack("<4sI", b"data", size)


@contextlib.contextmanager
def pcm_output(path: str | os.PathLike[str], rate_hz: int, raw: bool) -> Iterator[PcmSink]:
    """A file that is there whole or not at all, or standard output for "-"."""
    if os.fspath(path) == "-":
        if sys.stdout is None:
            raise FailureError("standard output is closed; expected a pipe or a file")
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
    timing: Timing = field(default_factory=Timing)
    _began: float = field(default_factory=time.perf_counter)
    _first_s: float | None = None
    _meter: Meter | None = None

    def chunks(self, source: Iterator[Float32]) -> Iterator[Float32]:
        """The same chunks, timed as they are made."""
        self._meter = Meter(self.rate_hz)
        while True:
            began = time.perf_counter()
            chunk = next(source, None)
            if chunk is None:
                return
            if self._first_s is None:
                self._first_s = time.perf_counter() - self._began
            self._meter.add(len(chunk), time.perf_counter() - began)
            yield chunk

    def lines(self, underflows: int = 0) -> list[str]:
        """One line per measurement, for a person."""
        if self._meter is None or self._first_s is None:
            return ["nothing was said"]
        found, timing = self._meter.summary(), self.timing
        audio_s = max(found.audio_s, 1e-9)
        stages = {
            "text to phones": timing.text_s, "style": timing.style_s, "phones to mel": timing.acoustic_s,
            "mel to audio": timing.vocoder_s,
        }  # fmt: skip
        work_s = sum(stages.values())
        return [
            f"audio            {audio_s:.2f} s",
            f"first audio      {1000 * self._first_s:.0f} ms after the text",
            f"computing        {work_s:.2f} s, real-time factor {work_s / audio_s:.4f}",
            *(
                f"  {name:<14} {seconds:.2f} s, real-time factor {seconds / audio_s:.4f}"
                for name, seconds in stages.items()
            ),
            f"chunk            p50 {found.chunk_p50_ms:.1f}  p99 {found.chunk_p99_ms:.1f}  "
            f"max {found.chunk_max_ms:.1f} ms for up to {found.chunk_ms:.0f} ms of audio",
            f"underflows       {underflows}",
            f"peak memory      {found.peak_memory_mb:.0f} MB",
        ]
