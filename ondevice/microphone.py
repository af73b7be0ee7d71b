"""Microphones, through PortAudio: which there are, and what one hears as blocks of one size.

PortAudio's callback copies its samples into a queue and returns; all other work is done by the thread that iterates.
The package `sounddevice` loads PortAudio as it is imported, so it is imported when first needed.

    with Microphone(None) as microphone:
        for block in microphone:
            stream.accept(block)
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.audio import RATE_HZ, Samples, StreamingResampler
from ondevice.containers import check_rate
from ondevice.errors import FailureError, InputError
from ondevice.portaudio import fitting, one_line, sound_library
from ondevice.quiet import quiet_stderr

NO_MICROPHONE = "no microphone found; expected an input device that is connected and switched on"

_QUEUE_S = 10  # audio that may wait for a busy reader before samples are dropped
_LATENCY_S = 0.1  # the driver's buffer: how long the callback may be kept waiting before the driver drops samples
_POLL_S = 0.1
_FIRST_S = 5.0  # a wireless headset or a sleeping sound server may take seconds to begin
_SILENT_S = 2.0  # then a callback is due many times a second
_CLOSE_S = 2.0


@dataclass(frozen=True)
class DeviceInfo:
    """An input device as PortAudio lists it."""

    index: int
    name: str
    channels: int  # at most
    rate_hz: int  # its default rate
    is_default: bool


def list_devices() -> list[DeviceInfo]:
    """Return the input devices, perhaps none, as they were when PortAudio was loaded.

    Raises FailureError where sounddevice or PortAudio is missing.
    """
    sounddevice = sound_library()
    try:
        default, devices = sounddevice.default.device[0], sounddevice.query_devices()
    except sounddevice.PortAudioError as error:
        raise FailureError(
            f"the microphones cannot be listed ({one_line(error)}); expected a working PortAudio"
        ) from None
    return [
        DeviceInfo(
            index,
            one_line(device["name"]),
            device["max_input_channels"],
            round(device["default_samplerate"]),
            index == default,
        )
        for index, device in enumerate(devices)
        if device["max_input_channels"] > 0
    ]


def find_device(wanted: int | str | None = None) -> DeviceInfo:
    """Return the input device with an index or with `wanted` in its name, whatever the case; None: the default.

    Raises InputError if none or several fit, and FailureError if there is no input device at all.
    """
    devices = list_devices()
    if not devices:
        raise FailureError(NO_MICROPHONE)
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    named = [(device.index, device.name) for device in devices]
    found = [devices[named.index(each)] for each in fitting(named, str(wanted).strip().casefold())]
    if len(found) == 1:
        return found[0]
    what = f"fits {len(found)} microphones" if found else "no such microphone"
    there = ", ".join(f"{device.index} ({device.name})" for device in devices)
    raise InputError(f"device {str(wanted)!r}: {what}; expected the index or a part of the name of one of: {there}")


class Microphone:
    """One recording: a context manager to iterate over, float32[rate_hz * block_ms / 1000] in -1..1 a time.

    The last block is filled up with zeros. A device that cannot do `rate_hz` is opened at its own rate and resampled,
    one with several channels is mixed to mono. A loop over it may be left and taken up again.

    When the device goes away, iterating raises FailureError, after all that was captured has been yielded.
    """

    def __init__(self, device: int | str | None = None, rate_hz: int = RATE_HZ, block_ms: int = 60) -> None:
        """Choose the device as `find_device` does; the recording begins with the `with` block.

        Raises InputError: no such device, a rate outside 1 to 768 kHz, a block under 1 ms. Raises FailureError: no
        microphone, no PortAudio.
        """
        check_rate(rate_hz, "rate_hz")
        if block_ms < 1:
            raise InputError(f"block_ms is {block_ms}; expected at least 1")
        self.device, self.rate_hz = find_device(device), rate_hz
        self.block_samples = max(1, rate_hz * block_ms // 1000)
        self._stream: Any = None
        self._queue: queue.SimpleQueue[npt.NDArray[np.float32] | None] = queue.SimpleQueue()  # None: nothing follows
        self._captured = self._dropped = self._overflows = 0  # written by the callback alone
        self._taken = 0  # written by the reader alone; both count samples at the device's rate
        self._stopping = self._over = False
        self._fault: str | None = None
        self._rest: Samples = np.zeros(0, np.float32)
        self._ready: deque[Samples] = deque()

    @property
    def dropped_samples(self) -> int:
        """Samples at `rate_hz` that were captured and lost, because nobody read for 10 s."""
        return round(self._dropped * self.rate_hz / self._resampler.input_hz) if self._dropped else 0

    @property
    def overflows(self) -> int:
        """How often audio was lost: `dropped_samples` here, or an amount unknown in the driver."""
        return self._overflows

    def __enter__(self) -> Microphone:
        """Begin to record. Raises FailureError if the device cannot be opened, InputError the second time."""
        if self._stream is not None:
            raise InputError("this Microphone has recorded already; expected a new one for each recording")
        self._stream = self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        _close(self._stream)

    def stop(self) -> None:
        """End the iteration after what has been captured; may be called in a signal handler or another thread."""
        self._stopping = True
        self._queue.put(None)  # SimpleQueue takes this even if the handler interrupted its `get`

    def __iter__(self) -> Iterator[Samples]:
        if self._stream is None:
            raise InputError("the Microphone is not open; expected a loop inside `with Microphone() as microphone`")
        return self

    def __next__(self) -> Samples:
        while not self._ready:
            if self._over and self._fault:
                raise FailureError(self._fault)
            if self._over:
                raise StopIteration
            self._read()
        return self._ready.popleft()

    def _open(self) -> Any:
        sounddevice, reason = sound_library(), ""
        wishes = [(rate, n) for n in (1, self.device.channels) for rate in (self.rate_hz, self.device.rate_hz)]
        for rate_hz, channels in dict.fromkeys(wishes):
            try:
                with quiet_stderr():  # ALSA and PortAudio print something of their own when a device refuses
                    return self._start(sounddevice, rate_hz, channels)
            except sounddevice.PortAudioError as error:
                reason = reason or one_line(error)
        raise FailureError(f"microphone {self.device.name} cannot be opened ({reason}); expected it free to record")

    def _start(self, sounddevice: Any, rate_hz: int, channels: int) -> Any:
        self._resampler = StreamingResampler(rate_hz, self.rate_hz)
        self._queue = queue.SimpleQueue()  # a failed attempt may have left its end in the queue
        stream = sounddevice.InputStream(
            device=self.device.index,
            channels=channels,
            samplerate=rate_hz,
            dtype="float32",
            latency=_LATENCY_S,
            callback=self._callback,
            finished_callback=self._finished,
        )
        try:
            stream.start()
        except sounddevice.PortAudioError:
            stream.close()
            raise
        return stream

    def _callback(self, samples: npt.NDArray[np.float32], frames: int, _time: Any, status: Any) -> None:
        if self._stopping:
            return
        full = self._captured - self._taken + frames > _QUEUE_S * self._resampler.input_hz
        if full:
            self._dropped += frames
        else:
            self._captured += frames
            self._queue.put(samples.copy())
        if full or status.input_overflow:
            self._overflows += 1

    def _finished(self) -> None:
        self._queue.put(None)  # behind the last samples: PortAudio's callback comes no more

    def _read(self) -> None:
        """Take one piece from the queue and make blocks of it, or see that there are no more."""
        samples = self._wait()
        if samples is not None:
            self._taken += len(samples)
            self._split(self._resampler.accept(samples))
            return
        self._over = True
        if not self._stopping and self._fault is None:
            after_s = self._taken / self._resampler.input_hz
            self._fault = f"microphone {self.device.name} stopped after {after_s:.1f} s; expected it to stay connected"
        self._split(self._resampler.finish())
        if len(self._rest):
            self._split(np.zeros(self.block_samples - len(self._rest), np.float32))

    def _wait(self) -> npt.NDArray[np.float32] | None:
        limit_s = _SILENT_S if self._taken else _FIRST_S
        # Turns are counted, not time: a process that was suspended finds its microphone well.
        for _ in range(round(limit_s / _POLL_S)):
            active = self._active()  # asked before the queue, or the last samples might come in between
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=_POLL_S)
            if not active:
                return None
        self._fault = f"microphone {self.device.name}: nothing came for {limit_s:g} s; expected it to stay connected"
        return None

    def _active(self) -> bool:
        with contextlib.suppress(sound_library().PortAudioError):
            return bool(self._stream.active)
        return False

    def _split(self, samples: Samples) -> None:
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) - len(joined) % self.block_samples
        self._ready.extend(joined[:whole].reshape(-1, self.block_samples))
        self._rest = joined[whole:].copy()


def _close(stream: Any) -> None:
    """Stop and close, but do not wait for a driver that hangs: PortAudio would, for ever."""

    def close() -> None:
        stream.stop()
        stream.close()

    thread = threading.Thread(target=close, name="close-microphone", daemon=True)
    thread.start()
    thread.join(_CLOSE_S)
    if thread.is_alive():
        atexit.unregister(getattr(sound_library(), "_exit_handler", close))  # it would wait for the same driver
