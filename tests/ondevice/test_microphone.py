"""The microphone and every fault it may have, from a stand-in for sounddevice."""

import contextlib
import itertools
import json
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ondevice import microphone
from ondevice.cli.devices import devices
from ondevice.errors import FailureError, InputError
from ondevice.microphone import DeviceInfo, Microphone, find_device, list_devices

RATE_HZ, BLOCK = 16_000, 960


class PortAudioError(Exception):
    pass


class FakeStream:
    """An input stream that a test feeds; it hears at `rates` and with `channels` only."""

    rates: Sequence[int] = (RATE_HZ,)
    channels: Sequence[int] = (1,)
    opened: list["FakeStream"]

    def __init__(self, *, callback: Any, finished_callback: Any, samplerate: int, channels: int, **options: Any):
        if samplerate not in self.rates or channels not in self.channels:
            raise PortAudioError("Invalid sample rate\nor channels [PaErrorCode -9997]")
        self.callback, self.finished, self.options = callback, finished_callback, options
        self.rate_hz, self.width, self.active, self.closed = samplerate, channels, False, False
        self.opened.append(self)

    def start(self) -> None:
        self.active = True

    def feed(self, samples: Any, overflow: bool = False) -> None:
        """Call back with [n] for every channel, or [n, channels], in a buffer that PortAudio uses again."""
        buffer = np.asarray(samples, np.float32)
        buffer = np.repeat(buffer[:, None], self.width, axis=1) if buffer.ndim == 1 else buffer.copy()
        self.callback(buffer, len(buffer), None, types.SimpleNamespace(input_overflow=overflow))
        buffer[:] = np.nan

    def stop(self) -> None:
        if self.active:
            self.active = False
            self.finished()

    def close(self) -> None:
        self.stop()
        self.closed = True


def device(name: str, inputs: int = 1, rate_hz: float = 16000.0) -> dict[str, Any]:
    return {"name": name, "max_input_channels": inputs, "default_samplerate": rate_hz}


DEVICES = (device("HDMI", inputs=0), device("USB Mic"), device("USB Headset\r\n(Jabra)", 2, 44100.5), device("default"))


@contextlib.contextmanager
def portaudio(
    devices: Sequence[dict[str, Any]] = DEVICES,
    default: int = 3,
    rates: Sequence[int] = (RATE_HZ,),
    channels: Sequence[int] = (1,),
) -> Iterator[type[FakeStream]]:
    """Put a stand-in in the place of sounddevice; gives the class whose `opened` holds the streams."""
    stream = type("Stream", (FakeStream,), {"rates": rates, "channels": channels, "opened": []})
    module: Any = types.ModuleType("sounddevice")
    module.query_devices = lambda: list(devices)
    module.default = types.SimpleNamespace(device=(default, -1))
    module.PortAudioError, module.InputStream = PortAudioError, stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sounddevice", module)
        yield stream


def noise(count: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, count).astype(np.float32)


def read_all(microphone: Microphone) -> Any:
    """All blocks to the end, joined."""
    blocks = list(microphone)
    assert all(block.shape == (microphone.block_samples,) and block.dtype == np.float32 for block in blocks)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.integers(1, 3000), max_size=12), block_ms=st.integers(1, 200))
def test_any_pieces_come_out_as_blocks_of_one_size(pieces: list[int], block_ms: int) -> None:
    samples = noise(sum(pieces))
    with portaudio() as streams, Microphone(block_ms=block_ms) as mic:
        for piece in np.split(samples, np.cumsum(pieces)[:-1]) if pieces else ():
            streams.opened[0].feed(piece)
        mic.stop()
        heard = read_all(mic)
    assert mic.block_samples == block_ms * 16
    assert len(heard) - len(samples) in range(mic.block_samples)
    np.testing.assert_array_equal(heard[: len(samples)], samples)
    assert not heard[len(samples) :].any()


def test_samples_that_nobody_reads_are_dropped_and_counted() -> None:
    samples = noise(12 * RATE_HZ)
    with portaudio() as streams, Microphone() as mic:
        for piece in np.split(samples, 120):
            streams.opened[0].feed(piece)
        assert (mic.dropped_samples, mic.overflows) == (2 * RATE_HZ, 20)
        first = next(iter(mic))
        np.testing.assert_array_equal(first, samples[:BLOCK])
        streams.opened[0].feed(samples[:1600])  # there is room again
        mic.stop()
        heard = read_all(mic)
        assert (mic.dropped_samples, mic.overflows) == (2 * RATE_HZ, 20)
    expected = np.concatenate([samples[BLOCK : 10 * RATE_HZ], samples[:1600]])
    np.testing.assert_array_equal(heard[: len(expected)], expected)


def test_overflows_of_the_driver_are_counted_and_the_samples_kept() -> None:
    with portaudio() as streams, Microphone() as mic:
        for overflow in (False, True, True, False):
            streams.opened[0].feed(noise(BLOCK), overflow)
        mic.stop()
        assert len(list(mic)) == 4
    assert (mic.dropped_samples, mic.overflows) == (0, 2)


def test_a_device_that_refuses_16_khz_is_opened_at_its_rate_and_resampled() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 48_000) / 48_000)
    with portaudio([device("Studio", 2, 48_000.0)], 0, rates=(48_000,)) as streams, Microphone() as mic:
        for piece in np.split(tone, 20):
            streams.opened[0].feed(piece)
        mic.stop()
        heard = read_all(mic)
    assert streams.opened[0].rate_hz == 48_000
    assert len(heard) - 2 * RATE_HZ in range(BLOCK)
    settled = np.arange(RATE_HZ // 2, 2 * RATE_HZ - 160)  # but for 10 ms at the end, where the tone breaks off
    np.testing.assert_allclose(heard[settled], 0.5 * np.sin(2 * np.pi * 440 * settled / RATE_HZ), atol=0.01)


def test_dropped_samples_are_counted_at_the_rate_of_the_blocks() -> None:
    with portaudio([device("Studio", 1, 48_000.0)], 0, rates=(48_000,)) as streams, Microphone() as mic:
        for _ in range(11):
            streams.opened[0].feed(np.zeros(48_000))
        assert mic.dropped_samples == RATE_HZ


def test_a_device_without_mono_is_mixed() -> None:
    with portaudio([device("Stereo", 2)], 0, channels=(2,)) as streams, Microphone() as mic:
        streams.opened[0].feed(np.tile([0.25, 0.75], (BLOCK, 1)))
        np.testing.assert_allclose(next(iter(mic)), 0.5)


def test_a_device_that_cannot_be_opened_is_named_with_the_reason() -> None:
    with portaudio(rates=()), pytest.raises(FailureError) as error, Microphone("usb mic"):
        pass
    assert str(error.value) == (
        "microphone USB Mic cannot be opened (Invalid sample rate or channels [PaErrorCode -9997]); "
        "expected it free to record"
    )


def test_a_stream_that_ends_raises_after_all_blocks() -> None:
    samples = noise(2 * BLOCK + 100)
    with portaudio() as streams, Microphone() as mic:
        streams.opened[0].feed(samples)
        streams.opened[0].finished()
        heard = list(itertools.islice(mic, 3))
        for _ in range(2):
            with pytest.raises(FailureError, match=r"^microphone default stopped after 0\.1 s; expected"):
                next(mic)
    np.testing.assert_array_equal(np.concatenate(heard)[: len(samples)], samples)


def test_a_stream_that_falls_silent_or_inactive_raises_after_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "_SILENT_S", 0.3)
    for active, reason in ((True, "nothing came for 0.3 s"), (False, "stopped after")):
        with portaudio() as streams, Microphone() as mic:
            streams.opened[0].feed(noise(BLOCK))
            streams.opened[0].active = active
            assert len(next(iter(mic))) == BLOCK
            with pytest.raises(FailureError, match=reason):
                next(mic)


def test_a_microphone_may_take_its_time_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "_SILENT_S", 0.1)
    with portaudio() as streams, Microphone() as mic:
        late = threading.Timer(0.5, streams.opened[0].feed, [noise(BLOCK)])
        late.start()
        np.testing.assert_array_equal(next(iter(mic)), noise(BLOCK))
        late.join()


def test_stop_in_another_thread_ends_a_waiting_loop_cleanly() -> None:
    with portaudio() as streams, Microphone() as mic:
        streams.opened[0].feed(noise(BLOCK + 1))
        stopper = threading.Timer(0.2, mic.stop)
        stopper.start()
        assert len(list(mic)) == 2
        stopper.join()
        for _ in range(12):
            streams.opened[0].feed(noise(RATE_HZ))
        assert list(mic) == []
        assert (mic.dropped_samples, mic.overflows) == (0, 0)  # nobody wants these any more
    assert streams.opened[0].closed


def test_a_loop_may_be_left_and_taken_up_again() -> None:
    samples = noise(5 * BLOCK)
    with portaudio() as streams, Microphone() as mic:
        streams.opened[0].feed(samples)
        first = list(itertools.islice(mic, 2))
        mic.stop()
        rest = list(mic)
    assert [len(first), len(rest)] == [2, 3]
    np.testing.assert_array_equal(np.concatenate([*first, *rest]), samples)


def test_misuse_is_refused() -> None:
    with portaudio():
        with pytest.raises(InputError, match="block_ms is 0"):
            Microphone(block_ms=0)
        with pytest.raises(InputError, match="rate_hz"):
            Microphone(rate_hz=0)
        mic = Microphone()
        with pytest.raises(InputError, match="not open"):
            iter(mic)
        with mic:
            pass
        with pytest.raises(InputError, match="recorded already"), mic:
            pass


def test_devices_are_found_by_index_and_part_of_the_name() -> None:
    with portaudio():
        assert list_devices() == [
            DeviceInfo(1, "USB Mic", 1, 16_000, False),
            DeviceInfo(2, "USB Headset (Jabra)", 2, 44_100, False),
            DeviceInfo(3, "default", 1, 16_000, True),
        ]
        for wanted, index in ((None, 3), (1, 1), ("2", 2), ("JABRA", 2), ("usb mic", 1), (" Default ", 3)):
            assert find_device(wanted).index == index
    with portaudio([device("hw"), device("hw:1"), device("hw:1,0")], default=-1):
        assert find_device("hw:1").index == 1
        assert find_device(None).index == 0


@pytest.mark.parametrize(
    ("wanted", "what"),
    [("usb", "fits 2"), ("", "no such"), ("hdmi", "no such"), (0, "no such"), (7, "no such"), ("-1", "no such")],
)
def test_an_unknown_or_ambiguous_device_is_refused_with_the_choice(wanted: int | str, what: str) -> None:
    with portaudio(), pytest.raises(InputError) as error:
        Microphone(wanted)
    assert str(error.value).startswith(f"device {str(wanted)!r}: {what}")
    assert str(error.value).endswith("one of: 1 (USB Mic), 2 (USB Headset (Jabra)), 3 (default)")


def run_devices(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(devices)
    return CliRunner().invoke(app, arguments)


def test_the_devices_command_prints_a_table_or_json() -> None:
    with portaudio():
        table, values = run_devices(), run_devices("--json")
    assert table.stdout.splitlines() == [
        "  index  channels  rate (Hz)  name",
        "      1         1      16000  USB Mic",
        "      2         2      44100  USB Headset (Jabra)",
        "*     3         1      16000  default",
    ]
    first = {"index": 1, "name": "USB Mic", "channels": 1, "rate_hz": 16_000, "is_default": False}
    assert json.loads(values.stdout)[0] == first


def check_failure(reason: str) -> None:
    """Both the command and the class say `reason` on one line and nothing on stdout."""
    result = run_devices()
    assert isinstance(result.exception, FailureError)
    assert reason in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""
    with pytest.raises(FailureError) as error:
        Microphone()
    assert str(error.value) == str(result.exception)


def test_no_microphone_is_a_failure_of_one_line() -> None:
    with portaudio(devices=DEVICES[:1], default=-1):
        check_failure("no microphone found")


def test_a_missing_package_or_portaudio_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    check_failure("pip install 'ondevice[audio]'")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library\\nnot found')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sounddevice")
    check_failure("(PortAudio library not found); apt-get install libportaudio2")
