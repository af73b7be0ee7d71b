"""Fresh encoder layers answer to what changes in their input, not to what is always there."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from models.rnnt import TINY, Rnnt  # noqa: E402
from models.starting import settle  # noqa: E402

BATCH, FRAMES = 4, 40


def features() -> np.ndarray:
    """Input with a constant part ten times as large as what changes."""
    rng = np.random.default_rng(0)
    return (10 + rng.normal(0, 1, (BATCH, FRAMES, TINY.features))).astype(np.float32)


def fresh() -> Rnnt:
    keras.utils.set_random_seed(3)
    rnnt = Rnnt(TINY)
    rnnt.build()
    return rnnt


def gate_inputs(rnnt: Rnnt, layer: int) -> np.ndarray:
    """What the input alone gives an encoder layer's gates, without the bias they begin with: [frames, 4H]."""
    x = keras.ops.convert_to_numpy(rnnt.layer_input(features(), layer))
    fresh_layer = rnnt.encoder.layers_[layer]
    units = TINY.encoder_units
    start = np.repeat([0.0, 1.0, 0.0, 0.0], units)
    pre = x @ keras.ops.convert_to_numpy(fresh_layer.kernel) + keras.ops.convert_to_numpy(fresh_layer.bias) - start
    return pre.reshape(-1, 4 * units)


def test_every_layers_gates_are_centred_on_what_they_began_with() -> None:
    rnnt = fresh()
    before = np.abs(gate_inputs(rnnt, 0).mean(axis=0)).max()
    settle(rnnt, features(), np.full(BATCH, FRAMES))
    for layer in range(TINY.encoder_layers):
        assert np.abs(gate_inputs(rnnt, layer).mean(axis=0)).max() < 1e-3
    assert before > 1.0  # or this input would prove nothing


def test_only_frames_that_count_and_layers_that_are_fresh() -> None:
    rnnt, padded = fresh(), features()
    padded[:, FRAMES // 2 :] = 1e3
    kept = keras.ops.convert_to_numpy(rnnt.encoder.layers_[0].kernel)
    settle(rnnt, padded, np.full(BATCH, FRAMES // 2), layers=[1])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(rnnt.encoder.layers_[0].kernel), kept)
    other = fresh()
    settle(other, padded[:, : FRAMES // 2], np.full(BATCH, FRAMES // 2), layers=[1])
    for one, two in zip(rnnt.encoder.layers_[1].weights, other.encoder.layers_[1].weights, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(two), atol=1e-4)
