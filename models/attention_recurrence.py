"""The part of an attention decoder that must run step by step, with its gradient written out.

An LSTM asks where to look, and hears at the next step what was seen there (location-sensitive attention, Chorowski et
al. 2015, as Shen et al. 2017 use it). As with `models.recurrence.lstm_sequence`, each weight's gradient is one large
product over time: backward through the loop is what training a Tacotron on a CPU waits for.

Shapes: `T` steps, `B` batch, `N` symbols, `D` memory, `A` attention, `H` cells, `L` location filters, `K` their width.
"""

from typing import Any, NamedTuple

from keras import ops

from models.recurrence import lstm_gates, lstm_slopes, scan

Tensor = Any


class AttentionWeights(NamedTuple):
    """Everything the loop learns."""

    recurrent: Tensor  # [H, 4H]
    from_memory: Tensor  # [D, 4H]
    query: Tensor  # [H, A]
    query_bias: Tensor  # [A]
    location_conv: Tensor  # [K, 2, L] over the last weights and their sum, K odd
    location_dense: Tensor  # [L, A]
    score: Tensor  # [A]


class AttentionStart(NamedTuple):
    """What lies before the first step; constants to the gradient."""

    cell: Tensor  # float32 [B, H]
    output: Tensor  # [B, H]
    context: Tensor  # [B, D]
    weights: Tensor  # float32 [B, N]
    total: Tensor  # float32 [B, N]


def located(weights: Tensor, total: Tensor, kernel: Tensor) -> Tensor:
    """Features [B, N, L] of where attention was, float32 [B, N] twice, in the kernel's dtype."""
    places = ops.cast(ops.stack([weights, total], axis=-1), kernel.dtype)
    return ops.conv(places, kernel, strides=1, padding="same")


def attend(
    output: Tensor, weights: Tensor, total: Tensor, memory: Tensor, keys: Tensor, beyond: Tensor, w: AttentionWeights
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """context [B, D], weights float32 [B, N], and for the gradient features [B, N, L] and tanh [B, N, A]."""
    features = located(weights, total, w.location_conv)
    asked = ops.matmul(output, w.query) + w.query_bias
    squashed = ops.tanh(asked[:, None] + ops.matmul(features, w.location_dense) + keys)
    energy = ops.matmul(squashed, w.score[:, None])[..., 0]
    weights = ops.softmax(ops.cast(energy, "float32") + beyond, axis=-1)
    context = ops.matmul(ops.cast(weights, memory.dtype)[:, None], memory)[:, 0]
    return context, weights, features, squashed


def attention_sequence(
    pre: Tensor, memory: Tensor, keys: Tensor, beyond: Tensor, weights: AttentionWeights, start: AttentionStart
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs [T, B, H], contexts [T, B, D] and attention float32 [T, B, N] for pre [T, B, 4H], what the LSTM's gates
    get from the pre-net; memory [B, N, D], keys [B, N, A]; beyond [B, N] keeps attention off the padding.
    """

    @ops.custom_gradient
    def run(pre, memory, keys, *learnt):
        w = AttentionWeights(*learnt)

        def forward(carry, now):
            cell, output, context, looked, total = carry
            gates = now[0] + ops.matmul(output, w.recurrent) + ops.matmul(context, w.from_memory)
            cell, output, sigmoids, candidate = lstm_gates(gates, cell)
            context, looked, features, squashed = attend(output, looked, total, memory, keys, beyond, w)
            kept = (output, context, looked, ops.cast(cell, output.dtype), sigmoids, candidate, features, squashed)
            return (cell, output, context, looked, total + looked), kept

        _, saved = scan(forward, tuple(start), (pre,))
        outputs, contexts, looked = saved[:3]

        def gradient(*args, upstream=None):
            given = args if upstream is None else upstream
            given = given if len(given) == 3 else given[0]
            return _gradient(given, saved, memory, w, start)

        return (outputs, contexts, looked), gradient

    return run(pre, memory, keys, *weights)


def _gradient(
    given: tuple[Tensor, ...], saved: tuple[Tensor, ...], memory: Tensor, w: AttentionWeights, start: AttentionStart
) -> tuple[Tensor, ...]:
    """Gradients of pre, memory, keys and every weight."""
    outputs, contexts, looked, cells, sigmoids, candidates, features, squashed = saved
    to_cell, keep, to_gates = lstm_slopes(start.cell, cells, sigmoids, candidates)
    unrecur, unremember, unask = (ops.transpose(x) for x in (w.recurrent, w.from_memory, w.query))
    unlocate, dtype = ops.transpose(w.location_dense), memory.dtype
    unconvolve = ops.transpose(ops.flip(w.location_conv, axis=0), (0, 2, 1))  # [K, L, 2]

    def backward(carry, now):
        d_output, d_cell, d_context, d_looked, d_total = carry
        up_output, up_context, up_looked, looked_now, squashed_now, cell_factor, keep_now, gates = now
        d_context = d_context + up_context
        d_looked = (
            d_looked + d_total + up_looked + ops.cast(ops.matmul(memory, d_context[..., None])[..., 0], "float32")
        )
        d_energy = looked_now * (d_looked - ops.sum(looked_now * d_looked, axis=-1, keepdims=True))  # softmax
        d_inside = ops.cast(d_energy, dtype)[..., None] * w.score * (1 - squashed_now * squashed_now)  # [B, N, A]
        d_asked = ops.sum(d_inside, axis=1)
        d_features = ops.matmul(d_inside, unlocate)
        d_places = ops.cast(ops.conv(d_features, unconvolve, strides=1, padding="same"), "float32")
        d_output = d_output + up_output + ops.matmul(d_asked, unask)
        d_cell = d_cell + ops.cast(d_output * cell_factor, d_cell.dtype)
        d_now = ops.cast(d_cell, dtype)
        d_pre = ops.concatenate([d_now, d_now, d_output, d_now], axis=-1) * gates
        carry = (
            ops.matmul(d_pre, unrecur), d_cell * ops.cast(keep_now, d_cell.dtype), ops.matmul(d_pre, unremember),
            d_places[..., 0], d_total + d_places[..., 1],
        )  # fmt: skip
        return carry, (d_pre, d_context, d_energy, d_inside, d_asked, d_features)

    zeros = tuple(ops.zeros_like(x) for x in (start.output, start.cell, start.context, start.weights, start.total))
    ups = (given[0], given[1], ops.cast(given[2], "float32"))
    xs = (*ups, looked, squashed, to_cell, keep, to_gates)
    _, (d_pre, d_contexts, d_energies, d_insides, d_asked, d_features) = scan(backward, zeros, xs, reverse=True)

    before = _before(start.weights, looked)
    totals = start.total[None] + ops.cumsum(before, axis=0) - start.weights[None]  # the sum before each step
    unfolded = _unfolded(ops.cast(ops.stack([before, totals], axis=-1), dtype), w.location_conv.shape[0])
    return (
        d_pre,
        ops.matmul(ops.transpose(ops.cast(looked, dtype), (1, 2, 0)), ops.transpose(d_contexts, (1, 0, 2))),
        ops.cast(ops.sum(ops.cast(d_insides, "float32"), axis=0), dtype),
        _product(_before(start.output, outputs), d_pre),
        _product(_before(start.context, contexts), d_pre),
        _product(outputs, d_asked),
        ops.cast(ops.sum(ops.cast(d_asked, "float32"), axis=(0, 1)), dtype),
        ops.reshape(_product(unfolded, d_features), w.location_conv.shape),
        _product(features, d_insides),
        _product(squashed, ops.cast(d_energies, dtype)[..., None])[:, 0],
    )


def _before(first: Tensor, values: Tensor) -> Tensor:
    """[T, ...]: what was there before each step."""
    return ops.concatenate([first[None], values[:-1]], axis=0)


def _product(x: Tensor, y: Tensor) -> Tensor:
    """Sum over all but the last axes of outer products: [.., I], [.., J] -> [I, J]."""
    return ops.matmul(ops.transpose(ops.reshape(x, (-1, x.shape[-1]))), ops.reshape(y, (-1, y.shape[-1])))


def _unfolded(places: Tensor, width: int) -> Tensor:
    """[T, B, N, 2] -> [T, B, N, K * 2]: what a "same" convolution over N sees at each place."""
    half, count = width // 2, ops.shape(places)[2]
    padded = ops.pad(places, ((0, 0), (0, 0), (half, half), (0, 0)))
    return ops.concatenate([padded[:, :, i : i + count] for i in range(width)], axis=-1)
