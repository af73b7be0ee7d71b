"""Loudspeakers, through PortAudio: samples are written as they are made and heard in real time.

`sounddevice` loads PortAudio as it is imported, so it is imported when first needed.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import FailureError, InputError
from ondevice.portaudio import fitting, one_line, sound_library
from ondevice.quiet import quiet_stderr

Float32 = npt.NDArray[np.float32]
_LATENCY_S = 0.1
_PIECE_S = 0.05  # written at a time, so that a stop is heeded soon


def find_output(wanted: int | str | None = None) -> tuple[int | None, str]:
    """Index and name of the output device with an index or with `wanted` in its name; None: the default.

    Raises InputError if none or several fit, and FailureError if there is no output device at all.
    """
    sounddevice = sound_library()
    try:
        devices = list(enumerate(sounddevice.query_devices()))
        default = sounddevice.default.device[1]
    except sounddevice.PortAudioError as error:
        raise FailureError(
            f"the loudspeakers cannot be listed ({one_line(error)}); expected a working PortAudio"
        ) from None
    outputs = [(index, one_line(d["name"])) for index, d in devices if d["max_output_channels"] > 0]
    if not outputs:
        raise FailureError("no loudspeaker found; expected an output device, or --output FILE")
    if wanted is None:
        return next(((index, name) for index, name in outputs if index == default), outputs[0])
    found = fitting(outputs, str(wanted).strip().casefold())
    if len(found) == 1:
        return found[0]
    what = f"fits {len(found)} loudspeakers" if found else "no such loudspeaker"
    there = ", ".join(f"{index} ({name})" for index, name in outputs)
    raise InputError(f"device {str(wanted)!r}: {what}; expected the index or a part of the name of one of: {there}")


class Loudspeaker:
    """One playback: a context manager whose `write` returns when the samples are on their way."""

    def __init__(self, device: int | str | None = None, rate_hz: int = 24_000) -> None:
        """Choose the device as `find_output` does; it is opened by the `with` block."""
        self.index, self.name = find_output(device)
        self.rate_hz = rate_hz
        self.underflows = 0  # times that the device ran dry between two writes
        self._stream: Any = None
        self._stop = threading.Event()

    def __enter__(self) -> Loudspeaker:
        """Raises FailureError if the device cannot be opened."""
        sounddevice = sound_library()
        try:
            with quiet_stderr():
                self._stream = sounddevice.OutputStream(
                    device=self.index, channels=1, samplerate=self.rate_hz, dtype="float32", latency=_LATENCY_S
                )
                self._stream.start()
        except sounddevice.PortAudioError as error:
            raise FailureError(
                f"loudspeaker {self.name} cannot be opened ({one_line(error)}); expected it free to play"
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until all is heard, or break off at once when the block failed."""
        if kind is None and not self._stop.is_set():
            self._stream.stop()
        else:
            self._stream.abort()
        self._stream.close()

    def stop(self) -> None:
        """Fall silent; may be called in a signal handler or another thread."""
        self._stop.set()

    def write(self, samples: Float32) -> bool:
        """Play samples float32 [n] in -1..1; False once `stop` was called.

        Raises FailureError when the device fails.
        """
        piece = round(_PIECE_S * self.rate_hz)
        for start in range(0, len(samples), piece):
            if self._stop.is_set():
                return False
            try:
                self.underflows += bool(self._stream.write(np.ascontiguousarray(samples[start : start + piece, None])))
            except sound_library().PortAudioError as error:
                raise FailureError(
                    f"loudspeaker {self.name} stopped ({one_line(error)}); expected it to stay connected"
                ) from None
        return not self._stop.is_set()
