"""The published recogniser (He et al. 2018) in every precision: its size, its speed, and how far from the memory's.

    python -m tests.benchmarks.mobile [--max-size 80MB] [--onnx]

Builds MOBILE_80MB with random weights, quantises it and times its steps on one thread; published: 450 MB to 80 MB, four
times as fast. Takes some minutes and 4 GB of memory. `--onnx` times the encoder in ONNX Runtime beside it
(`pip install -e '.[onnx]'`). Times drift by half between runs on a shared machine: read the ratios.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from export.convert import relative_error
from export.precision import Wanted, weights_of
from export.rnnt import convert, keras_steps, tflite_steps
from models.rnnt import MOBILE_80MB, Rnnt
from ondevice.audio import read_audio
from ondevice.bench import bandwidth_bytes_per_s
from ondevice.bench import weights_of as signature_weights
from ondevice.features import LogMel, stack_frames
from ondevice.graph import read_graph
from ondevice.litert import LiteRtModel, Signature
from ondevice.onnx_peer import OnnxSignature, onnx_signatures
from ondevice.recognizer import Recognizer

RECORDING = Path(__file__).parents[2] / "assets" / "samples" / "librispeech-2078-142845-0045.opus"
STEP_S = 0.06
SPEECH_S = 3.0
STEPS, WARMUP = 60, 5
HEADER = f"{'':<15} {'MB':>7} {'smaller':>8} {'encoder':>8} {'predictor':>10} {'joiner':>7} {'faster':>7} {'RTF':>6}"


def real_features(rnnt: Rnnt) -> np.ndarray:
    """Normalised stacked features [S, F] of some real speech, as the shipped recogniser takes them."""
    manifest = Recognizer.load("rnnt").manifest
    samples = read_audio(RECORDING)[: round(SPEECH_S * manifest.features.rate_hz)]
    mean, std = manifest.mean_and_std
    features = stack_frames(((LogMel(manifest.features)(samples) - mean) / std).astype(np.float32), 3)
    assert features.shape[1] == rnnt.config.features
    return features


def median_ms(call: Callable[[], object]) -> float:
    """Median time of a call."""
    times = []
    for _ in range(WARMUP + STEPS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times[WARMUP:]))


def stepper(signature: Signature | OnnxSignature, features: np.ndarray | None = None) -> Callable[[], object]:
    """A step of a signature, the state fed back and, for the encoder, real speech going in."""
    inputs = {n: np.zeros(spec.shape, spec.dtype) for n, spec in signature.inputs.items()}
    at = 0

    def step() -> object:
        nonlocal at
        if features is not None:
            taken = inputs["features"].shape[1]
            inputs["features"] = features[None, at : at + taken]
            at = (at + taken) % (len(features) - taken)
        out = signature(inputs)
        inputs.update({name: value for name, value in out.items() if name in inputs})
        return out

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-size", default="80MB")
    parser.add_argument("--onnx", action="store_true")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rnnt = Rnnt(MOBILE_80MB)
    rnnt.build()
    features, tokens = real_features(rnnt), list(range(1, 10))
    reference = keras_steps(rnnt, features, tokens)["joiner"]["logits"]
    weights, float_file = weights_of(rnnt), convert(rnnt, "float32")
    bandwidth = bandwidth_bytes_per_s()
    size = f"{rnnt.count_params() / 1e6:.1f} M parameters (random)"
    print(f"{size}, ms per {STEP_S * 1000:.0f} ms of audio, one thread; memory {bandwidth / 1e9:.1f} GB/s")
    print(f"{HEADER}  of the floor  error")
    first: tuple[int, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")

        def error(content: bytes) -> float:
            path.write_bytes(content)
            made = tflite_steps(rnnt, LiteRtModel(path), features, tokens)["joiner"]["logits"]
            return relative_error(reference, made)[1]

        mixed = Wanted.parse("mixed", options.max_size)
        for wanted in (Wanted("float32"), Wanted("dynamic-int8"), mixed, Wanted("dynamic-int4")):
            content, _ = wanted.make(lambda p: convert(rnnt, p), float_file, weights, error, tell)
            off = error(content)
            model = LiteRtModel(path)
            encoder = median_ms(stepper(model.signatures["encoder"], features))
            predictor, joiner = (median_ms(stepper(model.signatures[name])) for name in ("predictor", "joiner"))
            # greedy decoding of speech with 4 tokens a second: so many joiner and predictor calls a step
            step = encoder + 1.24 * joiner + 0.24 * predictor
            first = first or (len(content), step)
            floor, size = 1000 * encoder_bytes(path) / bandwidth, len(content)
            sizes = f"{wanted.precision:<15} {size / 1e6:7.1f} {first[0] / size:7.1f}x"
            times = (
                f"{encoder:8.2f} {predictor:10.2f} {joiner:7.2f} {first[1] / step:6.1f}x {step / 1000 / STEP_S:6.3f}"
            )
            print(f"{sizes} {times}  {floor / encoder:11.0%}  {off:.4f}", flush=True)
        if options.onnx:
            path.write_bytes(float_file)
            encoder_only = {"encoder": LiteRtModel(path).signatures["encoder"]}
            for precision, _, size, peer in onnx_signatures(path, encoder_only, threads=1):
                encoder = median_ms(stepper(peer, features))
                print(
                    f"{f'onnx {precision}':<15} {size / 1e6:7.1f} {'':>8} {encoder:8.2f}  (encoder alone)", flush=True
                )


def encoder_bytes(path: Path) -> int:
    """Bytes of weights that an encoder step reads."""
    graph = read_graph(path)
    assert graph is not None
    return signature_weights(graph)["encoder"].bytes


def tell(line: str) -> None:
    """Progress, out of the table's way."""
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
