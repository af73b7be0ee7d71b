"""Recordings for the toy recogniser, and hearing them in any pieces."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ondevice.assets import sha256_of
from ondevice.endpoint import EndpointConfig
from ondevice.recognizer import Stream
from ondevice.results import Result
from tests.ondevice.toy import manifest_values, write_manifest

RATE_HZ = 16_000
STEP_S = 0.06  # the toy's encoder takes two stacked frames of three hops of 10 ms
HASTY = EndpointConfig(silence_s=0.3, nothing_s=0.6, longest_s=2.0)
OFF = EndpointConfig(silence_s=0)


def recording(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones between pauses, float32 [n]: the toy hears words in them, and endpoints."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.001, round(seconds * RATE_HZ))
    for start in range(0, len(samples), RATE_HZ):
        end = min(start + RATE_HZ // 2, len(samples))
        samples[start:end] += 0.3 * np.sin(np.arange(end - start) * rng.uniform(0.02, 0.5))
    return samples.astype(np.float32)


AUDIO = recording(4.03)  # ends within a step


def chunks(samples: np.ndarray, sizes: Iterable[int]) -> Iterator[np.ndarray]:
    """Pieces of these sizes, then the rest."""
    start = 0
    for size in sizes:
        yield samples[start : start + size]
        start += size
    yield samples[start:]


def hear(stream: Stream, pieces: Iterable[np.ndarray]) -> list[Result]:
    """All utterances of a stream, empty ones too."""
    results = []
    for piece in pieces:
        stream.accept(piece)
        while stream.result().endpoint:
            results.append(stream.finish())
            stream.reset()
    results.append(stream.finish())
    return results


def add_lm(directory: Path, search: dict[str, float]) -> None:
    values, lm = manifest_values(directory), directory / "lm.npz"
    values["files"]["lm.npz"] = {"sha256": sha256_of(lm), "bytes": lm.stat().st_size}
    values["search"] |= search
    write_manifest(directory, values)
