"""A trained recogniser as an asset that ships: model file, language model, manifest and the report that proves it.

Everything is made in a temporary folder beside the target and checked there by the runtime itself; the target is
replaced only when all of it holds.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.convert import write_bytes
from export.rnnt import convert, keras_steps, parity, signatures, tflite_steps
from models.pieces import load_pieces, piece_list
from models.recipe import Trained
from ondevice.assets import load_manifest, sha256_of
from ondevice.errors import FailureError, InputError
from ondevice.features import LogMel, stack_frames
from ondevice.litert import LiteRtModel, open_model
from ondevice.manifest import FORMAT, LM_FILE, MANIFEST, MODEL_FILE

REPORT = "report.json"
# Who computes these files rightly; tflite-runtime 2.14 rejects their FULLY_CONNECTED version.
INTERPRETERS = ("ai_edge_litert>=1.0", "tensorflow>=2.18")
TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "dynamic-int8": 0.15}  # relative RMS of every output and state


@dataclass(frozen=True)
class Card:
    """What a person wants to know of a model and no file tells; read from a JSON file."""

    name: str
    description: str
    licence: str
    language: str = "en"
    data: Sequence[Any] = ()
    search: Mapping[str, float] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def load(cls, path: Path) -> "Card":
        """Read a card. Raises InputError naming the file when it is unreadable or a field is missing or unknown."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path}: {error}; expected a model card (JSON)") from error


def real_steps(trained: Trained, samples: np.ndarray, text: str) -> tuple[np.ndarray, list[int]]:
    """Normalised stacked features [S, F] and tokens of one utterance, for the parity run."""
    features = (LogMel(trained.features)(samples) - trained.mean) / trained.std
    return stack_frames(features.astype(np.float32), trained.features.stack), load_pieces(trained.pieces).encode(text)


def prove(trained: Trained, files: Mapping[str, Path], samples: np.ndarray, text: str) -> dict[str, Any]:
    """Parity of TFLite files (by precision) with Keras over one utterance: a table per file.

    Raises FailureError naming the worst tensor when a file is off by more than `TOLERANCE`.
    """
    features, tokens = real_steps(trained, samples, text)
    reference = keras_steps(trained.rnnt, features, tokens)
    tables = {}
    for precision, path in files.items():
        rows = parity(reference, tflite_steps(trained.rnnt, LiteRtModel(path), features, tokens))
        worst = max(rows, key=lambda row: row["relative_rms"])
        if not worst["relative_rms"] <= TOLERANCE[precision]:  # NaN fails this too
            raise FailureError(
                f"export: {precision} {worst['signature']}.{worst['tensor']} differs from Keras by a relative RMS of "
                f"{worst['relative_rms']:.3g}; expected at most {TOLERANCE[precision]}"
            )
        tables[precision] = rows
    return {"utterance": text, "seconds": len(samples) / trained.features.rate_hz, "parity": tables}


def build_asset(
    trained: Trained, target: Path, card: Card, precision: str, utterance: tuple[np.ndarray, str],
    lm: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the asset `target` (replacing one that is there) and return its report.

    utterance: samples [n] and their text, a real recording over which the file is compared with Keras.
    Raises FailureError when a file lacks weights or differs from Keras, InputError for an unknown precision.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        made = Path(folder, target.name)
        made.mkdir()
        float_file = Path(folder, "float32.tflite")
        write_bytes(float_file, convert(trained.rnnt, "float32"))
        write_bytes(made / MODEL_FILE, convert(trained.rnnt, precision))
        if lm:
            shutil.copyfile(lm, made / LM_FILE)
        report = prove(trained, {"float32": float_file, precision: made / MODEL_FILE}, *utterance)
        report["bytes"] = {"float32": float_file.stat().st_size, precision: (made / MODEL_FILE).stat().st_size}
        write_json(made / REPORT, report)
        write_json(made / MANIFEST, manifest_values(trained, made, card, precision))
        open_model(load_manifest(made))  # the runtime's own checks
        if target.exists():
            target.rename(Path(folder, "replaced"))
        made.rename(target)
    return report


def manifest_values(trained: Trained, directory: Path, card: Card, precision: str) -> dict[str, Any]:
    """The manifest of the files in `directory`."""
    config = trained.rnnt.config
    names = [name for name in (MODEL_FILE, LM_FILE) if (directory / name).exists()]
    return {
        "format": FORMAT, "name": card.name, "task": "transcribe", "language": card.language, "precision": precision,
        "description": card.description, "licence": card.licence, "parameters": trained.rnnt.count_params(),
        "files": {
            name: {"sha256": sha256_of(directory / name), "bytes": (directory / name).stat().st_size} for name in names
        },
        "interpreters": list(INTERPRETERS),
        "features": {**asdict(trained.features), "mean": _rounded(trained.mean), "std": _rounded(trained.std)},
        "frames_per_step": config.reduction, "tokens": piece_list(load_pieces(trained.pieces)), "blank": 0,
        "signatures": signatures(trained.rnnt), "search": dict(card.search), "data": list(card.data),
        "metrics": list(card.metrics),
    }  # fmt: skip


def _rounded(values: np.ndarray) -> list[float]:
    """float32 values as the shortest decimals that read back to the same bits."""
    return [float(str(value)) for value in values]


def write_json(path: Path, value: object) -> None:
    """JSON with one short list a line, so that a manifest can be read and its changes seen."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())
