"""What a training takes from an exported recogniser is what was exported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from export.rnnt import convert  # noqa: E402
from models.rnnt import TINY, Rnnt  # noqa: E402
from models.warm_start import take_weights  # noqa: E402
from ondevice.errors import InputError  # noqa: E402

SIZES = replace(TINY, encoder_layers=4, reduction_after=2, predictor_layers=2, phones=6)


def recogniser(seed: int, sizes=SIZES) -> Rnnt:
    """Random weights, no two of which are alike: constants that are alike share a place in the file."""
    keras.utils.set_random_seed(seed)
    rnnt = Rnnt(sizes)
    rnnt.build()
    rng = np.random.default_rng(seed)
    for variable in rnnt.variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    return rnnt


def test_what_the_converter_folds_into_the_phone_head_comes_out_again(tmp_path: Path) -> None:
    """No residual stands between it and the layer below."""
    sizes = replace(SIZES, encoder_layers=3, reduction_after=1)
    exported, other = recogniser(1, sizes), recogniser(2, sizes)
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(exported, "float32"))
    take_weights(other, path)
    for wanted, found in zip(exported.variables, other.variables, strict=True):
        np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-4, atol=1e-5, err_msg=wanted.path)


@pytest.mark.parametrize(("precision", "steps"), [("float32", 0.0), ("float16", 2**-9), ("dynamic-int8", 0.51)])
def test_weights_come_back(precision: str, steps: float, tmp_path: Path) -> None:
    exported, other = recogniser(1), recogniser(2)
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(exported, precision))
    take_weights(other, path)
    for wanted, found in zip(exported.variables, other.variables, strict=True):
        wanted, found = np.array(wanted), np.array(found)
        unit = np.abs(wanted).max() / 127 if precision == "dynamic-int8" else np.abs(wanted).max()
        np.testing.assert_allclose(found, wanted, atol=steps * unit)


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(recogniser(1), "float32"))
    with pytest.raises(InputError, match="does not hold the 28 weights of this preset"):
        take_weights(recogniser(1, replace(SIZES, encoder_units=10)), path)
