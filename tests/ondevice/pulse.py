"""A microphone without hardware: a private PulseAudio server whose default source hears what a test plays."""

import ctypes.util
import importlib.util
import os
import shutil
import signal
import site
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

RATE_HZ = 16_000
LEAD_IN_S = 2.0  # the null sink hands on audio in pieces as long as this until a recorder has asked for shorter ones
PATIENCE_S = 60.0  # for everything that takes well under a second on an idle machine


def missing() -> str | None:
    """What this computer lacks for `pulse_microphone`, if anything."""
    for program in ("pulseaudio", "pacat", "pactl"):
        if shutil.which(program) is None:
            return f"{program} is not installed (apt-get install pulseaudio pulseaudio-utils)"
    plugin = "alsa-lib/libasound_module_pcm_pulse.so"
    if not any(any(Path("/usr").glob(folder + plugin)) for folder in ("lib*/", "lib*/*/")):
        return "ALSA has no PulseAudio plugin (apt-get install libasound2-plugins)"
    if ctypes.util.find_library("portaudio") is None:
        return "PortAudio is not installed (apt-get install libportaudio2)"
    if importlib.util.find_spec("sounddevice") is None:
        return "sounddevice is not installed (pip install 'ondevice[audio]')"
    return None


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when `condition` holds; fail the test if it does not in a minute."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {PATIENCE_S:g} s for {what}")
        time.sleep(0.05)


class PulseMicrophone:
    """The running server; see `pulse_microphone`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PULSE_")},
            "XDG_RUNTIME_DIR": str(home / "run"),
            "HOME": str(home),
            "PYTHONUSERBASE": site.getuserbase(),  # what `pip install --user` put under the real HOME
        }
        (home / "run").mkdir(mode=0o700)
        (home / ".config" / "pulse").mkdir(parents=True)
        (home / ".config" / "pulse" / "client.conf").write_text("autospawn = no\n")
        self._log = (home / "log").open("wb")
        self._players: list[subprocess.Popen[bytes]] = []
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; return when programs can use it."""
        null_sink = f"module-null-sink sink_name=mic rate={RATE_HZ} channels=1"
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "-L", "module-native-protocol-unix", "-L", null_sink]
        self._server = self._start(["pulseaudio", *options])
        wait_until(self._answers, "PulseAudio to start")
        subprocess.run(["pactl", "set-default-source", "mic.monitor"], env=self.env, check=True, timeout=PATIENCE_S)

    def _start(self, command: list[str], stdin: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=self.env, stdin=stdin, stdout=self._log, stderr=self._log)

    def _answers(self) -> bool:
        if self._server is None or self._server.poll() is not None:
            pytest.fail("PulseAudio does not start: " + (self.home / "log").read_text(errors="replace"))
        command = ["pactl", "info"]
        return not subprocess.run(command, env=self.env, capture_output=True, timeout=PATIENCE_S).returncode

    def is_recorded(self) -> bool:
        """Whether a program records from the microphone now."""
        command = ["pactl", "list", "short", "source-outputs"]
        return bool(subprocess.run(command, env=self.env, capture_output=True, check=True, timeout=PATIENCE_S).stdout)

    def play(self, samples: npt.NDArray[Any], lead_in_s: float = LEAD_IN_S) -> subprocess.Popen[bytes]:
        """Let the microphone hear silence, then `samples`: mono at 16 kHz, int16 or floats in -1..1, in real time.

        First waits until a program records, so nothing is missed however long that takes to start. Returns without
        waiting for the end; `wait()` on what is returned does that.
        """
        wait_until(self.is_recorded, "a program to record from the microphone")
        if samples.dtype != np.int16:
            samples = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        sound = self.home / f"sound{len(self._players)}.raw"
        sound.write_bytes(np.concatenate([np.zeros(round(lead_in_s * RATE_HZ), np.int16), samples]).tobytes())
        form = [f"--rate={RATE_HZ}", "--channels=1", "--format=s16le", "--raw"]
        # A second ahead, so that a busy machine leaves no gaps; the recorder's own, shorter wish sets the pace.
        with sound.open("rb") as file:
            player = self._start(["pacat", "--playback", "--device=mic", "--latency-msec=1000", *form], stdin=file)
        self._players.append(player)
        return player

    def unplug(self) -> None:
        """Kill the server, which is what a microphone that is pulled out looks like to PortAudio."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def freeze(self) -> None:
        """Halt the server without closing anything: a driver that hangs."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the server and all players."""
        for process in [*self._players, self._server]:
            if process is not None:
                process.kill()
                process.wait()
        self._log.close()


@pytest.fixture
def pulse_microphone() -> Iterator[PulseMicrophone]:
    """A PulseAudio server of its own, whose default microphone hears what `play` is given.

    PortAudio looks for devices when it is loaded, so the program under test must be a new process with `env`:

        def test_what_is_said_is_printed(pulse_microphone):
            listen = subprocess.Popen([...], env=pulse_microphone.env)  # records from the device "default"
            pulse_microphone.play(samples).wait()  # waits for the recording to begin, plays, waits for the end
            listen.send_signal(signal.SIGINT)

    `unplug()` kills the server in the middle of a recording. Skips where PulseAudio or PortAudio is not installed.
    A test module takes it in with `from tests.ondevice import pulse` and `pulse_microphone = pulse.pulse_microphone`.
    """
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="mic-") as home:  # a socket's path must be short
        microphone = PulseMicrophone(Path(home))
        try:
            microphone.start()
            yield microphone
        finally:
            microphone.close()
