"""Broken sound files, and sound through pipes: one clear line each, and nothing half heard in silence."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import threading

import numpy as np
import pytest
import soundfile

from ondevice.audio import duration_s, read_audio, stream_audio
from ondevice.errors import FailureError, InputError

RATE_HZ = 16_000
EXPECTED = "expected WAV, FLAC, Ogg (Vorbis or Opus) or MP3"


def noise(seconds: float = 1.0) -> np.ndarray:
    """Return float32[n] noise: no two places in it decode alike."""
    return np.random.default_rng(3).uniform(-0.5, 0.5, round(seconds * RATE_HZ)).astype(np.float32)


def encode(kind: str, subtype: str, seconds: float = 1.0, **options: object) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE_HZ, 1, format=kind, subtype=subtype, **options) as file:
        file.write(noise(seconds))
    return buffer.getvalue()


def wav(
    data: bytes = bytes(3200),
    *,
    tag: int = 1,
    channels: int = 1,
    rate_hz: int = RATE_HZ,
    bits: int = 16,
    data_bytes: int | None = None,
    riff_bytes: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Return a WAV file as written by hand, honest unless told otherwise."""
    frame = channels * (bits // 8)
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate_hz, rate_hz * frame & 0xFFFFFFFF, frame, bits)
    size = len(data) if data_bytes is None else data_bytes
    body = before + fmt + struct.pack("<4sI", b"data", size) + data + after
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body) if riff_bytes is None else riff_bytes, b"WAVE") + body


def refusal(path) -> str:
    """Return the one line, without the path, with which every way of reading `path` refuses it."""
    with pytest.raises(InputError) as caught:
        read_audio(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    with pytest.raises(InputError) as caught:
        list(stream_audio(path))
    assert str(caught.value) == line
    return line.removeprefix(str(path))


@pytest.fixture
def refused(tmp_path):
    """A function that writes bytes to speech.wav and returns why they are refused."""

    def write_and_read(data: bytes) -> str:
        path = tmp_path / "speech.wav"
        path.write_bytes(data)
        return refusal(path)

    return write_and_read


def test_what_is_no_file_is_refused(tmp_path):
    assert refusal(tmp_path / "none.wav") == ": no such file; expected a sound file"
    assert refusal(tmp_path) == " is a directory; expected a sound file"
    assert "expected a readable sound file" in refusal(tmp_path / ("x" * 5000))
    with pytest.raises(InputError, match="expected a readable sound file"):
        read_audio("a\0b")
    with pytest.raises(InputError, match="no such file"):
        duration_s(tmp_path / "none.wav")


def test_what_is_no_audio_is_refused(refused):
    assert refused(b"") == f" is empty; {EXPECTED}"
    assert refused(b"hello, this is text") == f" is not a sound file (it begins with b'hello, t'); {EXPECTED}"
    assert (
        refused(b"RIFF\0\0\0\0AVI LIST")
        == f" is not a sound file (it begins with b'RIFF\\x00\\x00\\x00\\x00'); {EXPECTED}"
    )
    assert refused(bytes(5000)).startswith(" is not a sound file")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (wav(channels=0), ": 0 channels; expected 1 to 64"),
        (wav(channels=65), ": 65 channels; expected 1 to 64"),
        (wav(rate_hz=0), ": 0 Hz; expected a sample rate of 1000 to 768000 Hz"),
        (wav(rate_hz=999), ": 999 Hz; expected a sample rate of 1000 to 768000 Hz"),
        (wav(rate_hz=4_000_000_000), ": 4000000000 Hz; expected a sample rate of 1000 to 768000 Hz"),
        (wav(b""), " holds no audio; expected at least one sample"),
        (wav(b"\0"), " holds no audio; expected at least one sample"),
        (wav(b"", after=b"LIST\4\0\0\0INFO"), " holds no audio; expected at least one sample"),
        (wav(bits=64), ": a WAV file with 64-bit samples in 8 bytes for 1 channels; expected 8, 16, 24 or 32-bit "
                       "integers or 32 or 64-bit floats"),
        (wav(tag=99)[:60], " is cut short: its header promises 3200 bytes of samples, but 16 are there"),
        (wav()[:20], " is cut short: the WAV file ends before its 'fmt ' chunk is complete"),
        (wav()[:38], " is cut short: the WAV file ends before its 'data' chunk is complete"),
        (wav(before=b"junk\xff\xff\xff\x7f"), " is cut short: the WAV file ends before its 'data' chunk"),
        (wav()[:12] + wav()[36:], f": a WAV file whose samples come before any 'fmt ' chunk; {EXPECTED}"),
    ],
)  # fmt: skip
def test_wav_headers_that_cannot_be_right_are_refused(refused, data, line):
    assert refused(data) == line


@pytest.mark.parametrize("kind", ["WAV", "RF64"])
def test_a_truncated_wav_names_both_lengths(refused, kind):
    assert refused(encode(kind, "PCM_16")[:-16000]) == (
        " is cut short: its header promises 32000 bytes of samples (1.000 s), but 16000 (0.500 s) are there"
    )
    assert "promises 64000 bytes of samples (1.000 s)" in refused(encode(kind, "FLOAT")[:-8])


def test_a_wav_that_lost_half_a_sample_or_its_tags_is_whole(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(bytes(3200))[:-1])
    assert len(read_audio(path)) == 1599
    path.write_bytes(wav(bytes(3200), before=b"LIST\3\0\0\0abc\0", after=b"id3 \1\0\0\0x\0"))
    assert len(read_audio(path)) == 1600


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e4])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_not_a_number_infinite_and_undivided_samples_are_refused(tmp_path, bad, subtype):
    samples = noise().astype(np.float64)
    samples[12345] = bad
    soundfile.write(tmp_path / "bad.wav", samples, RATE_HZ, subtype=subtype)
    line = refusal(tmp_path / "bad.wav")
    assert line.startswith(": sample 12345 is ")
    assert line.endswith("; expected finite samples in -1..1")


def test_clipped_audio_is_fine(tmp_path):
    soundfile.write(tmp_path / "loud.wav", noise() * 8, RATE_HZ, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "loud.wav")).max() == 1


@pytest.mark.parametrize("kept", [0.01, 0.05, 0.5, 0.999])
@pytest.mark.parametrize(
    ("kind", "subtype", "options"),
    [
        ("FLAC", "PCM_16", {}),
        ("OGG", "VORBIS", {}),
        ("OGG", "OPUS", {}),
        ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "CONSTANT"}),
        ("MP3", "MPEG_LAYER_III", {"bitrate_mode": "VARIABLE"}),
    ],
)
def test_truncated_files_are_refused(refused, kind, subtype, options, kept):
    data = encode(kind, subtype, **options)
    line = refused(data[: int(len(data) * kept)])
    assert "cut short" in line or "corrupt" in line


@pytest.mark.parametrize("filler", [b"\0", b"\xa5"])
@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
)
def test_files_with_a_hole_in_the_middle_are_refused(refused, kind, subtype, filler):
    data = encode(kind, subtype, 4)
    middle = len(data) // 2
    line = refused(data[:middle] + filler * 1500 + data[middle + 1500 :])
    assert "cut short" in line or "corrupt" in line


def test_a_cut_flac_or_mp3_names_both_lengths(refused):
    flac, mp3 = encode("FLAC", "PCM_16", 4), encode("MP3", "MPEG_LAYER_III", 4)
    assert " s of 4.000 s" in refused(flac[: len(flac) // 2])
    assert "promises 4.1" in refused(mp3[: len(mp3) // 2])


def _mp3_without_its_length(seconds: float = 4.0, **options: object) -> bytes:
    """Return an MP3 whose first frame, which states the length, was removed: streams are recorded so."""
    data = encode("MP3", "MPEG_LAYER_III", seconds, **options)
    return data[data.index(data[:2], 64) :]


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_stated_length_is_measured_by_its_frames(tmp_path, refused, mode):
    data, path = _mp3_without_its_length(bitrate_mode=mode), tmp_path / "radio.mp3"
    path.write_bytes(data)
    assert duration_s(path) == pytest.approx(4, abs=0.1)
    assert len(read_audio(path)) / RATE_HZ == pytest.approx(duration_s(path), abs=0.15)
    assert " is cut short: the MP3 frame at byte" in refused(data[:-10])
    assert " is corrupt: no MP3 frame at byte" in refused(data + b"rubbish" * 20)


@pytest.mark.parametrize("tail", [b"TAG" + bytes(125), b"APETAGEX" + bytes(24), bytes(300)])
def test_tags_around_an_mp3_do_no_harm(tmp_path, refused, tail):
    tag, path = b"ID3\4\0\0\0\0\2\0" + bytes(256), tmp_path / "tagged.mp3"
    for data in (encode("MP3", "MPEG_LAYER_III", 2), _mp3_without_its_length(2)):
        path.write_bytes(tag + tag + bytes(10) + data + tail)
        assert len(read_audio(path)) / RATE_HZ == pytest.approx(2, abs=0.1)
    assert " is cut short: its ID3 tag promises 256 bytes, but 90 are there" in refused(tag[:100])
    assert "no MP3 frame found" in refused(tag + b"words, not music" * 100)


def test_rubbish_after_an_ogg_or_flac_file_does_no_harm(tmp_path):
    for kind, subtype in (("OGG", "OPUS"), ("OGG", "VORBIS"), ("FLAC", "PCM_16")):
        (tmp_path / "a").write_bytes(encode(kind, subtype) + b"rubbish" * 9)
        assert len(read_audio(tmp_path / "a")) == RATE_HZ


def test_flac_of_unknown_length_is_decoded_and_counted(tmp_path):
    data = bytearray(encode("FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the sample count of STREAMINFO, which an encoder writing to a pipe leaves 0
    (tmp_path / "a.flac").write_bytes(data)
    assert len(read_audio(tmp_path / "a.flac")) == RATE_HZ
    assert duration_s(tmp_path / "a.flac") == 1.0


# Streams


def heard(data: bytes, **options: int) -> np.ndarray:
    return np.concatenate(list(stream_audio(io.BytesIO(data), **options)))


@pytest.mark.parametrize("data_bytes", [0, 0xFFFFFFFF, 0xFFFFFFDB, 0x80000000, 0x7FFFF000])
@pytest.mark.parametrize("riff_bytes", [0, 0xFFFFFFFF])
def test_a_wav_of_open_length_is_read_to_its_end(tmp_path, data_bytes, riff_bytes):
    samples = (noise() * 32767).astype("<i2")
    data = wav(samples.tobytes(), data_bytes=data_bytes, riff_bytes=riff_bytes)
    np.testing.assert_array_equal(heard(data) * 32768, samples)
    (tmp_path / "recorded.wav").write_bytes(data)
    np.testing.assert_array_equal(read_audio(tmp_path / "recorded.wav") * 32768, samples)
    assert duration_s(tmp_path / "recorded.wav") == 1.0


@pytest.mark.parametrize("stated", [0, 2000, 2**64 - 1])
def test_rf64_takes_its_length_from_ds64_if_it_has_one(stated):
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, 0, stated, 0, 0)
    data = b"RF64" + wav(bytes(4000), data_bytes=0xFFFFFFFF, riff_bytes=0xFFFFFFFF, before=ds64)[4:]
    assert len(heard(data)) == (1000 if stated == 2000 else 2000)


@pytest.mark.parametrize(
    ("kind", "subtype", "endian"),
    [
        ("WAV", "PCM_16", "FILE"),
        ("WAV", "PCM_24", "BIG"),
        ("WAVEX", "FLOAT", "FILE"),
        ("RF64", "PCM_U8", "FILE"),
    ],
)
def test_a_wav_gives_the_same_samples_from_a_pipe_as_from_a_file(tmp_path, kind, subtype, endian):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([noise(), -noise() / 2], axis=1), 44100, format=kind, subtype=subtype, endian=endian)
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(path.read_bytes()))
    thread.start()
    np.testing.assert_array_equal(read_audio(tmp_path / "pipe"), read_audio(path))
    thread.join(5)
    np.testing.assert_array_equal(heard(path.read_bytes()), read_audio(path))


def test_raw_samples_are_sixteen_bits_at_the_rate_given():
    samples = np.array([1, -2, 3, -32768], "<i2")
    np.testing.assert_array_equal(heard(samples.tobytes()) * 32768, samples)
    np.testing.assert_array_equal(heard(samples.tobytes() + b"\7") * 32768, samples)
    assert len(heard(bytes(16000), raw_rate_hz=8000)) == RATE_HZ
    with pytest.raises(InputError, match="raw_rate_hz: 5 Hz"):
        stream_audio(io.BytesIO(b""), raw_rate_hz=5)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "audio stream is empty; expected a WAV or raw 16-bit little-endian mono samples"),
        (b"\1", "audio stream holds no audio; expected at least one sample"),
        (wav(b""), "audio stream holds no audio; expected at least one sample"),
        (wav(b"", data_bytes=0, riff_bytes=0), "audio stream holds no audio; expected at least one sample"),
        (b"fLaC" + bytes(99), "audio stream begins with b'fLaC'; expected a WAV or raw"),
        (b"OggS" + bytes(99), "audio stream begins with b'OggS'; expected a WAV or raw"),
        (b"ID3\4" + bytes(99), "audio stream begins with b'ID3\\x04'; expected a WAV or raw"),
        (b"RIFF\0\0\0\0AVI LIST", "audio stream: a RIFF file that holds b'AVI ', not audio; expected WAV"),
        (wav(tag=2), "audio stream: a compressed WAV; expected plain integer or float samples"),
        (wav(channels=0), "audio stream: 0 channels; expected 1 to 64"),
        (wav(b"\0\0\xc0\x7f", tag=3, bits=32), "audio stream: sample 0 is not a number"),
    ],
)
def test_bad_streams_are_refused_in_one_line(data, line):
    with pytest.raises(InputError) as caught:
        heard(data)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("rate_hz", [16000, 48000])
def test_a_stream_that_ends_early_is_heard_to_its_end_and_then_refused(rate_hz):
    data = wav(noise().astype("<f4").tobytes(), tag=3, bits=32, rate_hz=rate_hz)[: 44 + 30000]
    blocks = []

    def listen() -> None:
        for block in stream_audio(io.BytesIO(data)):
            blocks.append(block)

    with pytest.raises(InputError, match=r"promises 64000 bytes .* but 30000 \(.* s\) are there"):
        listen()
    assert sum(map(len, blocks)) == 7500 * RATE_HZ // rate_hz


def test_a_terminal_is_no_audio(monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(InputError, match="standard input is a terminal; expected a WAV or raw 16-bit samples"):
        stream_audio("-")


def test_a_missing_library_says_how_to_install_it(monkeypatch, tmp_path):
    (tmp_path / "a.flac").write_bytes(encode("FLAC", "PCM_16"))

    def missing(name: str) -> None:
        raise OSError("cannot load libsndfile.so")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(FailureError, match=r"decoding FLAC, Ogg and MP3 needs the package soundfile .*pip install"):
        read_audio(tmp_path / "a.flac")


@pytest.mark.skipif(not shutil.which("sox"), reason="needs sox")
def test_what_sox_writes_to_a_pipe_is_read():
    command = ["sox", "-V1", "-n", "-r", "16000", "-b", "16", "-t", "wav", "-", "synth", "1", "sine", "300"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(heard(data)) == RATE_HZ


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_what_ffmpeg_writes_to_a_pipe_is_read():
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "sine=300:duration=1:sample_rate=16000",
        "-f",
        "wav",
        "-",
    ]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    assert len(heard(data)) == RATE_HZ
