"""A tiny recogniser asset for tests: random weights, pieces of a few letters, built once per test session."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ondevice.assets import sha256_of

BANDS, STEP_FRAMES, JOINER, UNITS = 80, 2, 8, 5
TOKENS = ["<blk>", "<unk>", "▁", "e", "t", "a", "o", "n", "▁the", "▁a", "▁to", "in", "s", "▁no", "r", "▁on"]
FEATURES: dict[str, Any] = {
    "rate_hz": 16000, "window_ms": 25.0, "hop_ms": 10.0, "bands": BANDS, "low_hz": 20.0, "high_hz": 7600.0,
    "floor": 1e-6, "stack": 3,
}  # fmt: skip
SIGNATURES: dict[str, Any] = {
    "encoder": {
        "inputs": {"features": [1, STEP_FRAMES, 3 * BANDS]},
        "outputs": {"encoded": [1, JOINER]},
        "state": {"encoder_h0": [1, UNITS]},
    },
    "predictor": {
        "inputs": {"token": [1]},
        "outputs": {"predicted": [1, JOINER]},
        "state": {"predictor_h0": [1, UNITS]},
    },
    "joiner": {
        "inputs": {"encoded": [1, JOINER], "predicted": [1, JOINER]},
        "outputs": {"logits": [1, len(TOKENS)]},
        "state": {},
    },
}


def manifest_values(directory: Path) -> dict[str, Any]:
    """A correct manifest for the model file in `directory`."""
    model = directory / "model.tflite"
    return {
        "format": 1, "name": "toy", "task": "transcribe", "language": "en", "precision": "float32",
        "files": {"model.tflite": {"sha256": sha256_of(model), "bytes": model.stat().st_size}},
        "interpreters": ["ai_edge_litert>=1.0", "tflite_runtime>=2.14", "tensorflow>=2.16"],
        "features": {**FEATURES, "mean": [-8.0] * BANDS, "std": [3.0] * BANDS},
        "frames_per_step": STEP_FRAMES, "tokens": TOKENS, "blank": 0, "signatures": copy.deepcopy(SIGNATURES),
        "search": {"beam": 4, "max_symbols": 3}, "parameters": 1000, "licence": "Apache-2.0",
        "description": "random weights", "data": [], "metrics": [],
    }  # fmt: skip


def write_manifest(directory: Path, values: dict[str, Any]) -> None:
    (directory / "manifest.json").write_text(json.dumps(values), encoding="utf-8")


def build_toy_asset(directory: Path, seed: int = 1) -> Path:
    """Write manifest.json and model.tflite to `directory`; skips the test where TensorFlow is missing."""
    tf = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(seed)

    def weight(rows: int, columns: int, scale: float) -> Any:
        return tf.Variable(rng.normal(0, scale / rows**0.5, (rows, columns)).astype(np.float32))

    class Toy(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = weight(len(TOKENS), JOINER, 4.0)
            self.listen = weight(STEP_FRAMES * 3 * BANDS, JOINER, 6.0)
            self.keep = weight(UNITS, JOINER, 1.0)
            self.update = weight(JOINER, UNITS, 1.5)
            self.out = weight(JOINER, len(TOKENS), 9.0)
            self.built = True

        def encoder(self, features: Any, encoder_h0: Any) -> dict[str, Any]:
            x = tf.reshape(features, [1, STEP_FRAMES * 3 * BANDS]) @ self.listen
            y = x + encoder_h0 @ self.keep
            return {"encoded": y, "encoder_h0": tf.tanh(y @ self.update)}

        def predictor(self, token: Any, predictor_h0: Any) -> dict[str, Any]:
            y = tf.one_hot(token, len(TOKENS)) @ self.embedding + predictor_h0 @ self.keep
            return {"predicted": y, "predictor_h0": tf.tanh(y @ self.update)}

        def joiner(self, encoded: Any, predicted: Any) -> dict[str, Any]:
            # The blank is favoured, so that tokens come now and then as in speech.
            return {"logits": tf.tanh(encoded + predicted) @ self.out + tf.one_hot([0], len(TOKENS)) * 3.0}

    toy = Toy()
    archive = keras.export.ExportArchive()
    archive.track(toy)
    for name, spec in SIGNATURES.items():
        arguments = [
            tf.TensorSpec(shape, tf.int32 if tensor == "token" else tf.float32, name=tensor)
            for tensor, shape in {**spec["inputs"], **spec["state"]}.items()
        ]
        archive.add_endpoint(name, getattr(toy, name), arguments)
    directory.mkdir(parents=True, exist_ok=True)
    saved = directory.parent / f"{directory.name}-saved-model"
    archive.write_out(str(saved), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=list(SIGNATURES))
    (directory / "model.tflite").write_bytes(converter.convert())
    write_manifest(directory, manifest_values(directory))
    return directory
