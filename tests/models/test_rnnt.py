"""The step contract of the recogniser: whole sequences equal steps, gradients flow, padding never leaks."""

from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from keras import ops  # noqa: E402

from models.recurrence import fake_quantized, lstm_gates, lstm_sequence  # noqa: E402
from models.rnnt import BLANK, MOBILE_80MB, SMALL, TINY, Rnnt, RnntConfig  # noqa: E402
from tests.models.backends import gradient, on_every_backend  # noqa: E402

test_on_jax = on_every_backend(__file__)


@pytest.fixture(scope="module")
def model() -> Rnnt:
    keras.utils.set_random_seed(0)
    model = Rnnt(TINY)
    model.build()
    return model


def features(frames: int = 12, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, frames, TINY.features)).astype(np.float32)


def numpy_(x) -> np.ndarray:
    return ops.convert_to_numpy(x)


def plain_lstm(x, kernel, recurrent, bias, projection, clip=None):
    """The LSTM written with nothing but operators, for autodiff to differentiate."""
    cell = ops.zeros((x.shape[1], bias.shape[0] // 4))
    output = ops.zeros((x.shape[1], projection.shape[1]))
    outputs = []
    for t in range(x.shape[0]):
        pre = ops.matmul(x[t], kernel) + ops.matmul(output, recurrent) + bias
        i, f, o, g = ops.split(pre, 4, axis=-1)
        cell = ops.sigmoid(f) * cell + ops.sigmoid(i) * ops.tanh(g)
        cell = ops.clip(cell, -clip, clip) if clip else cell
        output = ops.matmul(ops.sigmoid(o) * ops.tanh(cell), projection)
        outputs.append(output)
    return ops.stack(outputs)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_written_gradient_equals_autodiff(clip: float | None) -> None:
    rng = np.random.default_rng(1)
    shapes = [(4, 2, 3), (3, 20), (4, 20), (20,), (5, 4)]
    arrays = [rng.normal(0, 0.7, s).astype(np.float32) for s in shapes]
    weight = rng.normal(size=(4, 2, 4)).astype(np.float32)

    def ours(*a):
        return ops.sum(lstm_sequence(*a, ops.zeros((2, 5)), ops.zeros((2, 4)), clip) * weight)

    def plain(*a):
        return ops.sum(plain_lstm(*a, clip) * weight)

    np.testing.assert_allclose(
        numpy_(lstm_sequence(*arrays, ops.zeros((2, 5)), ops.zeros((2, 4)), clip)),
        numpy_(plain_lstm(*arrays, clip)),
        atol=1e-5,
    )
    for mine, theirs in zip(gradient(ours, *arrays), gradient(plain, *arrays), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_rounding_to_8_bits_leaves_the_gradient_alone() -> None:
    values = np.array([-0.6, 0.011, 1.27, 0.0149], np.float32)
    expected = [-0.6, 0.01, 1.27, 0.01]  # steps of a hundredth, for 1.27 is the largest
    np.testing.assert_allclose(numpy_(fake_quantized(ops.convert_to_tensor(values))), expected, atol=1e-6)
    np.testing.assert_allclose(
        numpy_(fake_quantized(ops.convert_to_tensor(values), 12.7)), [-0.6, 0.0, 1.3, 0.0], atol=1e-6
    )
    np.testing.assert_allclose(gradient(lambda x: ops.sum(fake_quantized(x) * values), values), values)


def test_a_quantized_lstm_has_cells_of_8_bits() -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.normal(0, 0.7, s).astype(np.float32) for s in [(9, 2, 3), (3, 20), (4, 20), (20,), (5, 4)]]
    start = ops.zeros((2, 5)), ops.zeros((2, 4))
    cell, output, outputs = *start, []
    for t in range(9):
        pre = ops.matmul(arrays[0][t], arrays[1]) + ops.matmul(output, arrays[2]) + arrays[3]
        cell, _, sigmoids, _ = lstm_gates(pre, cell, 2.0)
        cell = ops.round(cell * 63.5) / 63.5
        output = ops.matmul(sigmoids[:, 10:] * ops.tanh(cell), arrays[4])
        outputs.append(output)
    made = numpy_(lstm_sequence(*arrays, *start, 2.0, quantized=True))
    np.testing.assert_allclose(made, numpy_(ops.stack(outputs)), atol=1e-5)
    assert np.abs(made - numpy_(lstm_sequence(*arrays, *start, 2.0))).max() > 1e-4


def test_rounding_is_for_training_only() -> None:
    keras.utils.set_random_seed(0)
    model = Rnnt(replace(TINY, cell_clip=4.0, quantized=True))
    model.build()
    plain = Rnnt(replace(TINY, cell_clip=4.0))
    plain.build()
    plain.set_weights(model.get_weights())
    np.testing.assert_array_equal(numpy_(model.encode(features())), numpy_(plain.encode(features())))
    assert (
        np.abs(numpy_(model.encode(features(), training=True) - plain.encode(features(), training=True))).max() > 1e-5
    )
    with pytest.raises(ValueError, match="quantized needs a cell_clip"):
        replace(TINY, quantized=True)


def test_encoder_steps_equal_the_whole_sequence(model: Rnnt) -> None:
    x = features()
    state, steps = model.encoder.initial_state(2), []
    for start in range(0, 12, TINY.reduction):
        y, state = model.encoder_step(x[:, start : start + TINY.reduction], state)
        steps.append(numpy_(y))
    np.testing.assert_allclose(np.stack(steps, 1), numpy_(model.encode(x)), atol=1e-5)


def test_predictor_and_joiner_steps_equal_the_whole_sequence(model: Rnnt) -> None:
    targets = np.array([[3, 1, 4, 1], [5, 2, 6, 5]], np.int32)
    logits = numpy_(model(features(), targets))
    assert logits.shape == (2, 6, 5, TINY.symbols)
    encoded = model.encode(features())
    state = model.predictor.initial_state(2)
    for u, token in enumerate(np.concatenate([np.full((2, 1), BLANK, np.int32), targets], 1).T):
        predicted, state = model.predictor_step(token, state)
        for t in range(6):
            step = numpy_(model.joiner_step(encoded[:, t], predicted))
            np.testing.assert_allclose(step, logits[:, t, u], atol=1e-5)


def test_the_future_never_changes_the_past(model: Rnnt) -> None:
    x, changed = features(), features()
    changed[:, 6:] = np.nan
    np.testing.assert_array_equal(numpy_(model.encode(x))[:, :3], numpy_(model.encode(changed))[:, :3])


def test_gradients_reach_every_weight(model: Rnnt) -> None:
    targets = np.array([[3, 1, 4, 1], [5, 2, 6, 5]], np.int32)
    x = features()
    variables = model.trainable_variables
    values = [numpy_(v) for v in variables]

    def loss(*arrays):
        logits, _ = model.stateless_call(arrays, [v.value for v in model.non_trainable_variables], x, targets)
        return ops.sum(ops.sin(logits))

    if keras.backend.backend() == "jax":
        grads = gradient(loss, *values)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = ops.sum(ops.sin(model(x, targets)))
        grads = [np.asarray(tf.convert_to_tensor(g)) for g in tape.gradient(value, [v.value for v in variables])]
    for variable, grad in zip(variables, grads, strict=True):
        assert np.isfinite(grad).all(), variable.path
        assert np.abs(grad).max() > 0, variable.path


def test_presets_have_the_sizes_they_claim() -> None:
    assert (MOBILE_80MB.encoder_layers, MOBILE_80MB.encoder_units, MOBILE_80MB.encoder_projection) == (
        8,
        2048,
        640,
    )
    assert (MOBILE_80MB.predictor_layers, MOBILE_80MB.joiner, MOBILE_80MB.symbols) == (2, 640, 4096)
    small = Rnnt(SMALL)
    small.build()
    assert 10e6 < small.count_params() < 20e6


def test_a_reduction_outside_the_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction_after"):
        replace(TINY, reduction_after=3)
    assert isinstance(TINY, RnntConfig)
