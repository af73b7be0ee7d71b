"""A stream that never ends keeps its size: audio fed faster than real time, memory watched."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ondevice.assets import load_manifest
from ondevice.endpoint import EndpointConfig
from ondevice.recognizer import Recognizer, RecognizerConfig
from ondevice.utterances import read_utterances

RATE_HZ = 16_000
GROWTH_MB = 8.0
SHIPPED_GROWTH_MB = 16.0  # some 12 MB come with the longest utterance, whenever that is


def resident_mb() -> float:
    """Resident memory of this process now, MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def ten_seconds(rng: np.random.Generator) -> np.ndarray:
    """Bursts of tones and noise between silences, as speech and pauses come."""
    samples = rng.normal(0, 0.001, 10 * RATE_HZ)
    for start in range(0, 8 * RATE_HZ, RATE_HZ):
        pitch = rng.uniform(0.02, 0.5)
        samples[start : start + RATE_HZ // 2] += 0.3 * np.sin(np.arange(RATE_HZ // 2) * pitch)
    return samples.astype(np.float32)


def soak(model: Path, minutes: float, endpoint: EndpointConfig) -> float:
    """Growth of memory in MB from the first tenth to the end of so many minutes of audio."""
    recognizer = Recognizer(load_manifest(model), RecognizerConfig(beam=4, endpoint=endpoint))
    stream, rng = recognizer.stream(), np.random.default_rng(0)
    rounds = max(10, round(minutes * 6))
    early = 0.0
    for number in range(rounds):
        samples = ten_seconds(rng)
        for start in range(0, len(samples), 1600):
            stream.accept(samples[start : start + 1600])
            while stream.result().endpoint:
                stream.finish()
                stream.reset()
        if number == rounds // 10:
            early = resident_mb()
    return resident_mb() - early


def speech(data: Path, minutes: float) -> Iterator[np.ndarray]:
    """So many minutes of recordings, no two alike."""
    left = minutes * 60 * RATE_HZ
    for utterance in read_utterances([data / "asr_librispeech", data / "asr_librispeech_tc100"], "train"):
        samples = utterance.samples(RATE_HZ)
        left -= len(samples)
        yield samples
        if left < 0:
            return


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    "minutes", [pytest.param(4, id="minutes"), pytest.param(60, id="an hour", marks=pytest.mark.slow)]
)
def test_memory_of_the_shipped_model_does_not_grow_with_new_speech(data: Path, minutes: float) -> None:
    """Words that were never said before, for its language model and second pass remember what was."""
    stream = Recognizer.load("rnnt").stream()
    early, heard = 0.0, 0
    for samples in speech(data, minutes):
        for start in range(0, len(samples), 1600):
            stream.accept(samples[start : start + 1600])
            while stream.result().endpoint:
                stream.finish()
                stream.reset()
        heard += len(samples)
        if not early and heard > 100 * RATE_HZ:
            early = resident_mb()
    assert resident_mb() - early < SHIPPED_GROWTH_MB


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    "minutes", [pytest.param(3, id="minutes"), pytest.param(60, id="an hour", marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_the_length_of_the_stream(toy_asset: Path, minutes: float) -> None:
    assert soak(toy_asset, minutes, EndpointConfig()) < GROWTH_MB
