"""What a sound file promises in its headers, so that a cut or damaged one is refused and not half heard.

libsndfile plays a WAV whose end is missing, an MP3 with a hole and a cut Ogg file without a word. These
checks walk the container (never the samples) in small pieces and compare what is promised with what is
there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from ondevice.errors import InputError

EXPECTED = "expected WAV, FLAC, Ogg (Vorbis or Opus) or MP3"

MIN_RATE_HZ = 1_000  # below this nothing of speech is left
MAX_RATE_HZ = 768_000  # the highest rate recorders are sold with
MAX_CHANNELS = 64

# Recorders that write to a pipe cannot know the length. ffmpeg writes 0xFFFFFFFF, others 0, arecord
# 0x80000000 and sox 0x7FFFF000; anything from here up (2 GiB less 64 KiB) means "until the stream ends".
_OPEN_ENDED_BYTES = 0x7FFF_0000
_FMT_PCM, _FMT_FLOAT, _FMT_EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True)
class WavHeader:
    """A WAV header up to its first sample."""

    rate_hz: int
    channels: int
    frame_bytes: int  # one sample of every channel
    encoding: str | None  # "u8", "s16", "s24", "s32", "f32", "f64"; None: compressed, left to libsndfile
    big_endian: bool
    file_bytes: int  # of the whole file, as written; may be a placeholder
    data_bytes: int  # of the samples, likewise
    open_ended: bool  # True: data_bytes is a placeholder, the samples run to the end of the stream

    def seconds(self, byte_count: int) -> float:
        """Return the length in seconds of `byte_count` bytes of plain (not compressed) samples."""
        return byte_count // self.frame_bytes / self.rate_hz

    def check_length(self, there: int, name: str) -> None:
        """Raise InputError if only `there` of the promised bytes exist; part of one frame may be missing."""
        if self.open_ended or there > self.data_bytes - self.frame_bytes:
            return
        promised, found = f"{self.data_bytes} bytes of samples", f"{there}"
        if self.encoding is not None:
            promised += f" ({self.seconds(self.data_bytes):.3f} s)"
            found += f" ({self.seconds(there):.3f} s)"
        raise InputError(f"{name} is cut short: its header promises {promised}, but {found} are there")


def check_rate(rate_hz: int, name: str) -> None:
    """Raise InputError, with `name` in front, unless 1,000 <= rate_hz <= 768,000."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InputError(f"{name}: {rate_hz} Hz; expected a sample rate of {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")


def check_channels(channels: int, name: str) -> None:
    """Raise InputError, with `name` in front, unless 1 <= channels <= 64."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise InputError(f"{name}: {channels} channels; expected 1 to {MAX_CHANNELS}")


def sniff(head: bytes) -> str | None:
    """Return "wav", "flac", "ogg" or "mp3" from a file's first bytes (12 are enough), or None."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] in (b"WAVE", b""):
        return "wav"
    if head[:4] == b"fLaC":
        return "flac"
    if head[:4] == b"OggS":
        return "ogg"
    if head[:3] == b"ID3" or _mpeg_frame(head[:4]) is not None:
        return "mp3"
    return None


def read_wav_header(stream: BinaryIO, name: str, magic: bytes) -> WavHeader:
    """Return the header of a WAV whose four `magic` bytes were read; leaves `stream` at the first sample.

    Reads RIFF, RIFX (big-endian), RF64 and BW64, and never seeks, so it works on a pipe.
    Raises InputError when there is no usable `fmt ` and `data` chunk.
    """
    order = ">" if magic == b"RIFX" else "<"
    riff_bytes, form = struct.unpack(order + "I4s", _exactly(stream, 8, name, "header"))
    if form != b"WAVE":
        raise InputError(f"{name}: a RIFF file that holds {form!r}, not audio; {EXPECTED}")
    long_bytes, fmt = None, None
    while True:
        kind, size = struct.unpack(order + "4sI", _exactly(stream, 8, name, "'data' chunk"))
        if kind == b"data":
            break
        if kind == b"fmt ":
            if not 16 <= size <= 65536:
                raise InputError(f"{name}: its WAV 'fmt ' chunk has {size} bytes; expected 16 to 40")
            fmt = _exactly(stream, size + size % 2, name, "'fmt ' chunk")
        elif kind == b"ds64" and 16 <= size <= 65536:
            ds64 = _exactly(stream, size + size % 2, name, "'ds64' chunk")
            long_bytes = struct.unpack_from(order + "Q", ds64, 8)[0]
        else:
            _skip(stream, size + size % 2, name)
    if fmt is None:
        raise InputError(f"{name}: a WAV file whose samples come before any 'fmt ' chunk; {EXPECTED}")
    data_bytes, limit = size, _OPEN_ENDED_BYTES
    if size == 0xFFFFFFFF and long_bytes is not None:
        data_bytes, limit = long_bytes, 1 << 62
    return _wav_format(fmt, order, name, riff_bytes + 8, data_bytes, data_bytes == 0 or data_bytes >= limit)


def _wav_format(fmt: bytes, order: str, name: str, file_bytes: int, data_bytes: int, open_ended: bool) -> WavHeader:
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack_from(order + "HHIIHH", fmt)
    if tag == _FMT_EXTENSIBLE and len(fmt) >= 26:
        tag = struct.unpack_from(order + "H", fmt, 24)[0]
    check_channels(channels, name)
    check_rate(rate_hz, name)
    sample_bytes = (bits + 7) // 8
    if frame_bytes % channels == 0 and 0 < frame_bytes // channels <= 8:
        sample_bytes = frame_bytes // channels  # 20 bits in 24: samples are left-justified in their container
    encodings = {_FMT_PCM: {1: "u8", 2: "s16", 3: "s24", 4: "s32"}, _FMT_FLOAT: {4: "f32", 8: "f64"}}
    encoding = encodings.get(tag, {}).get(sample_bytes)
    if encoding is None and tag in encodings:
        raise InputError(
            f"{name}: a WAV file with {bits}-bit samples in {frame_bytes} bytes for {channels} channels; "
            "expected 8, 16, 24 or 32-bit integers or 32 or 64-bit floats"
        )
    frame_bytes = max(1, frame_bytes if encoding is None else sample_bytes * channels)
    return WavHeader(rate_hz, channels, frame_bytes, encoding, order == ">", file_bytes, data_bytes, open_ended)


def check_ogg(stream: BinaryIO, name: str) -> None:
    """Walk the pages of an Ogg file from its start and raise InputError if one is cut or missing."""
    position, ended = 0, False
    while head := stream.read(27):
        if head[:4] != b"OggS" and b"OggS"[: len(head)] != head:
            if ended:
                return  # tags and padding after the last page harm nobody
            raise InputError(f"{name} is corrupt: no Ogg page at byte {position}, where one must begin")
        lacing = stream.read(head[26]) if len(head) == 27 else b""
        if len(head) < 27 or len(lacing) < head[26]:
            raise InputError(f"{name} is cut short: half a header for the Ogg page at byte {position}")
        wanted = sum(lacing)
        there = _skip_some(stream, wanted)
        if there < wanted:
            raise InputError(
                f"{name} is cut short: the Ogg page at byte {position} promises {wanted} bytes, but {there} are there"
            )
        ended = ended or bool(head[5] & 4)
        position += 27 + len(lacing) + wanted


@dataclass(frozen=True)
class _MpegFrame:
    rate_hz: int
    samples: int
    size: int  # bytes, header included; 0: free format, length not in the header
    kind: tuple[int, int, int]  # version, layer and rate, the same in every frame of a file


_MPEG_RATES_HZ = (44100, 48000, 32000)
_MPEG_KBPS = {  # (MPEG 1?, layer) -> by index 1..14
    (True, 1): range(32, 449, 32),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mpeg_frame(head: bytes) -> _MpegFrame | None:
    """Return what a four-byte MPEG audio frame header says (ISO 11172-3, 2.4.2.3), or None if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)  # version 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    kbps_index, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or kbps_index == 15 or rate_index == 3:
        return None
    rate_hz = _MPEG_RATES_HZ[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    size = 0
    if kbps_index:
        kbps = _MPEG_KBPS[version == 3, layer][kbps_index - 1]
        slot = 4 if layer == 1 else 1
        size = (samples // 8 // slot * kbps * 1000 // rate_hz + padding) * slot
    return _MpegFrame(rate_hz, samples, size, (version, layer, rate_index))


@dataclass(frozen=True)
class Mp3Scan:
    """What the frames of an MP3 file add up to."""

    start: int  # byte at which the first frame begins
    samples: int | None  # per channel in all frames; None: free format, which does not tell its frames' lengths
    info_frame: bytes  # a frame that states the length, to put in front of a file without one; b"": it has one


def scan_mp3(stream: BinaryIO, name: str) -> Mp3Scan:
    """Walk the frames of an MP3 file from its start and raise InputError if one is cut, damaged or missing.

    Without a frame that states the length (Xing or Info) decoders guess it from the first frame's bit rate,
    and libsndfile then drops what is behind the guess: give it the `info_frame` first.
    """
    start, frame, head = _first_mpeg_frame(stream, name)
    position, kind, samples, promised, first_head = start, frame.kind, 0, None, head
    while True:
        if frame.size == 0:
            return Mp3Scan(start, None, b"")
        body = stream.read(frame.size - 4)
        if len(body) < frame.size - 4:
            raise InputError(
                f"{name} is cut short: the MP3 frame at byte {position} promises {frame.size} bytes, but "
                f"{len(body) + 4} are there, after {samples / frame.rate_hz:.2f} s of audio"
            )
        tag = max(body.find(b"Xing", 0, 44), body.find(b"Info", 0, 44)) if position == start else -1
        if tag >= 0 and len(body) >= tag + 12 and body[tag + 7] & 1:
            promised = int.from_bytes(body[tag + 8 : tag + 12]) * frame.samples
        else:
            samples += frame.samples
        position += frame.size
        head = stream.read(4)
        following = _mpeg_frame(head)
        if following is None or following.kind != kind:
            break
        frame = following
    if promised is not None and samples < promised:
        raise InputError(
            f"{name} is cut short or corrupt: its header promises {promised / frame.rate_hz:.2f} s of audio, "
            f"but {samples / frame.rate_hz:.2f} s are there (whole frames end at byte {position})"
        )
    if promised is None and not _harmless_tail(head, stream):
        raise InputError(
            f"{name} is corrupt: no MP3 frame at byte {position}, where one must begin, after "
            f"{samples / frame.rate_hz:.2f} s of audio"
        )
    return Mp3Scan(start, samples, b"" if promised is not None else _info_frame(first_head, samples))


def _info_frame(head: bytes, samples: int) -> bytes:
    """Return a silent frame like the one with header `head` that states a length of `samples` (layer III only)."""
    largest = bytes([head[0], head[1] | 1, 0xE0 | head[2] & 0x0C, head[3]])  # highest bit rate, no checksum
    frame = _mpeg_frame(largest)
    if frame is None or frame.kind[1] != 3:
        return b""
    mono, mpeg1 = head[3] >> 6 == 3, frame.kind[0] == 3
    side_info = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}[mpeg1, mono]
    stated = b"Info" + struct.pack(">II", 1, samples // frame.samples)
    return (largest + bytes(side_info) + stated).ljust(frame.size, b"\0")


def _first_mpeg_frame(stream: BinaryIO, name: str) -> tuple[int, _MpegFrame, bytes]:
    """Skip ID3 tags and padding; return the first frame's place and header, the stream being behind that."""
    position = 0
    while (head := stream.read(10))[:3] == b"ID3":
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        size += 10 if len(head) == 10 and head[5] & 0x10 else 0  # a footer repeats the header
        there = _skip_some(stream, size)
        if len(head) < 10 or there < size:
            raise InputError(f"{name} is cut short: its ID3 tag promises {size} bytes, but {there} are there")
        position += 10 + size
    window = head + stream.read(65536)
    for offset in range(len(window) - 3):
        frame = _mpeg_frame(window[offset : offset + 4])
        if frame is None:
            continue
        following = _mpeg_frame(window[offset + frame.size : offset + frame.size + 4])
        # A lone header can be chance; in a file of one frame there is no second to ask.
        if offset == 0 or frame.size == 0 or (following is not None and following.kind == frame.kind):
            stream.seek(position + offset + 4)
            return position + offset, frame, window[offset : offset + 4]
    raise InputError(f"{name}: no MP3 frame found where the audio should begin; {EXPECTED}")


def _harmless_tail(head: bytes, stream: BinaryIO) -> bool:
    """Whether what follows the last frame is nothing, a known tag or zero padding."""
    head += stream.read(16)
    if head.startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")):
        return True
    while head:
        if head.strip(b"\0"):
            return False
        head = stream.read(65536)
    return True


def _exactly(stream: BinaryIO, size: int, name: str, what: str) -> bytes:
    """Return exactly `size` bytes, which a pipe may give in pieces, or raise InputError naming `what`."""
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        if not piece:
            raise InputError(f"{name} is cut short: the WAV file ends before its {what} is complete")
        data += piece
    return data


def _skip(stream: BinaryIO, size: int, name: str) -> None:
    if _skip_some(stream, size) < size:
        raise InputError(f"{name} is cut short: the WAV file ends before its 'data' chunk")


def _skip_some(stream: BinaryIO, size: int) -> int:
    """Read past `size` bytes without keeping them; return how many were there."""
    left = size
    while left and (piece := stream.read(min(left, 65536))):
        left -= len(piece)
    return size - left
