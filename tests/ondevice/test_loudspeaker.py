"""The loudspeaker and its faults, from a stand-in for sounddevice; the real one is heard in test_speak.py."""

import sys
import types
from typing import Any

import numpy as np
import pytest

from ondevice.errors import FailureError, InputError
from ondevice.loudspeaker import Loudspeaker, find_output

RATE_HZ = 24_000
DEVICES = (
    {"name": "USB Mic", "max_output_channels": 0},
    {"name": "Speakers (front)", "max_output_channels": 2},
    {"name": "HDMI\r\nTV", "max_output_channels": 8},
    {"name": "Speakers (rear)", "max_output_channels": 2},
)


class PortAudioError(Exception):
    pass


class FakeStream:
    """An output stream that keeps what is written to it and fails where a test wants."""

    refuse = ""
    fail_after = 10**9  # pieces
    dry: frozenset[int] = frozenset()  # pieces before which it ran dry

    def __init__(self, **options: Any) -> None:
        if self.refuse:
            raise PortAudioError(self.refuse)
        self.options, self.pieces, self.calls = options, list[np.ndarray](), list[str]()
        FakeStream.last = self

    def start(self) -> None:
        self.calls.append("start")

    def write(self, samples: np.ndarray) -> bool:
        if len(self.pieces) >= self.fail_after:
            raise PortAudioError("Stream is stopped\n[PaErrorCode -9983]")
        self.pieces.append(samples.copy())
        return len(self.pieces) - 1 in self.dry

    def stop(self) -> None:
        self.calls.append("stop")

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> type[FakeStream]:
    """The class of streams that will be opened, with devices to choose from."""

    class Stream(FakeStream):
        pass

    use(monkeypatch, DEVICES, 3, Stream)
    return Stream


def use(monkeypatch: pytest.MonkeyPatch, devices: Any, default: int, stream: Any = FakeStream) -> None:
    def query() -> Any:
        if isinstance(devices, Exception):
            raise devices
        return devices

    fake = types.ModuleType("sounddevice")
    fake.PortAudioError = PortAudioError  # type: ignore[attr-defined]
    fake.query_devices = query  # type: ignore[attr-defined]
    fake.OutputStream = stream  # type: ignore[attr-defined]
    fake.default = types.SimpleNamespace(device=(0, default))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sounddevice", fake)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [(None, (3, "Speakers (rear)")), (1, (1, "Speakers (front)")), ("2", (2, "HDMI TV")), (" hdmi ", (2, "HDMI TV"))],
)
def test_a_device_is_chosen_by_index_or_part_of_its_name(
    stream: type[FakeStream], wanted: int | str | None, found: tuple[int, str]
) -> None:
    assert find_output(wanted) == found


@pytest.mark.parametrize(
    ("wanted", "what"), [("speakers", "fits 2 loudspeakers"), ("0", "no such"), ("radio", "no such")]
)
def test_a_device_that_is_not_one_is_answered_with_those_there_are(
    stream: type[FakeStream], wanted: str, what: str
) -> None:
    with pytest.raises(InputError) as caught:
        find_output(wanted)
    assert what in str(caught.value)
    assert "1 (Speakers (front)), 2 (HDMI TV), 3 (Speakers (rear))" in str(caught.value)


def test_without_a_default_the_first_output_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, DEVICES, -1)
    assert find_output() == (1, "Speakers (front)")


def test_no_output_at_all_and_a_portaudio_that_lists_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, DEVICES[:1], 0)
    with pytest.raises(FailureError, match="no loudspeaker found; expected an output device, or --output FILE"):
        find_output()
    use(monkeypatch, PortAudioError("not initialised"), 0)
    with pytest.raises(FailureError, match="cannot be listed"):
        find_output()


def test_everything_written_is_played_in_order_and_heard_to_its_end(stream: type[FakeStream]) -> None:
    stream.dry = frozenset({0, 2})
    samples = np.random.default_rng(0).uniform(-1, 1, RATE_HZ // 2 + 7).astype(np.float32)
    with Loudspeaker("hdmi") as loudspeaker:
        assert loudspeaker.write(samples[:5000])
        assert loudspeaker.write(samples[5000:])
    played = FakeStream.last
    np.testing.assert_array_equal(np.concatenate(played.pieces)[:, 0], samples)
    assert {**played.options, "latency": 0} == {
        "device": 2, "channels": 1, "samplerate": RATE_HZ, "dtype": "float32", "latency": 0,
    }  # fmt: skip
    assert played.calls == ["start", "stop", "close"]
    assert loudspeaker.underflows == 2


def test_stop_breaks_off_within_a_twentieth_of_a_second(stream: type[FakeStream]) -> None:
    with Loudspeaker() as loudspeaker:
        real = FakeStream.last.write

        def write(samples: np.ndarray) -> bool:
            if len(FakeStream.last.pieces) == 2:
                loudspeaker.stop()
            return real(samples)

        FakeStream.last.write = write  # type: ignore[method-assign]
        assert not loudspeaker.write(np.zeros(RATE_HZ, np.float32))
        assert not loudspeaker.write(np.zeros(RATE_HZ, np.float32))
    assert len(FakeStream.last.pieces) == 3
    assert max(map(len, FakeStream.last.pieces)) <= 0.05 * RATE_HZ
    assert FakeStream.last.calls == ["start", "abort", "close"]


def test_a_block_that_fails_breaks_off_and_closes(stream: type[FakeStream]) -> None:
    with pytest.raises(TypeError), Loudspeaker() as loudspeaker:
        loudspeaker.write(None)  # type: ignore[arg-type]
    assert FakeStream.last.calls == ["start", "abort", "close"]


def test_a_device_that_is_busy_or_pulled_out_is_one_line(stream: type[FakeStream]) -> None:
    stream.fail_after = 1
    with pytest.raises(FailureError) as caught, Loudspeaker() as loudspeaker:
        loudspeaker.write(np.zeros(RATE_HZ, np.float32))
    assert str(caught.value).startswith("loudspeaker Speakers (rear) stopped (Stream is stopped [PaErrorCode -9983]);")
    assert FakeStream.last.calls == ["start", "abort", "close"]
    stream.refuse = "Device unavailable\n[PaErrorCode -9985]"
    with pytest.raises(FailureError) as caught, Loudspeaker():
        pass
    assert "cannot be opened (Device unavailable [PaErrorCode -9985]); expected it free to play" in str(caught.value)
