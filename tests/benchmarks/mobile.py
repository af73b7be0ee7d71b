"""The published recogniser (He et al. 2018) in every precision: its size, its speed, and how far from the memory's.

    python -m tests.benchmarks.mobile [--max-size 80MB] [--onnx]

Builds MOBILE_80MB with random weights, quantises it and times its steps on one thread, what was published beside it.
Takes some minutes and 4 GB of memory. `--onnx` times the same network in ONNX Runtime (`pip install -e '.[onnx]'`).
Times drift by half between runs on a shared machine: read the ratios.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from export.convert import relative_error
from export.mixed import Mixture
from export.precision import Wanted, weights_of
from export.rnnt import convert, keras_steps, tflite_steps
from export.telling import Terminal
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
    mixture: Mixture | None = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")

        def error(content: bytes) -> float:
            path.write_bytes(content)
            made = tflite_steps(rnnt, LiteRtModel(path), features, tokens)["joiner"]["logits"]
            return relative_error(reference, made)[1]

        mixed = Wanted.parse("mixed", options.max_size)
        for wanted in (Wanted("float32"), Wanted("dynamic-int8"), mixed, Wanted("dynamic-int4")):
            content, found = wanted.make(lambda p: convert(rnnt, p), float_file, weights, error, Terminal())
            mixture = found or mixture
            off = error(content)
            model = LiteRtModel(path)
            encoder = median_ms(stepper(model.signatures["encoder"], features))
            predictor, joiner = (median_ms(stepper(model.signatures[name])) for name in ("predictor", "joiner"))
            first = first or (len(content), whole_step(encoder, predictor, joiner))
            floor = 1000 * encoder_bytes(path) / bandwidth
            line = row(wanted.precision, len(content), (encoder, predictor, joiner), first)
            print(f"{line}  {floor / encoder:11.0%}  {off:.4f}", flush=True)
        assert first is not None
        print(f"{'published':<15} {'450-80':>7} {450 / 80:7.1f}x {'':>27} {4.0:6.1f}x")
        if options.onnx:
            path.write_bytes(float_file)
            timed: dict[str, dict[str, tuple[int, float]]] = {}
            for precision, name, size, peer in onnx_signatures(path, LiteRtModel(path).signatures, threads=1):
                step = median_ms(stepper(peer, features if name == "encoder" else None))
                timed.setdefault(precision, {})[name] = size, step
            for precision, each in timed.items():
                times = (each["encoder"][1], each["predictor"][1], each["joiner"][1])
                print(row(f"onnx {precision}", sum(size for size, _ in each.values()), times, first), flush=True)
    assert mixture is not None
    print(f"\n{mixed.precision}, size against error, and at {len(mixture.chosen.narrow)} layers where it stopped:")
    for point in mixture.curve:
        print(f"{len(point.narrow):3} layers at int4 {point.size / 1e6:7.1f} MB  error {point.error:.4f}")


def whole_step(encoder: float, predictor: float, joiner: float) -> float:
    """A step of greedy decoding of speech with 4 tokens a second: so many joiner and predictor calls."""
    return encoder + 1.24 * joiner + 0.24 * predictor


def row(name: str, size: int, times: tuple[float, float, float], first: tuple[int, float]) -> str:
    """Size and times in ms of encoder, predictor and joiner, against the size and the step of the first file."""
    step = whole_step(*times)
    smaller, faster, rtf = first[0] / size, first[1] / step, step / 1000 / STEP_S
    each = f"{times[0]:8.2f} {times[1]:10.2f} {times[2]:7.2f}"
    return f"{name:<15} {size / 1e6:7.1f} {smaller:7.1f}x {each} {faster:6.1f}x {rtf:6.3f}"


def encoder_bytes(path: Path) -> int:
    """Bytes of weights that an encoder step reads."""
    graph = read_graph(path)
    assert graph is not None
    return signature_weights(graph)["encoder"].bytes


if __name__ == "__main__":
    main()
