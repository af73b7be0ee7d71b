"""Sound files and streams: what is decoded, in any chunks, and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ondevice.audio import StreamingResampler, duration_s, read_audio, stream_audio, to_mono_float
from ondevice.errors import InputError

RATE_HZ = 16_000
LOSSLESS = [
    ("WAV", "PCM_U8", 2**-7),
    ("WAV", "PCM_16", 2**-15),
    ("WAV", "PCM_24", 2**-23),
    ("WAV", "PCM_32", 2**-24),
    ("WAV", "FLOAT", 0.0),
    ("WAV", "DOUBLE", 2**-24),
    ("WAV", "ULAW", 0.02),
    ("WAVEX", "PCM_24", 2**-23),
    ("RF64", "PCM_16", 2**-15),
    ("FLAC", "PCM_16", 2**-15),
    ("FLAC", "PCM_24", 2**-23),
]
LOSSY = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "IMA_ADPCM")]


def speech_like(seconds: float = 1.0, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    """Return float32[n, channels]: a gliding tone of 200 to 400 Hz, a little different in each channel."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = [0.5 * np.sin(2 * np.pi * (200 + 100 * time + 10 * c) * time) for c in range(channels)]
    return np.stack(tones, axis=1).astype(np.float32)


@pytest.mark.parametrize(("kind", "subtype", "error"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_files_decode_to_what_was_written(tmp_path, kind, subtype, error, channels):
    x = speech_like(channels=channels)
    path = tmp_path / "speech"
    soundfile.write(path, x, RATE_HZ, format=kind, subtype=subtype)
    y = read_audio(path)
    assert y.dtype == np.float32
    assert y.shape == (RATE_HZ,)
    np.testing.assert_allclose(y, x.mean(axis=1), atol=error + 1e-7)
    assert duration_s(path) == 1.0


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_samples_are_scaled_just_as_libsndfile_scales_them(tmp_path, subtype, endian):
    path = tmp_path / "noise.wav"
    x = np.random.default_rng(0).uniform(-1, 1, 4000)
    soundfile.write(path, x, RATE_HZ, subtype=subtype, endian=endian)
    np.testing.assert_array_equal(read_audio(path), soundfile.read(path, dtype="float32")[0])


@pytest.mark.parametrize(("kind", "subtype"), LOSSY)
@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
def test_lossy_files_decode_near_what_was_written_and_without_delay(tmp_path, kind, subtype, rate_hz):
    path = tmp_path / "speech"
    soundfile.write(path, speech_like(2, rate_hz), rate_hz, format=kind, subtype=subtype)
    x, y = speech_like(2)[:, 0], read_audio(path)
    assert 0 <= len(y) - len(x) < 1000  # ADPCM fills its last block
    assert duration_s(path) == pytest.approx(len(y) / RATE_HZ, abs=1e-3)
    n = min(len(x), len(y)) - 2000
    assert np.sqrt(np.mean((y[:n] - x[:n]) ** 2)) < 0.05


@pytest.mark.parametrize("rate_hz", [1000, 8000, 11025, 12345, 22050, 44100, 48000, 96000, 768000])
def test_any_rate_becomes_the_rate_asked_for(tmp_path, rate_hz):
    path = tmp_path / "speech.wav"
    x = speech_like(0.5, rate_hz)[:, 0]
    soundfile.write(path, x, rate_hz, subtype="FLOAT")
    y = read_audio(path)
    assert abs(len(y) - RATE_HZ // 2) <= 1
    np.testing.assert_allclose(y, soxr.resample(x, rate_hz, RATE_HZ)[: len(y)], atol=1e-6)
    assert abs(len(read_audio(path, 8000)) - 4000) <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 64])
def test_channels_are_averaged(tmp_path, channels):
    path = tmp_path / "many.wav"
    x = np.random.default_rng(1).uniform(-0.9, 0.9, (5000, channels)).astype(np.float32)
    soundfile.write(path, x, RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(path), x.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_24"), ("FLAC", "PCM_16"), *LOSSY])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_streaming_gives_the_samples_of_read_audio_in_blocks(tmp_path, kind, subtype, rate_hz):
    path = tmp_path / "speech"
    rate_hz = 48000 if subtype == "OPUS" else rate_hz
    soundfile.write(path, speech_like(3, rate_hz, 2), rate_hz, format=kind, subtype=subtype)
    whole = read_audio(path)
    for block_ms in (1, 60, 700):
        blocks = list(stream_audio(path, block_ms=block_ms))
        assert {len(block) for block in blocks[:-1]} <= {RATE_HZ * block_ms // 1000}
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


@settings(max_examples=40, deadline=None)
@given(
    input_hz=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96001]),
    cuts=st.lists(st.integers(0, 30000), max_size=12),
    seed=st.integers(0, 9),
)
def test_any_chunks_resample_to_the_same_bits(input_hz, cuts, seed):
    x = np.random.default_rng(seed).uniform(-1, 1, 30000).astype(np.float32)
    resampler = StreamingResampler(input_hz, RATE_HZ)
    whole = np.concatenate([resampler.accept(x), resampler.finish()])
    pieces = [resampler.accept(piece) for piece in np.split(x, sorted(cuts))]  # the same one, ready again
    np.testing.assert_array_equal(np.concatenate([*pieces, resampler.finish()]), whole)
    assert abs(len(whole) - 30000 * RATE_HZ / input_hz) <= 1
    assert np.abs(whole).max() <= 1


def test_resampling_a_constant_keeps_it_and_accepts_channels():
    resampler = StreamingResampler(48000, RATE_HZ)
    stereo = np.full((48000, 2), [0.5, 0.25], np.float32)
    y = np.concatenate([resampler.accept(stereo), resampler.finish()])
    np.testing.assert_allclose(y[1000:-1000], 0.375, atol=1e-4)
    assert len(StreamingResampler(48000, RATE_HZ).finish()) == 0


@pytest.mark.parametrize("rate_hz", [-1, 0, 999, 768001, 10**9])
def test_absurd_rates_are_refused(rate_hz, tmp_path):
    with pytest.raises(InputError, match=r"expected a sample rate of 1000 to 768000 Hz"):
        StreamingResampler(rate_hz, RATE_HZ)
    soundfile.write(tmp_path / "a.wav", speech_like(), RATE_HZ)
    with pytest.raises(InputError, match="expected a sample rate"):
        stream_audio(tmp_path / "a.wav", rate_hz)
    with pytest.raises(InputError, match="block_ms"):
        stream_audio(tmp_path / "a.wav", block_ms=0)


def test_integers_are_scaled_by_their_full_scale_and_floats_clipped():
    full = to_mono_float(np.array([-32768, 0, 16384], np.int16))
    np.testing.assert_array_equal(full, np.float32([-1, 0, 0.5]))
    np.testing.assert_array_equal(to_mono_float(np.array([[-(2**31), 0]], np.int32)), np.float32([-0.5]))
    np.testing.assert_array_equal(to_mono_float(np.array([1.5, -3.0, 0.25])), np.float32([1, -1, 0.25]))
    assert to_mono_float(np.zeros(0, np.int16)).shape == (0,)


@pytest.mark.parametrize(
    ("samples", "line"),
    [
        (np.array([0, np.nan]), "live: sample 1 is not a number; expected finite samples in -1..1"),
        (np.array([[0, 0], [0, -np.inf]]), "live: sample 1 is infinite; expected finite samples in -1..1"),
        (np.array([0, 0, 12000.0]), "live: sample 2 is 12000; expected finite samples in -1..1"),
        (np.array([1e300]), "live: sample 0 is infinite; expected finite samples in -1..1"),
        (np.zeros((2, 2, 2)), "live: an array of shape [2, 2, 2]; expected [n] or [n, channels]"),
        (np.zeros((2, 0)), "live: 0 channels; expected 1 to 64"),
        (np.zeros(2, np.uint8), "live: samples of type uint8; expected int16, int32 or floats in -1..1"),
        (np.array(["a"]), "live: samples of type <U1; expected int16, int32 or floats in -1..1"),
    ],
)
def test_bad_samples_are_refused_in_one_line(samples, line):
    with pytest.raises(InputError) as caught:
        to_mono_float(samples, "live")
    assert str(caught.value) == line


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=400),
    head=st.sampled_from([b"", b"fLaC", b"OggS\0\2", b"ID3\4\0\0", b"\xff\xfb\x90\0"]),
)
@example(data=b"", head=b"")
def test_any_bytes_are_samples_or_an_input_error(tmp_path_factory, data, head):
    path = tmp_path_factory.getbasetemp() / "any.wav"
    path.write_bytes(head + data)
    _samples_or_input_error(path)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> dict[str, bytes]:
    path, files = tmp_path_factory.mktemp("encoded") / "speech", {}
    for kind, subtype in [("WAV", "PCM_16"), ("RF64", "FLOAT"), ("FLAC", "PCM_16"), *LOSSY]:
        soundfile.write(path, speech_like(0.3), RATE_HZ, format=kind, subtype=subtype)
        files[f"{kind} {subtype}"] = path.read_bytes()
    return files


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_real_file_gives_samples_or_an_input_error(tmp_path_factory, encoded, data):
    damaged = bytearray(encoded[data.draw(st.sampled_from(sorted(encoded)))])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    start = data.draw(st.integers(0, 60))  # most of what matters stands in the first bytes
    damaged[start : start + 4] = data.draw(st.binary(max_size=8))
    path = tmp_path_factory.getbasetemp() / "damaged.wav"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    _samples_or_input_error(path)


def _samples_or_input_error(path: Path) -> None:
    for source in (path, io.BytesIO(path.read_bytes())):  # as a file, and as a pipe would bring it
        samples, line = np.zeros(0, np.float32), None
        try:
            samples = np.concatenate(list(stream_audio(source)))
        except InputError as error:
            line = str(error)
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert np.isfinite(samples).all()
        assert (line is None) == (len(samples) > 0)
        assert line is None or ("\n" not in line and line.startswith((str(path), "audio stream")))


def test_an_hour_streams_in_little_memory(tmp_path):
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, format="FLAC", compression_level=0.0) as file:
        for _ in range(60):
            file.write(np.zeros(60 * RATE_HZ, np.int16))
    assert duration_s(path) == 3600
    tracemalloc.start()
    try:
        assert sum(len(block) for block in stream_audio(path, block_ms=500)) == 3600 * RATE_HZ
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


def test_a_live_stream_yields_each_block_before_the_next_has_come():
    reader, writer = os.pipe()
    blocks, arrived = [], threading.Event()

    def listen() -> None:
        with os.fdopen(reader, "rb") as stream:
            for block in stream_audio(stream):
                blocks.append(block)
                arrived.set()

    thread = threading.Thread(target=listen)
    thread.start()
    with os.fdopen(writer, "wb", buffering=0) as stream:
        for count in (1, 2, 3):
            stream.write(np.full(960, count, np.int16).tobytes())
            assert arrived.wait(5)
            arrived.clear()
            assert len(blocks) == count
        stream.write(b"\1\0\2")  # cut inside a sample
    thread.join(5)
    np.testing.assert_array_equal(np.concatenate(blocks) * 32768, np.repeat([1, 2, 3, 1], [960, 960, 960, 1]))


def test_standard_input_is_read_through_a_real_pipe(tmp_path):
    script = "import sys; from ondevice.audio import stream_audio; import numpy as np; "
    script += "sys.stdout.buffer.write(np.concatenate(list(stream_audio('-'))).tobytes())"
    x = (speech_like()[:, 0] * 32767).astype("<i2")
    done = subprocess.run([sys.executable, "-c", script], input=x.tobytes(), capture_output=True, check=True)
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), to_mono_float(x))


def test_importing_needs_no_audio_library():
    script = "import sys; import ondevice.audio; "
    script += "assert not {'soundfile', 'soxr', 'sounddevice'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
