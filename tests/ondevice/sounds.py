"""Sound files of every kind, short ones and one that lasts too long."""

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000
KINDS = {
    "a.wav": (44_100, 2, "PCM_24"), "b.flac": (22_050, 1, "PCM_16"), "c.ogg": (48_000, 2, "VORBIS"),
    "d.opus": (48_000, 1, "OPUS"), "e.mp3": (44_100, 1, "MPEG_LAYER_III"),
}  # fmt: skip


def sound(seconds: float, rate_hz: int = RATE_HZ, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Tones between pauses, [n, channels]."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = 0.3 * np.sin(2 * np.pi * time_s * (300 + 200 * seed + 150 * np.floor(time_s * 4)))
    noise = np.random.default_rng(seed).normal(0, 0.001, (len(time_s), channels))
    return (tones * (time_s % 2.4 < 1.2))[:, None] + noise


def ten_hours_of_silence(path: Path) -> Path:
    """Ten hours long, and next to nothing on the disk."""
    soundfile.write(path, sound(1.0), RATE_HZ, "PCM_16")
    header, size = path.read_bytes()[:44], 10 * 3600 * RATE_HZ * 2
    with path.open("r+b") as file:
        file.write(header[:4] + (size + 36).to_bytes(4, "little") + header[8:40] + size.to_bytes(4, "little"))
        file.truncate(44 + size)
    return path
