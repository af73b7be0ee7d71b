"""Speed of the recogniser on one thread, side by side with PocketSphinx and the memory-bandwidth floor.

    python -m tests.benchmarks.speed [--model rnnt] [--mobile]

`--mobile` builds the published sizes (MOBILE_80MB, random weights) and times its encoder too: that takes a minute and
1 GB of disk. Times drift by half between runs on a shared machine: read the ratios.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from ondevice.audio import read_audio
from ondevice.bench import bandwidth_bytes_per_s
from ondevice.litert import LiteRtModel, Signature
from ondevice.recognizer import Recognizer, RecognizerConfig

SAMPLES = Path(__file__).parents[2] / "assets" / "samples"
REPEATS = 5


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

    return min(_timed(run) for _ in range(REPEATS))


def step_ms(signature: Signature, steps: int = 100) -> float:
    """Median time of one step of a signature, state fed back."""
    inputs = {n: np.zeros(spec.shape, spec.dtype) for n, spec in signature.inputs.items()}
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        out = signature(inputs)
        times.append(time.perf_counter() - began)
        inputs |= {name: out[name] for name in inputs if name in out}
    return 1000 * float(np.median(times))


def small(model: str) -> None:
    """The shipped model over the sample recordings, beside PocketSphinx."""
    from tests.benchmarks.pocketsphinx_peer import pocketsphinx

    rows = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()]
    audio = [read_audio(SAMPLES / row["file"]) for row in rows]
    audio_s = sum(map(len, audio)) / 16_000
    peer = pocketsphinx()
    sphinx = sum(_timed(lambda a=a: peer(a)) for a in audio) / audio_s
    bandwidth = bandwidth_bytes_per_s()
    print(f"{audio_s:.0f} s of speech, one thread; memory {bandwidth / 1e9:.1f} GB/s")
    print(f"{'':<24} {'RTF':>8}  {'of PocketSphinx':>16}")
    print(f"{'PocketSphinx 5.1.1':<24} {sphinx:8.4f}  {1:16.2f}")
    for beam in (1, None):
        recognizer = Recognizer.load(model, RecognizerConfig(beam=beam))
        name = f"{model}, greedy" if beam == 1 else f"{model}, beam {recognizer.manifest.search.get('beam', 4):g}"
        rtf = sum(stream_seconds(recognizer, a) for a in audio) / audio_s
        print(f"{name:<24} {rtf:8.4f}  {rtf / sphinx:16.2f}")
    manifest = recognizer.manifest
    floor = manifest.files["model.tflite"].bytes / bandwidth / manifest.step_s
    print(f"{'floor: reading weights':<24} {floor:8.4f}  {floor / sphinx:16.2f}")


def mobile() -> None:
    """The published sizes with random weights: float against dynamic int8, and the floor."""
    import keras

    from export.rnnt import convert
    from models.rnnt import MOBILE_80MB, Rnnt

    keras.utils.set_random_seed(0)
    rnnt = Rnnt(MOBILE_80MB)
    rnnt.build()
    bandwidth, step_s = bandwidth_bytes_per_s(), 0.06
    print(f"MOBILE_80MB, {rnnt.count_params() / 1e6:.1f} M parameters (random), ms per 60 ms of audio, one thread")
    print(f"{'':<14} {'MB':>7} {'encoder':>9} {'predictor':>10} {'joiner':>7} {'RTF':>7} {'floor RTF':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "dynamic-int8"):
            path = Path(folder, f"{precision}.tflite")
            path.write_bytes(convert(rnnt, precision))
            model = LiteRtModel(path)
            encoder, predictor, joiner = (step_ms(model.signatures[n]) for n in ("encoder", "predictor", "joiner"))
            # greedy decoding of speech with 4 tokens a second: so many joiner and predictor calls a step
            rtf = (encoder + 1.24 * joiner + 0.24 * predictor) / 1000 / step_s
            size = path.stat().st_size
            print(
                f"{precision:<14} {size / 1e6:7.1f} {encoder:9.2f} {predictor:10.2f} {joiner:7.2f} {rtf:7.3f} "
                f"{size / bandwidth / step_s:10.3f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rnnt")
    parser.add_argument("--mobile", action="store_true")
    options = parser.parse_args()
    small(options.model)
    if options.mobile:
        mobile()


if __name__ == "__main__":
    main()
