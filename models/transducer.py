"""Transducer loss (Graves 2012) with bounded memory, by pruning the lattice (Kuang et al. 2022).

Shapes: `B` batch, `T` frames, `U` labels, `U1` = U + 1 label positions, `S` positions kept per frame, `V` symbols,
`D` = T + U anti-diagonals. Symbol 0 is blank. The lattice itself ([B, T, U1]) is small; what grows is the joiner's
[B, T, U1, V]. So a cheap joiner that is a sum finds the S positions each frame needs, and the real one runs on those.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from models.recurrence import scan

Tensor = Any
IMPOSSIBLE = -1e30  # a log-probability that survives sums in float32


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    high = ops.maximum(a, b)
    return high + ops.log1p(ops.exp(ops.minimum(a, b) - high))


def _skew(lattice: Tensor) -> Tensor:
    """[B, T, U1] -> [D, B, U1] with row d holding (t = d - u, u); places outside the lattice are IMPOSSIBLE."""
    batch, frames, positions = ops.shape(lattice)
    rows = ops.transpose(lattice, (0, 2, 1))  # [B, U1, T]
    padding = ops.full((batch, positions, positions), IMPOSSIBLE, dtype=lattice.dtype)
    flat = ops.reshape(ops.concatenate([rows, padding], axis=-1), (batch, positions * (frames + positions)))
    length = frames + positions - 1  # one less than a row: each row starts one place later than the one above
    skewed = ops.reshape(flat[:, : positions * length], (batch, positions, length))
    return ops.transpose(skewed, (2, 0, 1))


def _unskew(diagonals: Tensor, frames: Tensor) -> Tensor:
    """[D, B, U1] -> [B, T, U1], the inverse of `_skew`."""
    length, batch, positions = ops.shape(diagonals)
    flat = ops.reshape(ops.transpose(diagonals, (1, 2, 0)), (batch, positions * length))
    flat = ops.concatenate([flat, ops.zeros((batch, positions), dtype=diagonals.dtype)], axis=-1)
    return ops.transpose(ops.reshape(flat, (batch, positions, length + 1))[:, :, :frames], (0, 2, 1))


def _occupancy(blank: Tensor, emit: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-likelihood [B] and the posterior of every blank and every emission, both [B, T, U1]."""
    _, times, positions = ops.shape(blank)
    t = ops.arange(times, dtype="int32")[None, :, None]
    u = ops.arange(positions, dtype="int32")[None, None, :]
    last_t, last_u = frames[:, None, None] - 1, labels[:, None, None]
    inside = ops.logical_and(t <= last_t, u <= last_u)
    final = ops.logical_and(ops.equal(t, last_t), ops.equal(u, last_u))
    blank_ok = ops.logical_or(final, ops.logical_and(inside, t < last_t))
    emit_ok = ops.logical_and(inside, u < last_u)
    blank = _skew(ops.where(blank_ok, blank, IMPOSSIBLE))  # [D, B, U1]
    emit = _skew(ops.where(emit_ok, emit, IMPOSSIBLE))
    final = _skew(ops.cast(final, blank.dtype)) > 0.5

    start = ops.where(ops.arange(positions) > 0, IMPOSSIBLE, 0.0) + ops.zeros_like(blank[0])  # [B, U1]
    edge = ops.full_like(blank[0][:, :1], IMPOSSIBLE)

    def forward(carry, now):
        (alpha,) = carry
        emitted = ops.concatenate([edge, (alpha + now[1])[:, :-1]], axis=-1)
        return (_logaddexp(alpha + now[0], emitted),), (alpha,)

    _, (alpha,) = scan(forward, (start,), (blank, emit))

    def backward(carry, now):
        (beta,) = carry  # of the next diagonal
        blank_now, emit_now, final_now = now
        after_blank = ops.where(final_now, 0.0, beta)
        after_emit = ops.concatenate([beta[:, 1:], edge], axis=-1)
        beta = _logaddexp(blank_now + after_blank, emit_now + after_emit)
        return (beta,), (after_blank, after_emit)

    zero = ops.full_like(blank[0], IMPOSSIBLE)
    (beta0,), (after_blank, after_emit) = scan(backward, (zero,), (blank, emit, final), reverse=True)
    total = beta0[:, 0]
    posterior_blank = ops.exp(ops.minimum(alpha + blank + after_blank - total[None, :, None], 0.0))
    posterior_emit = ops.exp(ops.minimum(alpha + emit + after_emit - total[None, :, None], 0.0))
    return total, _unskew(posterior_blank, times), _unskew(posterior_emit, times)


def lattice_loss(blank: Tensor, emit: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood [B] of all alignments, from log-probabilities on the lattice (Graves 2012, eq. 16-18).

    blank, emit: float32 [B, T, U1], the log-probability of blank, and of the next label, at frame t after u labels
    (the last column of emit is unused). frames, labels: int32 [B], the valid lengths, frames >= 1. What lies outside
    the valid lengths has no influence, NaN included. The gradient is exact (minus the posterior).
    """

    @ops.custom_gradient
    def run(blank, emit):
        total, posterior_blank, posterior_emit = _occupancy(blank, emit, frames, labels)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            scale = -upstream[:, None, None]
            return posterior_blank * scale, posterior_emit * scale

        return -total, gradient

    return run(blank, emit)


def lattice_from_logits(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(blank, emit) [B, T, P] from joiner logits [B, T, P, V] and the label after each position, int32 [B, T|1, P]."""
    logits = ops.cast(logits, "float32")
    total = ops.logsumexp(logits, axis=-1)
    chosen = ops.sum(logits * ops.one_hot(targets, logits.shape[-1], dtype="float32"), axis=-1)
    return logits[..., 0] - total, chosen - total


def transducer_loss(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """Loss [B] from the whole joiner output [B, T, U1, V] and targets int32 [B, U]: for small problems and tests."""
    following = ops.pad(targets, ((0, 0), (0, 1)))[:, None, :]  # [B, 1, U1]
    blank, emit = lattice_from_logits(logits, following)
    return lattice_loss(blank, emit, frames, labels)


def additive_lattice(acoustic: Tensor, language: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(blank, emit) [B, T, U1] of a joiner whose logits are acoustic [B, T, V] + language [B, U1, V].

    Its normaliser is one matrix product, so nothing of size T x U x V exists.
    """
    acoustic, language = ops.cast(acoustic, "float32"), ops.cast(language, "float32")
    high_a = ops.stop_gradient(ops.max(acoustic, axis=-1, keepdims=True))
    high_l = ops.stop_gradient(ops.max(language, axis=-1, keepdims=True))
    mass = ops.matmul(ops.exp(acoustic - high_a), ops.transpose(ops.exp(language - high_l), (0, 2, 1)))
    total = ops.log(mass + 1e-20) + high_a + ops.transpose(high_l, (0, 2, 1))  # [B, T, U1]
    chosen = ops.one_hot(ops.pad(targets, ((0, 0), (0, 1))), acoustic.shape[-1], dtype="float32")  # [B, U1, V]
    emit = ops.matmul(acoustic, ops.transpose(chosen, (0, 2, 1))) + ops.sum(language * chosen, axis=-1)[:, None, :]
    blank = acoustic[:, :, :1] + ops.transpose(language[:, :, :1], (0, 2, 1))
    return blank - total, emit - total


def pruning_starts(posterior: Tensor, frames: Tensor, labels: Tensor, kept: int) -> Tensor:
    """First kept position int32 [B, T] per frame: the window of `kept` positions with the most posterior [B, T, U1],
    made monotonic, never jumping past an unkept position, starting at 0 and ending at the last label.
    """
    _, times, positions = ops.shape(posterior)
    sums = ops.pad(ops.cumsum(posterior, axis=-1), ((0, 0), (0, 0), (1, 0)))  # [B, T, U1 + 1]
    best = ops.argmax(sums[:, :, kept:] - sums[:, :, : positions + 1 - kept], axis=-1)
    best = ops.cast(best, "int32")  # [B, T] in 0..U1 - kept
    t = ops.arange(times, dtype="int32")
    final = ops.maximum(labels + 1 - kept, 0)[:, None]
    climb = kept - 1
    best = ops.minimum(best, climb * t[None])  # reachable from 0
    best = ops.where(t[None] >= frames[:, None] - 1, final, ops.minimum(best, final))
    earlier = t[:, None] >= t[None, :]  # [T, T']
    best = ops.max(ops.where(earlier[None], best[:, None, :], 0), axis=-1)  # running maximum
    later = t[:, None] <= t[None, :]
    low = ops.where(later[None], (best - climb * t[None])[:, None, :], -(2**30))
    return ops.maximum(ops.max(low, axis=-1) + climb * t[None], 0)


def pruned_transducer_loss(
    joiner: Callable[[Tensor], Tensor],
    encoded: Tensor,
    predicted: Tensor,
    acoustic: Tensor,
    language: Tensor,
    targets: Tensor,
    frames: Tensor,
    labels: Tensor,
    kept: int = 5,
) -> tuple[Tensor, Tensor]:
    """(loss of the real joiner on the kept positions [B], loss of the additive joiner [B]).

    joiner maps encoded + predicted [B, T, S, J] to logits [B, T, S, V]; encoded [B, T, J]; predicted [B, U1, J];
    acoustic [B, T, V] and language [B, U1, V] are the additive joiner's parts; targets int32 [B, U] with U1 >= kept.
    With kept = U1 the first loss is the exact transducer loss.
    """
    blank, emit = additive_lattice(acoustic, language, targets)
    simple = lattice_loss(blank, emit, frames, labels)
    _, posterior_blank, posterior_emit = _occupancy(ops.stop_gradient(blank), ops.stop_gradient(emit), frames, labels)
    starts = ops.stop_gradient(pruning_starts(posterior_blank + posterior_emit, frames, labels, kept))
    batch, times = ops.shape(starts)
    positions = ops.shape(predicted)[1]
    kept_positions = starts[:, :, None] + ops.arange(kept, dtype="int32")  # [B, T, S]
    pick = ops.cast(
        ops.equal(kept_positions[..., None], ops.arange(positions, dtype="int32")), "float32"
    )  # [B, T, S, U1]: gathering by a product keeps the gradient a product too
    flat_pick = ops.cast(ops.reshape(pick, (batch, times * kept, positions)), predicted.dtype)
    near = ops.reshape(ops.matmul(flat_pick, predicted), (batch, times, kept, predicted.shape[-1]))
    following = ops.pad(targets, ((0, 0), (0, 1)))
    near_targets = ops.cast(
        ops.sum(pick * ops.cast(following, "float32")[:, None, None, :], axis=-1), "int32"
    )  # [B, T, S]
    blank, emit = lattice_from_logits(joiner(encoded[:, :, None, :] + near), near_targets)
    uncovered = (1.0 - ops.sum(pick, axis=2)) * IMPOSSIBLE  # [B, T, U1]
    blank = ops.sum(pick * blank[..., None], axis=2) + uncovered
    emit = ops.sum(pick * emit[..., None], axis=2) + uncovered
    return lattice_loss(blank, emit, frames, labels), simple
