"""What 8 bits everywhere cost a trained recogniser: scales by channel or tensor, how much speech sets them, bounds.

    python -m tests.benchmarks.full_int8 MODEL --calibrate CORPUS --labelled CORPUS [--every 1]

MODEL is the name or directory of an exported recogniser, whose weights are widened to floats. Greedy word error rates
on the labelled corpora's dev splits, streaming, of the runtime itself; the first row is the float file.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.asset import Card, build_asset, word_errors
from export.exported import recogniser
from export.full_int8 import CELL_CLIP, bounded
from export.precision import Wanted
from models.recipe import Trained
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
    options = parser.parse_args()
    trained, _ = recogniser(load_manifest(find_asset(options.model), kind=TranscribeManifest))
    speech = [u for u in read_utterances([options.calibrate], "train") if u.text]
    labelled = read_utterances(options.labelled, "dev")[:: options.every]
    print(
        f"{'scales of weights':<18} {'recordings':>10} {'cells':>6} {'MB':>6} {'WER':>7}   {len(labelled)} utterances"
    )
    with tempfile.TemporaryDirectory() as scratch:
        asset = built(trained, Path(scratch, "float"), Wanted("float32"), speech[:1])
        errors = word_errors(trained, {"float": asset}, labelled)
        size = (asset / "model.tflite").stat().st_size / 1e6
        print(f"{'float32':<18} {'':>10} {'':>6} {size:6.2f} {errors['float']:7.2%}", flush=True)
        for number, (per_tensor, count, clip) in enumerate(SETTINGS):
            chosen = speech[:: max(1, len(speech) // count)][:count]
            network = replace(trained, rnnt=bounded(trained.rnnt, clip))
            asset = built(network, Path(scratch, str(number)), Wanted("int8-full", edge_tpu=per_tensor), chosen)
            wer = word_errors(network, {"int8-full": asset}, labelled)["int8-full"]
            size, scales = (asset / "model.tflite").stat().st_size / 1e6, "tensor" if per_tensor else "channel"
            print(f"by {scales:<15} {count:10} {clip:6g} {size:6.2f} {wer:7.2%}", flush=True)


if __name__ == "__main__":
    main()
