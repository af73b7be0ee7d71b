"""The attention loop equals steps written with operators alone, and so do its gradients."""

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from keras import ops  # noqa: E402

from models.attention_recurrence import (  # noqa: E402
    AttentionStart,
    AttentionWeights,
    attend,
    attention_sequence,
)
from models.recurrence import lstm_gates  # noqa: E402
from tests.models.backends import gradient, on_every_backend  # noqa: E402

test_on_jax = on_every_backend(__file__)
T, B, N, D, A, H, L, K = 6, 2, 7, 4, 3, 5, 2, 3
SHAPES = [(T, B, 4 * H), (B, N, D), (B, N, A), (H, 4 * H), (D, 4 * H), (H, A), (A,), (K, 2, L), (L, A), (A,)]
rng = np.random.default_rng(0)
ARRAYS = [rng.normal(0, 0.8, shape).astype(np.float32) for shape in SHAPES]
FACTORS = [rng.normal(size=(T, B, width)).astype(np.float32) for width in (H, D, N)]
BEYOND = np.where(np.arange(N)[None] < np.array([[7], [4]]), 0.0, -1e9).astype(np.float32)


def start() -> AttentionStart:
    """Not zeros, so that what lies before the first step counts too."""
    draw = np.random.default_rng(1)
    shapes = ((B, H), (B, H), (B, D), (B, N), (B, N))
    return AttentionStart(*(draw.uniform(0, 0.5, shape).astype(np.float32) for shape in shapes))


def plain(pre: Any, memory: Any, keys: Any, *learnt: Any) -> list[Any]:
    """The same step by step, for autodiff."""
    w, (cell, output, context, looked, total) = AttentionWeights(*learnt), start()
    rows = []
    for t in range(T):
        gates = pre[t] + ops.matmul(output, w.recurrent) + ops.matmul(context, w.from_memory)
        cell, output, _, _ = lstm_gates(gates, ops.convert_to_tensor(cell))
        context, looked, _, _ = attend(output, looked, total, memory, keys, BEYOND, w)
        total = total + looked
        rows.append((output, context, looked))
    return [ops.stack(column) for column in zip(*rows, strict=True)]


def ours(pre: Any, memory: Any, keys: Any, *learnt: Any) -> tuple[Any, ...]:
    return attention_sequence(pre, memory, keys, BEYOND, AttentionWeights(*learnt), start())


def test_the_loop_is_the_steps() -> None:
    for mine, theirs in zip(ours(*ARRAYS), plain(*ARRAYS), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(mine), ops.convert_to_numpy(theirs), atol=1e-5)


def test_written_gradients_equal_autodiff() -> None:
    def weighed(made: Any) -> Any:
        return sum(ops.sum(x * factor) for x, factor in zip(made, FACTORS, strict=True))

    names = ["pre", "memory", "keys", *AttentionWeights._fields]
    mine = gradient(lambda *a: weighed(ours(*a)), *ARRAYS)
    theirs = gradient(lambda *a: weighed(plain(*a)), *ARRAYS)
    for name, one, other in zip(names, mine, theirs, strict=True):
        assert np.abs(other).max() > 1e-3, name
        np.testing.assert_allclose(one, other, atol=2e-4, err_msg=name)
