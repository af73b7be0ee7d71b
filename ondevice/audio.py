"""Sound files and streams as mono float32 samples at the rate a model wants.

`read_audio` is the concatenation of what `stream_audio` yields, and the resampler works in fixed blocks, so a
recording gives the same samples to the bit however it is cut into pieces. Decoding is libsndfile's (through
`soundfile`) and resampling soxr's; both are imported when first needed, so this module imports without them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from ondevice.containers import check_channels, check_rate
from ondevice.decode import Opened, library, open_file, open_path, open_stdin, open_stream
from ondevice.errors import FailureError, InputError, OndeviceError

Samples = npt.NDArray[np.float32]  # [n], mono, -1..1

RATE_HZ = 16_000
LOUDEST = 16.0  # 24 dB over full scale; beyond it floats are not clipped audio but integers nobody divided
_RESAMPLER_BLOCK_MS = 20


def to_mono_float(samples: npt.NDArray[Any], name: str = "samples", first: int = 0) -> Samples:
    """Return float32[n] in -1..1 from int16, int32 or float samples shaped [n] or [n, channels].

    Channels are averaged; integers are divided by their full scale; floats a little over it are clipped.
    Raises InputError on other types or shapes, no channels, NaN, infinities, or floats beyond +-16; its line
    begins with `name` and counts samples from `first`.
    """
    x = np.asarray(samples)
    if x.ndim not in (1, 2):
        raise InputError(f"{name}: an array of shape {list(x.shape)}; expected [n] or [n, channels]")
    if x.ndim == 2:
        check_channels(x.shape[1], name)
    if x.dtype == np.int16 or x.dtype == np.int32:
        floats = x.astype(np.float32) / np.float32(-float(np.iinfo(x.dtype).min))
    elif x.dtype in (np.float16, np.float32, np.float64):
        with np.errstate(over="ignore"):
            floats = x.astype(np.float32)
        if floats.size and not np.abs(floats).max() <= LOUDEST:  # NaN fails this too
            _refuse(floats.reshape(len(floats), -1), name, first)
    else:
        raise InputError(f"{name}: samples of type {x.dtype}; expected int16, int32 or floats in -1..1")
    if floats.ndim == 2:
        # Channel by channel: a sum along an axis may round differently in blocks of another length.
        mixed = floats[:, 0].copy()
        for channel in range(1, floats.shape[1]):
            mixed += floats[:, channel]
        floats = mixed / np.float32(floats.shape[1])
    mono: Samples = np.clip(floats, np.float32(-1), np.float32(1))
    return mono


def _refuse(floats: Samples, name: str, first: int) -> NoReturn:
    fine = np.abs(floats) <= LOUDEST  # [n, channels]
    index = int(np.argmin(fine.all(axis=1)))
    value = floats[index, np.argmin(fine[index])]
    what = "is not a number" if np.isnan(value) else "is infinite" if np.isinf(value) else f"is {value:g}"
    raise InputError(f"{name}: sample {first + index} {what}; expected finite samples in -1..1")


class _Blocks:
    """Cuts a stream of samples into blocks of one size, whatever the sizes that come in."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest: Samples = np.zeros(0, np.float32)

    def split(self, samples: Samples) -> list[Samples]:
        """Return the blocks that are complete now; the remainder waits."""
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % self._size
        self._rest = joined[whole:].copy()
        return [joined[start : start + self._size] for start in range(0, whole, self._size)]

    def rest(self) -> Samples:
        """Return the incomplete last block (perhaps empty) and forget it."""
        rest, self._rest = self._rest, np.zeros(0, np.float32)
        return rest


class StreamingResampler:
    """Resamples audio into mono piece by piece; any pieces of the same samples give the same bits.

    soxr's "HQ", which holds back about 40 ms at 48 kHz and 115 ms at 8 kHz. Equal rates pass straight on.
    Raises InputError if a rate is outside 1,000 to 768,000 Hz.
    """

    def __init__(self, input_hz: int, output_hz: int) -> None:
        check_rate(input_hz, "input_hz")
        check_rate(output_hz, "output_hz")
        self.input_hz, self.output_hz = input_hz, output_hz
        self._blocks = _Blocks(max(1, input_hz * _RESAMPLER_BLOCK_MS // 1000))
        self._soxr: Any = None
        if input_hz != output_hz:
            soxr = library("soxr", "resampling")
            self._soxr = soxr.ResampleStream(input_hz, output_hz, 1, dtype="float32", quality="HQ")

    def accept(self, samples: npt.NDArray[Any]) -> Samples:
        """Take [n] or [n, channels] as `to_mono_float` does; return the float32[m] in -1..1 that is ready."""
        mono = to_mono_float(samples)
        if self._soxr is None:
            return mono
        return self._joined([self._soxr.resample_chunk(block) for block in self._blocks.split(mono)])

    def finish(self) -> Samples:
        """Return the float32[m] still held back; the resampler is then ready for another recording."""
        if self._soxr is None:
            return np.zeros(0, np.float32)
        tail = self._joined([self._soxr.resample_chunk(self._blocks.rest(), last=True)])
        self._soxr.clear()
        return tail

    @staticmethod
    def _joined(pieces: list[Samples]) -> Samples:
        joined: Samples = np.concatenate([np.zeros(0, np.float32), *pieces])
        return np.clip(joined, np.float32(-1), np.float32(1), out=joined)  # a steep filter overshoots


def read_audio(path: str | Path, rate_hz: int = RATE_HZ) -> Samples:
    """Return a whole sound file as mono float32[n] in -1..1 at `rate_hz`.

    Reads WAV (8 to 32-bit integers, floats, RF64), FLAC, Ogg (Vorbis, Opus) and MP3, with 1 to 64 channels
    and rates of 1 to 768 kHz. Raises InputError if the file is missing, empty, no audio, cut short,
    corrupt, or holds NaN.
    """
    return np.concatenate(list(stream_audio(path, rate_hz, block_ms=1000)))


def decode_audio(content: bytes, name: str, rate_hz: int = RATE_HZ) -> Samples:
    """Return the samples of a sound file held in memory, as `read_audio` does; `name` is for its errors."""
    return np.concatenate(list(_blocks_of(open_file(io.BytesIO(content), name), rate_hz, rate_hz)))


def stream_audio(
    source: str | Path | BinaryIO,
    rate_hz: int = RATE_HZ,
    block_ms: int = 60,
    *,
    raw_rate_hz: int = RATE_HZ,
) -> Iterator[Samples]:
    """Yield the samples of `read_audio` in float32 blocks of `block_ms`, in bounded memory.

    `source` is a path, "-" for standard input, or a blocking binary stream. Streams, named pipes among
    them, hold a WAV, which may leave its length open as those of ffmpeg and arecord do, or raw 16-bit
    little-endian mono samples at `raw_rate_hz`; the first bytes tell which. A block is yielded as soon as its
    samples have arrived; the last one may be shorter.

    Raises InputError as `read_audio` does: before this returns wherever the headers tell, else on reaching
    the fault, when all that came before it has been yielded.
    """
    check_rate(rate_hz, "rate_hz")
    check_rate(raw_rate_hz, "raw_rate_hz")
    if block_ms < 1:
        raise InputError(f"block_ms is {block_ms}; expected at least 1")
    return _blocks_of(_open(source, raw_rate_hz), rate_hz, max(1, rate_hz * block_ms // 1000))


def duration_s(path: str | Path) -> float:
    """Return the length of a sound file in seconds. Raises InputError as `read_audio` does.

    Read from the headers, or counted where they leave it open. An MP3 that does not state its length counts
    with its encoder's padding, under 0.1 s.
    """
    with open_path(path, RATE_HZ) as opened:
        if opened.seconds is not None:
            return opened.seconds
        return sum(len(block) for block in opened.blocks) / opened.rate_hz


def _open(source: str | Path | BinaryIO, raw_rate_hz: int) -> Opened:
    if source == "-":
        return open_stdin(raw_rate_hz)
    if isinstance(source, (str, Path)):
        return open_path(source, raw_rate_hz)
    return open_stream(source, str(getattr(source, "name", "audio stream")), raw_rate_hz)


def _blocks_of(opened: Opened, rate_hz: int, block_samples: int) -> Iterator[Samples]:
    resampler, blocks, heard = StreamingResampler(opened.rate_hz, rate_hz), _Blocks(block_samples), 0
    fault: OndeviceError | None = None
    with opened:
        try:
            for frames in opened.blocks:  # [n, channels]
                mono = to_mono_float(frames, opened.name, heard)
                heard += len(mono)
                yield from blocks.split(resampler.accept(mono))
        except InputError as error:
            fault = error  # what was heard before it is given out first
        except OSError as error:  # a failing disk, a network that went away
            fault = FailureError(f"{opened.name} cannot be read further ({error.strerror or error})")
    yield from blocks.split(resampler.finish())
    if len(rest := blocks.rest()):
        yield rest
    if fault is not None:
        raise fault
    if not heard:
        raise InputError(f"{opened.name} holds no audio; expected at least one sample")
