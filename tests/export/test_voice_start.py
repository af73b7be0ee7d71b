"""A voice's exported file gives its weights back to the network, and batch normalisation goes on from there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from export.convert import keras_calls, relative_error, to_tflite  # noqa: E402
from export.tacotron import endpoints  # noqa: E402
from models.tacotron import TINY, Tacotron  # noqa: E402
from models.voice_start import spread, take_voice  # noqa: E402
from ondevice.errors import InputError  # noqa: E402

SIZES = replace(TINY, dropout=0.0, convolution_dropout=0.0, lstm_dropout=0.0)  # more tokens than a token has values
MADE_UP = {"style/tokens", "style/key", "style/value"}  # of which the file holds products


def voice(seed: int, sizes=SIZES) -> Tacotron:
    """Random weights, no two of which are alike: constants that are alike share a place in the file."""
    keras.utils.set_random_seed(seed)
    tacotron = Tacotron(sizes)
    tacotron.build()
    rng = np.random.default_rng(seed)
    for variable in tacotron.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    for variable in tacotron.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return tacotron


def said(tacotron: Tacotron, training: bool = False) -> dict[str, np.ndarray]:
    """What a voice makes of a batch; no dropout anywhere."""
    rng = np.random.default_rng(0)
    made = tacotron(**batch(rng), training=training)
    return {name: keras.ops.convert_to_numpy(value) for name, value in made.items()}


def batch(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Two sentences of which one is shorter."""
    return {
        "symbols": rng.integers(1, SIZES.symbols, (2, 5), np.int32), "lengths": np.array([5, 4], np.int32),
        "mel": rng.normal(size=(2, 16, SIZES.bands)).astype(np.float32), "frames": np.array([16, 12], np.int32),
        "prosody": rng.normal(size=(2, 5, 4)).astype(np.float32),
    }  # fmt: skip


def exported(tacotron: Tacotron, folder: Path, precision: str = "float32") -> Path:
    path = folder / "model.tflite"
    path.write_bytes(to_tflite(tacotron, endpoints(tacotron, most_symbols=6), precision))
    return path


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 5e-3), ("dynamic-int8", 0.1)])
def test_every_signature_says_the_same_again(tmp_path: Path, precision: str, tolerance: float) -> None:
    first, other = voice(1), voice(2)
    take_voice(other, exported(first, tmp_path, precision))
    rng = np.random.default_rng(3)
    made = endpoints(first, most_symbols=6)
    wanted, found = keras_calls(made), keras_calls(endpoints(other, most_symbols=6))
    for name, endpoint in made.items():
        inputs = {
            n: rng.integers(1, 5, shape).astype(np.int32) if kind == "int32" else rng.uniform(0, 1, shape).astype("f4")
            for n, (shape, kind) in endpoint.inputs.items()
        }
        for tensor, value in wanted[name](inputs).items():
            assert relative_error(value, found[name](inputs)[tensor])[1] <= tolerance, f"{name}.{tensor}"


def test_weights_come_back(tmp_path: Path) -> None:
    first, other = voice(1), voice(2)
    take_voice(other, exported(first, tmp_path))
    kept = {v.path: v for v in other.trainable_variables}
    for variable in first.trainable_variables:
        inside = "/".join(variable.path.split("/")[-2:])
        if inside not in MADE_UP and "norm" not in variable.path and "kernel" not in variable.path.split("/")[-1]:
            path = variable.path.replace(first.name, other.name, 1)
            np.testing.assert_allclose(np.array(kept[path]), np.array(variable), rtol=1e-5, atol=1e-6, err_msg=path)


def test_normalisation_spread_over_a_batch_changes_nothing_and_is_what_training_does(tmp_path: Path) -> None:
    tacotron = voice(2, replace(SIZES, frame_dropout=0.0))
    take_voice(tacotron, exported(voice(1), tmp_path))
    before = said(tacotron)
    apart = said(tacotron, training=True)
    assert relative_error(before["refined"], apart["refined"])[1] > 0.1  # or there was nothing to spread
    spread(tacotron, [batch(np.random.default_rng(0))] * 3)
    for training in (False, True):
        for name, value in said(tacotron, training).items():
            np.testing.assert_allclose(value, before[name], rtol=1e-3, atol=1e-3, err_msg=f"{name}, {training}")
    assert all(norm.momentum > 0 for norm in tacotron.text.norms)


def test_other_sizes_and_other_files_are_refused(tmp_path: Path) -> None:
    path = exported(voice(1), tmp_path)
    with pytest.raises(InputError, match="does not hold the 3 weights of this preset"):
        take_voice(voice(1, replace(SIZES, encoder_convolutions=1, symbols=10)), path)
    tacotron = voice(1)
    path.write_bytes(to_tflite(tacotron, {"style": endpoints(tacotron)["style"]}, parameters=1))
    with pytest.raises(InputError, match="no signature 'text'; expected a voice"):
        take_voice(tacotron, path)
