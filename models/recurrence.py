"""Recurrence over time on any Keras backend: `scan`, and an LSTM with projection whose gradient is written out.

The only backend-specific code of the project. Shapes: `T` steps, `B` batch, `I` input, `H` cells, `P` projection.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Tensor = Any
Tensors = tuple[Tensor, ...]
LEVELS = 127  # of 8 bits on either side of zero


def scan(
    step: Callable[[Tensors, Tensors], tuple[Tensors, Tensors]],
    carry: Tensors,
    xs: Tensors,
    *,
    reverse: bool = False,
) -> tuple[Tensors, Tensors]:
    """Run `step(carry, x) -> (carry, y)` over the first axis of every tensor of `xs`.

    Returns the last carry and every y stacked on axis 0, in the order of `xs` (also with `reverse`).
    Gradients do not flow through it on TensorFlow at a useful speed: callers supply their own.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.lax.scan(step, carry, xs, reverse=reverse)
    import tensorflow as tf

    length = tf.shape(xs[0])[0]
    first = step(carry, tuple(x[0] for x in xs))[1]  # only its dtypes and shapes are used
    arrays = tuple(tf.TensorArray(y.dtype, size=length, element_shape=y.shape) for y in first)

    def body(count: Tensor, carry: Tensors, arrays: Tensors) -> tuple[Tensor, Tensors, Tensors]:
        at = length - 1 - count if reverse else count
        carry, ys = step(carry, tuple(x[at] for x in xs))
        return count + 1, carry, tuple(a.write(at, y) for a, y in zip(arrays, ys, strict=True))

    _, carry, arrays = tf.while_loop(lambda count, *_: count < length, body, (0, carry, arrays), parallel_iterations=1)
    return carry, tuple(a.stack() for a in arrays)


def fake_quantized(x: Tensor, largest: Tensor | float | None = None) -> Tensor:
    """x as 8 bits hold it: on 255 steps from -largest to largest, the largest magnitude in it if None.

    The gradient is that of x (a straight-through estimator): training with it learns weights that bear the rounding.
    """
    wide = ops.cast(x, "float32")
    step = (ops.maximum(ops.max(ops.abs(wide)), 1e-6) if largest is None else largest) / LEVELS
    return x + ops.stop_gradient(ops.cast(ops.round(wide / step) * step, x.dtype) - x)


def lstm_gates(
    pre: Tensor, cell: Tensor, clip: float | None = None, *, quantized: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """New cell [B, H], hidden [B, H] and the gates (sigmoid i, f, o [B, 3H]; tanh g [B, H]) from [B, 4H].

    The cell keeps its own dtype: in bfloat16, hundreds of small additions to it would be rounded away. With `clip` it
    stays within -clip..clip, and `quantized` on the 255 steps that 8 bits have for that.
    """
    units = cell.shape[-1]
    sigmoids = ops.sigmoid(pre[:, : 3 * units])
    candidate = ops.tanh(pre[:, 3 * units :])
    keep = ops.cast(sigmoids[:, units : 2 * units], cell.dtype)
    cell = keep * cell + ops.cast(sigmoids[:, :units] * candidate, cell.dtype)
    if clip:
        cell = ops.minimum(ops.maximum(cell, -clip), clip)
        cell = fake_quantized(cell, clip) if quantized else cell
    hidden = sigmoids[:, 2 * units :] * ops.tanh(ops.cast(cell, pre.dtype))
    return cell, hidden, sigmoids, candidate


def lstm_slopes(
    cell0: Tensor, cells: Tensor, sigmoids: Tensor, candidates: Tensor, clip: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives over all steps of an LSTM whose cells were [T, B, H] and whose gates `lstm_gates` gave.

    Of the hidden state by the cell [T, B, H], of the cell by the one before [T, B, H], and by what the gates got
    [T, B, 4H]: there the third part belongs to the hidden state, the others to the cell.
    """
    gate_in, keep, gate_out = ops.split(sigmoids, 3, axis=-1)
    risen = ops.tanh(cells)
    previous = ops.concatenate([ops.cast(cell0, cells.dtype)[None], cells[:-1]], axis=0)
    to_cell = [
        candidates * gate_in * (1 - gate_in),
        previous * keep * (1 - keep),
        gate_in * (1 - candidates * candidates),
    ]
    if clip:  # a cell held at the limit follows nothing
        free = ops.cast(ops.abs(cells) < clip, cells.dtype)
        keep, to_cell = keep * free, [slope * free for slope in to_cell]
    to_gates = ops.concatenate([*to_cell[:2], risen * gate_out * (1 - gate_out), to_cell[2]], axis=-1)
    return gate_out * (1 - risen * risen), keep, to_gates


def lstm_sequence(
    x: Tensor,
    kernel: Tensor,
    recurrent: Tensor,
    bias: Tensor,
    projection: Tensor | None,
    cell0: Tensor,
    output0: Tensor,
    clip: float | None = None,
    *,
    quantized: bool = False,
) -> Tensor:
    """Outputs [T, B, P] of an LSTM with projection (Sak et al. 2014) over x [T, B, I], time first.

    kernel [I, 4H] and recurrent [P, 4H] in gate order i, f, o, g; bias [4H]; projection [H, P], or None: P = H.
    cell0 float32 [B, H] and output0 [B, P] are constants to the gradient; `clip` bounds the cells, and `quantized`
    rounds them to 8 bits within the bounds, to which the gradient pays no heed. The gradient is written out
    so that each weight's is one large product over time instead of one small one per step: about three times faster on
    a CPU.
    """
    units = cell0.shape[-1]
    inputs, width = kernel.shape[0], output0.shape[-1]

    @ops.custom_gradient
    def run(x, kernel, recurrent, bias, *projected):
        projection = projected[0] if projected else None
        steps, batch = ops.shape(x)[0], ops.shape(x)[1]

        def flat(value):
            return ops.reshape(value, (-1, value.shape[-1]))

        mapped = ops.reshape(ops.matmul(flat(x), kernel) + bias, (steps, batch, 4 * units))

        def forward(carry, now):
            cell, output = carry
            cell, hidden, sigmoids, candidate = lstm_gates(
                now[0] + ops.matmul(output, recurrent), cell, clip, quantized=quantized
            )
            output = hidden if projection is None else ops.matmul(hidden, projection)
            return (cell, output), (output, ops.cast(cell, hidden.dtype), hidden, sigmoids, candidate)

        _, (outputs, cells, hiddens, sigmoids, candidates) = scan(forward, (cell0, output0), (mapped,))

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            to_cell, keep, to_gates = lstm_slopes(cell0, cells, sigmoids, candidates, clip)
            unproject = None if projection is None else ops.transpose(projection)
            unrecur = ops.transpose(recurrent)

            def backward(carry, now):
                d_output, d_cell = carry
                d_above, cell_factor, keep_now, gates = now
                d_output = d_output + d_above
                d_hidden = d_output if unproject is None else ops.matmul(d_output, unproject)
                d_cell = d_cell + ops.cast(d_hidden * cell_factor, d_cell.dtype)
                d_now = ops.cast(d_cell, d_hidden.dtype)
                d_pre = ops.concatenate([d_now, d_now, d_hidden, d_now], axis=-1) * gates
                return (ops.matmul(d_pre, unrecur), d_cell * ops.cast(keep_now, d_cell.dtype)), (d_pre, d_output)

            zeros = (ops.zeros_like(output0), ops.zeros_like(cell0))
            _, (d_pre, d_outputs) = scan(backward, zeros, (upstream, to_cell, keep, to_gates), reverse=True)
            before = ops.concatenate([output0[None], outputs[:-1]], axis=0)
            d_flat = flat(d_pre)
            d_projection = () if projection is None else (ops.matmul(ops.transpose(flat(hiddens)), flat(d_outputs)),)
            return (
                ops.reshape(ops.matmul(d_flat, ops.transpose(kernel)), (steps, batch, inputs)),
                ops.matmul(ops.transpose(flat(x)), d_flat),
                ops.matmul(ops.transpose(flat(before)), d_flat),
                ops.cast(ops.sum(ops.cast(d_flat, "float32"), axis=0), bias.dtype),
                *d_projection,
            )

        return ops.reshape(outputs, (steps, batch, width)), gradient

    return run(x, kernel, recurrent, bias, *(() if projection is None else (projection,)))
