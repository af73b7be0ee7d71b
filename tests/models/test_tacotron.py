"""The step contract of the speech generator: whole sequences equal steps, gradients flow, padding never leaks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from keras import ops  # noqa: E402

from models.convolution import ConvStack  # noqa: E402
from models.tacotron import (  # noqa: E402
    PAPER,
    PROSODY_FEATURES,
    SMALL,
    TINY,
    Lstm,
    RecurrenceState,
    Tacotron,
    reverse_rows,
)
from tests.models.backends import gradient, on_every_backend  # noqa: E402

test_on_jax = on_every_backend(__file__)
BLOCK = TINY.style.block
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> Tacotron:
    keras.utils.set_random_seed(0)
    model = Tacotron(TINY)
    model.build()
    shake(model)
    return model


def shake(model: Any) -> None:
    """Batch statistics and scales that are not the identity, as after training."""
    draw = np.random.default_rng(7)
    for weight in model.weights:
        if "gamma" in weight.path or "moving_variance" in weight.path:
            weight.assign(draw.uniform(0.5, 1.5, weight.shape))
        if "beta" in weight.path or "moving_mean" in weight.path:
            weight.assign(draw.uniform(-0.3, 0.3, weight.shape))


def numpy_(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


def batch(frames: int = 2 * BLOCK, symbols: int = 6) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    return {
        "symbols": draw.integers(1, TINY.symbols, (2, symbols)).astype(np.int32),
        "lengths": np.array([symbols, symbols - 2], np.int32),
        "mel": draw.normal(size=(2, frames, TINY.bands)).astype(np.float32),
        "frames": np.array([frames, frames - 3], np.int32),
        "prosody": draw.normal(size=(2, symbols, PROSODY_FEATURES)).astype(np.float32),
    }


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
def test_convolutions_stream_in_any_chunks(chunks: list[int]) -> None:
    keras.utils.set_random_seed(1)
    stack = ConvStack("text", (4, 5, 3), 5, activation="relu", last="linear", dropout=0.0)
    length = sum(chunks)
    x = rng.normal(size=(1, length, 2)).astype(np.float32)
    inside = np.ones((1, length, 1), np.float32)
    whole = numpy_(stack(x, inside))
    shake(stack)
    whole = numpy_(stack(x, inside))
    x = np.pad(x, ((0, 0), (0, stack.delay), (0, 0)), constant_values=9.0)  # must not matter
    inside = np.pad(inside, ((0, 0), (0, stack.delay), (0, 0)))
    state, made, at = stack.initial_state(1), [], 0
    for n in [*chunks, stack.delay]:
        y, state = stack.step(ops.convert_to_tensor(x[:, at : at + n]), inside[:, at : at + n], state)
        made.append(numpy_(y))
        at += n
    np.testing.assert_allclose(np.concatenate(made, 1)[:, stack.delay :], whole, atol=1e-5)


def test_plain_lstm_gradient_equals_autodiff() -> None:
    from models.recurrence import lstm_sequence

    shapes = [(4, 2, 3), (3, 20), (5, 20), (20,)]
    arrays = [rng.normal(0, 0.7, s).astype(np.float32) for s in shapes]
    weight = rng.normal(size=(4, 2, 5)).astype(np.float32)

    def ours(*a):
        return ops.sum(lstm_sequence(*a, None, ops.zeros((2, 5)), ops.zeros((2, 5))) * weight)

    def plain(x, kernel, recurrent, bias):
        cell, output, total = ops.zeros((2, 5)), ops.zeros((2, 5)), 0.0
        for t in range(4):
            i, f, o, g = ops.split(ops.matmul(x[t], kernel) + ops.matmul(output, recurrent) + bias, 4, axis=-1)
            cell = ops.sigmoid(f) * cell + ops.sigmoid(i) * ops.tanh(g)
            output = ops.sigmoid(o) * ops.tanh(cell)
            total = total + ops.sum(output * weight[t])
        return total

    for mine, theirs in zip(gradient(ours, *arrays), gradient(plain, *arrays), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_lstm_steps_equal_the_whole_sequence() -> None:
    lstm = Lstm(4)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    whole = numpy_(lstm(x))
    cell = output = ops.zeros((2, 4))
    for t in range(5):
        cell, output = lstm.step(x[:, t], cell, output)
        np.testing.assert_allclose(numpy_(output), whole[:, t], atol=1e-6)


def test_rows_are_reversed_within_their_length() -> None:
    x = np.arange(8.0).reshape(2, 4, 1)
    turned = numpy_(reverse_rows(ops.convert_to_tensor(x), ops.convert_to_tensor([4, 2])))[..., 0]
    np.testing.assert_array_equal(turned, [[3, 2, 1, 0], [5, 4, 6, 7]])


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_text_steps_equal_the_whole_sentence(model: Tacotron, chunk: int) -> None:
    data = batch()
    symbols = data["symbols"][:1]
    whole = numpy_(model.encode(symbols, data["lengths"][:1]))
    length, delay = symbols.shape[1], model.text.delay
    total = -(-(length + delay) // chunk) * chunk
    padded = np.pad(symbols, ((0, 0), (0, total - length)))
    inside = (np.arange(total) < length).astype(np.float32)[None, :, None]
    state, made = model.text.initial_state(1), []
    for at in range(0, total, chunk):
        y, state = model.text_step(padded[:, at : at + chunk], inside[:, at : at + chunk], state)
        made.append(numpy_(y))
    x = np.concatenate(made, 1)[:, delay : delay + length]
    state = RecurrenceState(*(ops.zeros((1, TINY.encoder_units)),) * 4)
    encoded = np.zeros((1, length, TINY.memory), np.float32)
    for t in range(length):
        y, state = model.recurrence_step(x[:, t], x[:, length - 1 - t], state)
        encoded[:, t, : TINY.encoder_units] = numpy_(y)[:, : TINY.encoder_units]
        encoded[:, length - 1 - t, TINY.encoder_units :] = numpy_(y)[:, TINY.encoder_units :]
    np.testing.assert_allclose(encoded, whole, atol=1e-5)


def test_reference_blocks_equal_the_whole_recording(model: Tacotron) -> None:
    mel = batch(frames=3 * BLOCK)["mel"]
    frames = np.array([3 * BLOCK, 2 * BLOCK - 1], np.int32)
    whole = numpy_(model.reference(mel, frames))
    for row, count in enumerate(frames):
        state = model.reference.initial_state(1)
        own = np.where(np.arange(mel.shape[1])[:, None] < count, mel[row], 0)[None].astype(np.float32)
        for at in range(0, count, BLOCK):
            y, state = model.reference.step(own[:, at : at + BLOCK], state)
        np.testing.assert_allclose(numpy_(y)[0], whole[row], atol=1e-5)


def test_decoder_steps_equal_teacher_forcing(model: Tacotron) -> None:
    data, r = batch(), TINY.reduction
    groups = data["mel"].shape[1] // r
    encoded = model.encode(data["symbols"], data["lengths"])
    style = rng.normal(size=(2, TINY.style.width)).astype(np.float32)
    memory, keys = model.remember(encoded, style, data["prosody"])
    keep = (rng.random((2, groups, 2 * TINY.prenet)) < 0.5).astype(np.float32) * 2
    whole = model.decode(memory, keys, data["lengths"], data["mel"], keep)
    state = model.initial_state(2, memory.shape[1])
    frame = np.zeros((2, TINY.bands), np.float32)
    for g in range(groups):
        mel, stop, state = model.decoder_step(frame, keep[:, g], memory, keys, data["lengths"], state)
        np.testing.assert_allclose(numpy_(mel), numpy_(whole["mel"])[:, g * r : (g + 1) * r], atol=1e-4)
        np.testing.assert_allclose(numpy_(stop)[:, 0], numpy_(whole["stop"])[:, g], atol=1e-4)
        np.testing.assert_allclose(numpy_(state.decoder_weights), numpy_(whole["alignment"])[:, g], atol=1e-5)
        frame = data["mel"][:, (g + 1) * r - 1]


@pytest.mark.parametrize("chunk", [1, 4, 5])
def test_postnet_steps_equal_the_whole_spectrogram(model: Tacotron, chunk: int) -> None:
    mel = batch()["mel"][:1]
    length, delay = mel.shape[1], model.postnet.delay
    whole = mel + numpy_(model.postnet(mel, np.ones((1, length, 1), np.float32)))
    total = -(-(length + delay) // chunk) * chunk
    padded = np.pad(mel, ((0, 0), (0, total - length), (0, 0)))
    inside = (np.arange(total) < length).astype(np.float32)[None, :, None]
    state, late, made = model.postnet.initial_state(1), np.zeros((1, delay, TINY.bands), np.float32), []
    for at in range(0, total, chunk):
        y, late, state = model.postnet_step(padded[:, at : at + chunk], inside[:, at : at + chunk], late, state)
        made.append(numpy_(y))
    np.testing.assert_allclose(np.concatenate(made, 1)[:, delay : delay + length], whole, atol=1e-5)


@pytest.mark.parametrize("dirt", [100.0, np.nan])
def test_padding_never_leaks(model: Tacotron, dirt: float) -> None:
    """What lies beyond a text or a recording, were it NaN, changes nothing before its end."""
    data, short = batch(), 2
    data["frames"][1] = real = data["mel"].shape[1] - 2 * short

    def run(data: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        made = model(**data)
        return numpy_(made["refined"])[1, :real], numpy_(made["alignment"])[1, : real // TINY.reduction]

    def quiet(data: dict[str, np.ndarray]) -> list[np.ndarray]:
        draw, model.draw_keep = model.draw_keep, lambda shape: ops.ones(shape)
        try:
            return list(run(data))
        finally:
            model.draw_keep = draw

    clean = quiet(data)
    dirty = {k: v.copy() for k, v in data.items()}
    dirty["symbols"][1, -2:] = 1
    dirty["prosody"][1, -2:] = dirt
    dirty["mel"][1, real:] = dirt
    for before, after in zip(clean, quiet(dirty), strict=True):
        assert np.isfinite(after).all()
        np.testing.assert_allclose(after, before, atol=1e-4)


def test_frames_are_hidden_in_training_only() -> None:
    keras.utils.set_random_seed(0)
    model = Tacotron(replace(TINY, frame_dropout=1.0, lstm_dropout=0.0))
    model.build()
    data = batch()
    memory, keys = model.remember(
        model.encode(data["symbols"], data["lengths"]), np.zeros((2, 6), "f"), data["prosody"]
    )
    keep = np.ones((2, data["mel"].shape[1] // TINY.reduction, 2 * TINY.prenet), np.float32)

    def said(mel: np.ndarray, training: bool) -> np.ndarray:
        return numpy_(model.decode(memory, keys, data["lengths"], mel, keep, training=training)["mel"])

    np.testing.assert_array_equal(said(data["mel"], True), said(0 * data["mel"], True))
    assert not np.allclose(said(data["mel"], False), said(0 * data["mel"], False))


def test_gradients_reach_every_weight(model: Tacotron) -> None:
    if keras.backend.backend() == "jax":
        pytest.skip("keras on JAX differentiates stateless calls: the training test covers it")
    import tensorflow as tf

    data = batch()

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            made = model(**data, training=True)
            loss = sum(tf.reduce_mean(made[k] ** 2) for k in ("refined", "mel", "stop"))
        return tape.gradient(loss, model.trainable_variables)

    for weight, gradient_ in zip(model.trainable_variables, run(), strict=True):
        assert gradient_ is not None, weight.path
        values = numpy_(tf.convert_to_tensor(gradient_))
        assert np.isfinite(values).all(), weight.path
        assert np.abs(values).max() > 0, weight.path


def test_style_weights_mix_the_tokens(model: Tacotron) -> None:
    c = TINY.style
    weights = model.style(rng.normal(size=(3, c.units)).astype(np.float32))
    np.testing.assert_allclose(numpy_(weights).sum(-1), 1.0, atol=1e-5)
    one = np.zeros((1, c.heads, c.tokens), np.float32)
    one[..., 2] = 1.0
    style = numpy_(model.style.embed(ops.convert_to_tensor(one)))
    np.testing.assert_allclose(numpy_(model.style.embed(ops.convert_to_tensor(0.5 * one))), 0.5 * style, atol=1e-6)


def test_sizes() -> None:
    """The published network, and the small one that ships."""
    counts = {}
    for name, config in (("small", SMALL), ("paper", PAPER)):
        model = Tacotron(config)
        model.build()
        counts[name] = model.count_params()
    assert 3e6 < counts["small"] < 6e6
    assert 27e6 < counts["paper"] < 33e6
