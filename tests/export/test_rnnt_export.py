"""TFLite equals Keras, outputs and states, for every precision; a file without weights cannot be made."""

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from export import convert as conversion  # noqa: E402
from export import rnnt as rnnt_export  # noqa: E402
from models.rnnt import TINY, Rnnt  # noqa: E402
from ondevice.errors import FailureError, InputError  # noqa: E402
from ondevice.litert import LiteRtModel  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Rnnt:
    keras.utils.set_random_seed(0)
    model = Rnnt(TINY)
    model.build()
    return model


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 5e-3), ("dynamic-int8", 5e-2)])
def test_tflite_steps_equal_keras_outputs_and_state(
    model: Rnnt, tmp_path: Path, precision: str, tolerance: float
) -> None:
    features = np.random.default_rng(0).normal(size=(24, TINY.features)).astype(np.float32)
    tokens = [1, 5, 3, 8, 2]
    path = tmp_path / "model.tflite"
    path.write_bytes(rnnt_export.convert(model, precision))
    reference = rnnt_export.keras_steps(model, features, tokens)
    rows = conversion.parity(reference, rnnt_export.tflite_steps(model, LiteRtModel(path), features, tokens))
    assert {r["tensor"] for r in rows} >= {
        "encoded",
        "encoder_c0",
        "encoder_r2",
        "predicted",
        "predictor_c0",
        "logits",
    }
    assert max(r["relative_rms"] for r in rows) < tolerance
    whole = np.asarray(model.encode(features[None]))[0]
    np.testing.assert_allclose(reference["encoder"]["encoded"][:, 0], whole, atol=1e-5)


def test_a_file_without_weights_is_refused(model: Rnnt) -> None:
    class Careless(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

    careless = Careless()
    step = rnnt_export.endpoints(model)["joiner"]
    function = tf.function(
        step.function, input_signature=[tf.TensorSpec((1, TINY.joiner)), tf.TensorSpec((1, TINY.joiner))]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], careless)
    content = converter.convert()
    with pytest.raises(FailureError, match="weights missing"):
        conversion.check_file(content, model.count_params(), "float32")


def test_unknown_precision_lists_the_known_ones(model: Rnnt) -> None:
    with pytest.raises(InputError, match="dynamic-int8"):
        rnnt_export.convert(model, "int3")
