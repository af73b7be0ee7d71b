"""Speed of the recogniser on one thread, side by side with PocketSphinx and the memory-bandwidth floor.

    python -m tests.benchmarks.speed [--model rnnt]

Needs `pip install pocketsphinx==5.1.1`. The published sizes are timed by `tests.benchmarks.mobile`. Times drift by half
between runs on a shared machine: read the ratios.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ondevice.audio import read_audio
from ondevice.bench import bandwidth_bytes_per_s
from ondevice.recognizer import Recognizer, RecognizerConfig

SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
REPEATS = 3


def _timed(function: object) -> float:
    began = time.perf_counter()
    function()  # type: ignore[operator]
    return time.perf_counter() - began


def stream_seconds(recognizer: Recognizer, samples: np.ndarray) -> float:
    """Time to hear samples in chunks of one encoder step, as a microphone would bring them."""
    step = recognizer.manifest.step_samples

    def run() -> None:
        stream = recognizer.stream()
        for start in range(0, len(samples), step):
            stream.accept(samples[start : start + step])
            stream.result()
        stream.finish()

    return _timed(run)


def least(hear: Callable[[], Callable[[np.ndarray], float]], audio: Sequence[np.ndarray]) -> float:
    """Seconds for several recordings, each the least of a few times, every time by what `hear` makes anew."""
    times = []
    for _ in range(REPEATS):
        seconds = hear()
        times.append([seconds(samples) for samples in audio])
    return float(np.min(times, axis=0).sum())


def small(model: str) -> None:
    """The shipped model over the sample recordings, beside PocketSphinx."""
    from tests.benchmarks.pocketsphinx_peer import pocketsphinx

    rows = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()]
    audio = [read_audio(SAMPLES / row["file"]) for row in rows]
    audio_s = sum(map(len, audio)) / 16_000

    def peer() -> Callable[[np.ndarray], float]:
        recognize = pocketsphinx()
        return lambda samples: _timed(lambda: recognize(samples))

    def ours(config: RecognizerConfig) -> Callable[[np.ndarray], float]:
        recognizer = Recognizer.load(model, config)  # one that has heard them remembers what its language model said
        return lambda samples: stream_seconds(recognizer, samples)

    sphinx = least(peer, audio) / audio_s
    bandwidth = bandwidth_bytes_per_s()
    print(f"{audio_s:.0f} s of speech, one thread; memory {bandwidth / 1e9:.1f} GB/s")
    print(f"{'':<24} {'RTF':>8}  {'of PocketSphinx':>16}")
    print(f"{'PocketSphinx 5.1.1':<24} {sphinx:8.4f}  {1:16.2f}")
    manifest = Recognizer.load(model).manifest
    for beam in (1, None):
        config = RecognizerConfig(beam=beam)
        name = f"{model}, greedy" if beam == 1 else f"{model}, beam {manifest.search.get('beam', 4):g}"
        rtf = least(partial(ours, config), audio) / audio_s
        print(f"{name:<24} {rtf:8.4f}  {rtf / sphinx:16.2f}")
    floor = manifest.files["model.tflite"].bytes / bandwidth / manifest.step_s
    print(f"{'floor: reading weights':<24} {floor:8.4f}  {floor / sphinx:16.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rnnt")
    options = parser.parse_args()
    small(options.model)


if __name__ == "__main__":
    main()
