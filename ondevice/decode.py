"""Opening sound files and streams: plain WAV and raw samples are read here, everything else by libsndfile.

Files and pipes go through the same WAV code, because libsndfile cannot read from a pipe; it scales samples
just as libsndfile does. An `Opened` source has passed every check its headers allow.
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ondevice.containers import (
    EXPECTED,
    Mp3Scan,
    WavHeader,
    check_channels,
    check_ogg,
    check_rate,
    read_wav_header,
    scan_mp3,
    sniff,
)
from ondevice.errors import FailureError, InputError

Frames = npt.NDArray[np.float32]  # [n, channels]

_READ_BYTES = 65536
_DECODE_FRAMES = 2048  # always the same, so that a decoder rounds the same whoever asks
_MP3_DELAY_FRAMES = 2 * 1152  # a decoder may leave out its start-up delay


@dataclass(frozen=True)
class Opened:
    """A sound source: `blocks` yields float32[n, channels] at `rate_hz`; use it in a `with` block.

    Iterating raises InputError where the source turns out to be cut or corrupt.
    """

    name: str
    rate_hz: int
    seconds: float | None  # None: a stream
    blocks: Iterator[Frames]
    file: BinaryIO | None = None  # closed on leaving; None: the caller's

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()


def library(name: str, purpose: str) -> Any:
    """Return the module `name`, or raise FailureError saying how to install what `purpose` needs."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise FailureError(f"{purpose} needs the package {name} ({error}); pip install {name}") from None


def open_stdin(raw_rate_hz: int) -> Opened:
    """Open standard input as `open_stream` does. Raises InputError if it is a terminal."""
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal; expected a WAV or raw 16-bit samples piped into it")
    return open_stream(sys.stdin.buffer, "standard input", raw_rate_hz)


def open_path(path: str | Path, raw_rate_hz: int) -> Opened:
    """Open a sound file, or a named pipe as `open_stream` does. Raises InputError on anything else."""
    name = str(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name} is a directory; expected a sound file")
        file: BinaryIO = open(path, "rb", buffering=_READ_BYTES)  # noqa: SIM115 - Opened closes it
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; expected a sound file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name} cannot be opened ({reason}); expected a readable sound file") from None
    try:
        if stat.S_ISREG(mode):
            return open_file(file, name)
        opened = open_stream(file, name, raw_rate_hz)
        return Opened(name, opened.rate_hz, None, opened.blocks, file)
    except BaseException:
        file.close()
        raise


def open_stream(stream: BinaryIO, name: str, raw_rate_hz: int) -> Opened:
    """Open a blocking stream that need not seek: a WAV, or raw 16-bit little-endian mono samples."""
    head = b""
    while len(head) < 4 and (piece := stream.read(4 - len(head))):
        head += piece
    if not head:
        raise InputError(f"{name} is empty; expected a WAV or raw 16-bit little-endian mono samples")
    if head in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        header = read_wav_header(stream, name, head)
        if header.encoding is None:
            raise InputError(f"{name}: a compressed WAV; expected plain integer or float samples")
        size = None if header.open_ended else header.data_bytes
        return Opened(name, header.rate_hz, None, _pcm_blocks(stream, header, name, b"", size))
    if head in (b"fLaC", b"OggS", b"FORM", b"caff") or head[:3] == b"ID3":
        raise InputError(
            f"{name} begins with {head!r}; expected a WAV or raw 16-bit little-endian mono samples "
            "(give a file by its name, or decode it on the way: ffmpeg -i FILE -f wav -)"
        )
    raw = WavHeader(raw_rate_hz, 1, 2, "s16", big_endian=False, file_bytes=0, data_bytes=0, open_ended=True)
    return Opened(name, raw_rate_hz, None, _pcm_blocks(stream, raw, name, head, None))


def open_file(file: BinaryIO, name: str) -> Opened:
    """Open a sound file that can seek. Raises InputError if it is none, cut short or corrupt."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if not head:
        raise InputError(f"{name} is empty; {EXPECTED}")
    kind = sniff(head)
    if kind is None:
        raise InputError(f"{name} is not a sound file (it begins with {head[:8]!r}); {EXPECTED}")
    file.seek(0)
    mp3 = None
    if kind == "wav":
        header = read_wav_header(file, name, file.read(4))
        there = size - file.tell()
        header.check_length(there, name)
        if header.encoding is not None:
            # Tags may follow the samples, even those of a recording that was stopped at once.
            if header.data_bytes or abs(header.file_bytes - size) <= 1:
                there = min(there, header.data_bytes)
            blocks = _pcm_blocks(file, header, name, b"", there)
            return Opened(name, header.rate_hz, header.seconds(there), blocks, file)
    elif kind == "ogg":
        check_ogg(file, name)
    elif kind == "mp3":
        mp3 = scan_mp3(file, name)
    return _open_encoded(file, name, mp3)


def _open_encoded(file: BinaryIO, name: str, mp3: Mp3Scan | None) -> Opened:
    soundfile = library("soundfile", "decoding FLAC, Ogg and MP3")
    try:
        decoder = soundfile.SoundFile(_View(file) if mp3 is None else _View(file, mp3.start, mp3.info_frame))
    except soundfile.SoundFileError as error:
        raise InputError(f"{name} is corrupt, it cannot be opened ({_reason(error)}); {EXPECTED}") from None
    check_channels(decoder.channels, name)
    check_rate(decoder.samplerate, name)
    decoder.seekable = lambda: False  # or soundfile would seek after every read, which is slow and can fail
    total: int | None = decoder.frames
    if decoder.frames > 1 << 62 or (mp3 is not None and mp3.samples is None):
        total = None  # a FLAC encoder that wrote to a pipe did not know; a free-format MP3 is only estimated
    seconds = None if total is None else total / decoder.samplerate
    blocks = _decoded_blocks(decoder, soundfile, name, total, 0 if mp3 is None else _MP3_DELAY_FRAMES)
    return Opened(name, decoder.samplerate, seconds, blocks, file)


def _decoded_blocks(decoder: Any, soundfile: Any, name: str, total: int | None, slack: int) -> Iterator[Frames]:
    """Yield frames to the end; raise InputError if fewer than `total` - `slack` could be decoded."""
    frames, rate_hz = 0, decoder.samplerate
    promise = "" if total is None else f" of {total / rate_hz:.3f} s"
    with decoder:
        while total is None or frames < total:  # what is behind the end may not decode
            count = _DECODE_FRAMES if total is None else min(_DECODE_FRAMES, total - frames)
            try:
                block: Frames = decoder.read(count, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                after = f"after {frames / rate_hz:.3f} s{promise}"
                raise InputError(f"{name} is cut short or corrupt {after}: {_reason(error)}") from None
            if not len(block):
                break
            frames += len(block)
            yield block
    if total is not None and frames < total - slack:
        found = f"{frames / rate_hz:.3f} s{promise}"
        raise InputError(f"{name} is corrupt: only {found} could be decoded")


def _reason(error: Any) -> str:
    text = str(getattr(error, "error_string", error)).removeprefix("Error : ").strip(" .")
    if "not exist" in text:
        return "nothing in it decodes"  # libsndfile's words for an MP3 without a frame: "File does not exist"
    return text or "unknown error"


def _pcm_blocks(stream: BinaryIO, header: WavHeader, name: str, head: bytes, size: int | None) -> Iterator[Frames]:
    """Yield frames as their bytes arrive, `head` first, to the end of the stream or of `size` bytes."""
    read = getattr(stream, "read1", stream.read)  # read1 returns what is there instead of waiting for all
    pending, received = head, len(head)
    while size is None or received < size:
        piece = read(_READ_BYTES if size is None else min(_READ_BYTES, size - received))
        if not piece:
            break
        received += len(piece)
        pending += piece
        whole = len(pending) - len(pending) % header.frame_bytes
        if whole:
            yield _pcm_to_float(pending[:whole], header)
            pending = pending[whole:]
    if size is not None:
        header.check_length(received, name)


def _pcm_to_float(data: bytes, header: WavHeader) -> Frames:
    order = ">" if header.big_endian else "<"
    if header.encoding == "u8":
        floats = (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    elif header.encoding == "s24":
        wide = np.zeros((len(data) // 3, 4), np.uint8)  # its lowest byte stays 0, so the sign is in place
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)[:, :: -1 if header.big_endian else 1]
        floats = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
    elif header.encoding in ("s16", "s32"):
        size = 2 if header.encoding == "s16" else 4
        floats = np.frombuffer(data, f"{order}i{size}").astype(np.float32) / np.float32(1 << (8 * size - 1))
    else:
        size = 4 if header.encoding == "f32" else 8
        with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite and is refused as that
            floats = np.frombuffer(data, f"{order}f{size}").astype(np.float32)
    return floats.reshape(-1, header.channels)


class _View:
    """`head`, then `file` from byte `start` on, for libsndfile's callbacks, which must not raise."""

    def __init__(self, file: BinaryIO, start: int = 0, head: bytes = b"") -> None:
        self._file, self._start, self._head, self._position = file, start, head, 0
        self._size = len(head) + file.seek(0, os.SEEK_END) - start

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if origin + offset >= 0:  # in broken files libsndfile seeks before the start, and sees that it did not work
            self._position = origin + offset
        return self._position

    def read(self, size: int) -> bytes:
        data = self._head[self._position : self._position + size]
        if not data:
            self._file.seek(self._start + self._position - len(self._head))
            data = self._file.read(size)
        self._position += len(data)
        return data
