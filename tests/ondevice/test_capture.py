"""Real PortAudio capture from a PulseAudio server: what is played is heard, and losing it is noticed."""

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import chirp, correlate

from tests.ondevice import pulse

pulse_microphone = pulse.pulse_microphone
RATE_HZ, BLOCK = 16_000, 960
# Records until SIGTERM or a failure; says "loud" at the first loud block, and at the end what happened.
RECORDER = """
    import json, signal, sys
    import numpy as np
    from ondevice.errors import FailureError
    from ondevice.microphone import Microphone

    blocks, failure = [], None
    with Microphone("default") as microphone:
        signal.signal(signal.SIGTERM, lambda *_: microphone.stop())
        try:
            for block in microphone:
                if np.abs(block).max() > 0.1 and not (blocks and np.abs(blocks[-1]).max() > 0.1):
                    print("loud", flush=True)
                blocks.append(block)
        except FailureError as error:
            failure = str(error)
    np.save(sys.argv[1], blocks)
    print(json.dumps({"failure": failure, "dropped": microphone.dropped_samples, "overflows": microphone.overflows}))
"""


@contextlib.contextmanager
def recorder(heard: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(RECORDER), str(heard)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(process: subprocess.Popen[str], heard: Path) -> tuple[dict[str, Any], Any]:
    """What the recorder reported last, and the blocks [n, BLOCK] it heard."""
    out, err = process.communicate(timeout=pulse.PATIENCE_S)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1]), np.load(heard)


def test_a_real_capture_gives_back_what_was_played(pulse_microphone: pulse.PulseMicrophone, tmp_path: Path) -> None:
    seconds = np.arange(RATE_HZ) / RATE_HZ
    played = 0.5 * chirp(seconds, 300, 1, 3000).astype(np.float32)
    heard = tmp_path / "heard.npy"
    with recorder(heard, pulse_microphone.env) as process:
        assert pulse_microphone.play(played).wait(pulse.PATIENCE_S) == 0
        process.send_signal(signal.SIGTERM)
        end, blocks = end_of(process, heard)
    assert end["failure"] is None
    assert end["dropped"] == 0
    assert blocks.shape[1:] == (BLOCK,)
    assert blocks.dtype == np.float32
    samples = blocks.ravel()
    assert len(samples) > 2 * RATE_HZ  # the silence before it too
    match = correlate(samples, played, "valid")
    start = int(match.argmax())
    assert np.abs(samples[start : start + RATE_HZ] - played).max() < 0.01
    assert np.abs(samples[:start]).max() < 0.01


def test_an_unplugged_microphone_leaves_what_was_heard(pulse_microphone: pulse.PulseMicrophone, tmp_path: Path) -> None:
    check_lost(pulse_microphone, pulse_microphone.unplug, tmp_path / "heard.npy", "stopped after")


def test_a_hanging_driver_is_noticed_and_left_behind(pulse_microphone: pulse.PulseMicrophone, tmp_path: Path) -> None:
    check_lost(pulse_microphone, pulse_microphone.freeze, tmp_path / "heard.npy", "nothing came for 2 s")


def check_lost(pulse_microphone: pulse.PulseMicrophone, lose: Any, heard: Path, reason: str) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(120 * RATE_HZ) / RATE_HZ)
    with recorder(heard, pulse_microphone.env) as process:
        pulse_microphone.play(tone)
        assert process.stdout is not None
        assert process.stdout.readline() == "loud\n"
        lose()
        end, blocks = end_of(process, heard)
    assert reason in end["failure"]
    assert "default" in end["failure"]
    assert blocks.shape[1:] == (BLOCK,)
    assert np.abs(blocks).max() == pytest.approx(0.5, abs=0.01)


def test_the_devices_command_lists_the_real_default(pulse_microphone: pulse.PulseMicrophone) -> None:
    code = "import typer; from ondevice.cli.devices import devices; typer.run(devices)"
    command = [sys.executable, "-c", code, "--json"]
    done = subprocess.run(
        command, env=pulse_microphone.env, capture_output=True, text=True, check=True, timeout=pulse.PATIENCE_S
    )
    assert done.stderr == ""
    default = [device for device in json.loads(done.stdout) if device["is_default"]]
    assert [device["name"] for device in default] == ["default"]
