"""The loss against an enumeration of every alignment, and its gradient against finite differences."""

import itertools

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from keras import ops  # noqa: E402

from models import transducer  # noqa: E402
from tests.models.backends import gradient, on_every_backend  # noqa: E402

test_on_jax = on_every_backend(__file__)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def brute_force(logits: np.ndarray, target: list[int]) -> float:
    """-log of the sum over every order of T - 1 blanks and U labels, then the last blank; logits [T, U1, V]."""
    log_probs, frames = log_softmax(logits.astype(np.float64)), logits.shape[0]
    total = -np.inf
    for places in itertools.combinations(range(frames - 1 + len(target)), len(target)):
        t = u = 0
        score = 0.0
        for move in range(frames - 1 + len(target)):
            if move in places:
                score += log_probs[t, u, target[u]]
                u += 1
            else:
                score += log_probs[t, u, 0]
                t += 1
        total = np.logaddexp(total, score + log_probs[t, u, 0])
    return -total


def problem(frames: int = 5, labels: int = 3, symbols: int = 4, batch: int = 2):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (batch, frames, labels + 1, symbols)).astype(np.float32)
    targets = rng.integers(1, symbols, (batch, labels)).astype(np.int32)
    return logits, targets


def test_loss_equals_the_enumeration_for_every_length() -> None:
    logits, targets = problem()
    for frames, labels in [(5, 3), (4, 3), (5, 1), (3, 0), (1, 2), (1, 0)]:
        loss = transducer.transducer_loss(
            logits, targets, np.array([frames, 5], np.int32), np.array([labels, 3], np.int32)
        )
        expected = [
            brute_force(logits[0, :frames, : labels + 1], list(targets[0, :labels])),
            brute_force(logits[1], list(targets[1])),
        ]
        np.testing.assert_allclose(ops.convert_to_numpy(loss), expected, rtol=1e-5)


def test_gradient_equals_finite_differences() -> None:
    logits, targets = problem(frames=3, labels=2)
    frames, labels = np.array([3, 2], np.int32), np.array([2, 1], np.int32)

    def loss(x):
        return ops.sum(transducer.transducer_loss(x, targets, frames, labels))

    analytic = gradient(loss, logits)

    def exact(x: np.ndarray) -> float:
        return sum(brute_force(x[b, : frames[b], : labels[b] + 1], list(targets[b, : labels[b]])) for b in range(2))

    numeric = np.zeros(logits.shape)
    for index in np.ndindex(logits.shape):
        step = np.zeros(logits.shape)
        step[index] = 1e-4
        numeric[index] = (exact(logits + step) - exact(logits - step)) / 2e-4
    np.testing.assert_allclose(analytic, numeric, atol=1e-4)


def test_padding_and_nan_in_it_never_leak() -> None:
    logits, _ = problem()
    frames, labels = np.array([3, 5], np.int32), np.array([2, 3], np.int32)
    dirty = logits.copy()
    dirty[0, 3:], dirty[0, :, 3:] = np.nan, np.nan

    def loss(x):
        blank, emit = x[..., 0], x[..., 1]
        return ops.sum(transducer.lattice_loss(blank, emit, frames, labels))

    assert float(loss(ops.convert_to_tensor(dirty))) == float(loss(ops.convert_to_tensor(logits)))
    clean = gradient(loss, dirty)
    assert np.isfinite(clean).all()
    assert (clean[0, 3:] == 0).all()


def pruned_inputs(frames: int = 6, labels: int = 4, symbols: int = 5, width: int = 3, batch: int = 2):
    rng = np.random.default_rng(2)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 1, shape).astype(np.float32)

    targets = rng.integers(1, symbols, (batch, labels)).astype(np.int32)
    return (
        draw(width, symbols),
        draw(batch, frames, width),
        draw(batch, labels + 1, width),
        draw(batch, frames, symbols),
        draw(batch, labels + 1, symbols),
        targets,
    )


def test_keeping_every_position_is_the_exact_loss() -> None:
    weight, encoded, predicted, acoustic, language, targets = pruned_inputs()
    frames, labels = np.array([6, 5], np.int32), np.array([4, 2], np.int32)

    def joiner(x):
        return ops.matmul(ops.tanh(x), weight)

    loss, simple = transducer.pruned_transducer_loss(
        joiner,
        *map(ops.convert_to_tensor, (encoded, predicted, acoustic, language, targets, frames, labels)),
        kept=5,
    )
    whole = np.tanh(encoded[:, :, None] + predicted[:, None]) @ weight
    expected = transducer.transducer_loss(whole, targets, frames, labels)
    np.testing.assert_allclose(ops.convert_to_numpy(loss), ops.convert_to_numpy(expected), rtol=1e-5)
    summed = transducer.transducer_loss(acoustic[:, :, None] + language[:, None], targets, frames, labels)
    np.testing.assert_allclose(ops.convert_to_numpy(simple), ops.convert_to_numpy(summed), rtol=1e-5)


def test_pruning_only_loses_alignments() -> None:
    weight, encoded, predicted, acoustic, language, targets = pruned_inputs(frames=9, labels=6)
    lengths = np.array([9, 9], np.int32), np.array([6, 5], np.int32)

    def joiner(x):
        return ops.matmul(ops.tanh(x), weight)

    arguments = [ops.convert_to_tensor(x) for x in (encoded, predicted, acoustic, language, targets, *lengths)]
    losses = [
        ops.convert_to_numpy(transducer.pruned_transducer_loss(joiner, *arguments, kept=kept)[0]) for kept in (2, 4, 7)
    ]
    assert np.isfinite(losses).all()
    assert (losses[0] >= losses[1] - 1e-5).all()
    assert (losses[1] >= losses[2] - 1e-5).all()


def test_pruning_windows_are_monotonic_and_connected() -> None:
    posterior = np.random.default_rng(3).random((3, 12, 9)).astype(np.float32)
    frames, labels = np.array([12, 10, 7], np.int32), np.array([8, 5, 3], np.int32)
    starts = ops.convert_to_numpy(transducer.pruning_starts(posterior, frames, labels, 3))
    assert (starts[:, 0] == 0).all()
    rises = np.diff(starts, axis=1)
    assert ((rises >= 0) & (rises <= 2)).all()
    for row, length, count in zip(starts, frames, labels, strict=True):
        assert row[length - 1] == max(count - 2, 0)
