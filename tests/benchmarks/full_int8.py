"""What 8 bits everywhere cost a trained recogniser: scales by channel or tensor, how much speech sets them, bounds.

    python -m tests.benchmarks.full_int8 MODEL --calibrate CORPUS --labelled CORPUS [--every 1] [--aware RUN]

MODEL is the name or directory of an exported recogniser, whose weights are widened to floats. Greedy word error rates
on the labelled corpora's dev splits, streaming, of the runtime itself; the first row is the float file. RUN is the
folder of a training that knew of the 8 bits (`ondevice train rnnt --quantization-aware`), measured after it.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.asset import Card, build_asset, word_errors
from export.exported import recogniser
from export.full_int8 import bounded
from export.precision import Wanted
from models.recipe import Trained, load_trained
from models.rnnt import CELL_CLIP
from ondevice.assets import find_asset, load_manifest
from ondevice.manifest import TranscribeManifest
from ondevice.utterances import Utterance, read_utterances

# (one scale for a matrix, recordings that set scales, bound of the cells)
SETTINGS = [
    (True, 16, CELL_CLIP), (False, 16, CELL_CLIP), (True, 4, CELL_CLIP), (True, 64, CELL_CLIP), (True, 16, 8.0),
    (True, 16, 32.0),
]  # fmt: skip


def built(trained: Trained, folder: Path, wanted: Wanted, calibration: Sequence[Utterance]) -> Path:
    """An asset of a precision."""
    first = calibration[0]
    proof = (first.samples(trained.features.rate_hz), first.text)
    build_asset(trained, folder, Card("rnnt", "benchmark", "Apache-2.0"), wanted, proof, calibration=calibration)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--labelled", type=Path, action="append", required=True)
    parser.add_argument("--every", type=int, default=1, help="only every so manieth utterance")
    parser.add_argument("--aware", type=Path, metavar="RUN")
    options = parser.parse_args()
    trained, _ = recogniser(load_manifest(find_asset(options.model), kind=TranscribeManifest))
    speech = [u for u in read_utterances([options.calibrate], "train") if u.text]
    labelled = read_utterances(options.labelled, "dev")[:: options.every]
    print(
        f"{'scales of weights':<18} {'recordings':>10} {'cells':>6} {'MB':>6} {'WER':>7}   {len(labelled)} utterances"
    )

    def measure(name: str, network: Trained, wanted: Wanted, count: int, clip: float | None = None) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            chosen = speech[:: max(1, len(speech) // count)][:count]
            asset = built(network, Path(scratch, "asset"), wanted, chosen)
            wer = word_errors(network, {"made": asset}, labelled)["made"]
            size = (asset / "model.tflite").stat().st_size / 1e6
        settings = f"{count:10} {clip:6g}" if clip else f"{'':10} {'':6}"
        print(f"{name:<18} {settings} {size:6.2f} {wer:7.2%}", flush=True)

    measure("float32", trained, Wanted("float32"), 1)
    for per_tensor, count, clip in SETTINGS:
        network = replace(trained, rnnt=bounded(trained.rnnt, clip))
        name = f"by {'tensor' if per_tensor else 'channel'}"
        measure(name, network, Wanted("int8-full", edge_tpu=per_tensor), count, clip)
    if options.aware:
        aware = load_trained(options.aware)
        measure("aware, float32", aware, Wanted("float32"), 1)
        measure("aware, by tensor", aware, Wanted("int8-full", edge_tpu=True), 16, aware.rnnt.config.cell_clip)


if __name__ == "__main__":
    main()
