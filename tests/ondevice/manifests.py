"""Manifests of short sounds, for tests that read or score them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE_HZ = 16_000


def sound(milliseconds: int, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    samples = np.random.default_rng(milliseconds).uniform(-0.3, 0.3, RATE_HZ * milliseconds // 1000)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format=kind, subtype=subtype)
    return buffer.getvalue()


def write_manifest(folder: Path, rows: Sequence[dict[str, Any] | str], name: str = "manifest.jsonl") -> Path:
    """A manifest of rows; sound files of 100, 200, ... ms are written for names such as 100.wav."""
    folder.mkdir(parents=True, exist_ok=True)
    for milliseconds in range(100, 600, 100):
        (folder / f"{milliseconds}.wav").write_bytes(sound(milliseconds))
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


FINE = {"file": "100.wav", "text": "fine", "split": "test"}
