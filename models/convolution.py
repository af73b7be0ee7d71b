"""Stacks of "same" convolutions over time that also run as a stream, as text encoders and post-nets use them.

Shapes: `B` batch, `T` steps of time (symbols or frames), `C` channels.

A convolution that looks ahead becomes a stream by coming late: each layer waits for half its kernel, so a stack's
step puts out what belongs `delay` positions before the newest input. Beyond the ends of a sequence every layer sees
zeros; `inside` (1 within, 0 beyond) says where that is, and travels through the layers with the data.
"""

from collections import namedtuple
from functools import cache
from typing import Any

import keras
from keras import ops

Tensor = Any


@cache
def conv_state_type(part: str, layers: int) -> type:
    """NamedTuple of a stack's state: `<part>_x0` the inputs layer 0 still needs, and so on; `<part>_inside`."""
    return namedtuple(
        f"{part.title().replace('_', '')}State", [f"{part}_x{i}" for i in range(layers)] + [f"{part}_inside"]
    )


class ConvStack(keras.layers.Layer):
    """Convolution, batch normalisation, activation and dropout, several times (Shen et al. 2017, section 2.2)."""

    def __init__(
        self, part: str, widths: tuple[int, ...], kernel: int, *, activation: str, last: str, dropout: float,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=part, **kwargs)
        if kernel % 2 == 0:
            raise ValueError(f"kernel {kernel}: expected an odd number")
        self.part, self.widths, self.kernel_size = part, widths, kernel
        self.half = kernel // 2
        self.delay = self.half * len(widths)
        names = [activation] * (len(widths) - 1) + [last]
        self.activations = [keras.activations.get(name) for name in names]
        self.norms = [keras.layers.BatchNormalization(momentum=0.95, name=f"norm{i}") for i in range(len(widths))]
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.inputs_ = [int(input_shape[-1]), *self.widths[:-1]]
        self.kernels = []
        for i, (width_in, width) in enumerate(zip(self.inputs_, self.widths, strict=True)):
            self.kernels.append(self.add_weight(shape=(self.kernel_size, width_in, width), name=f"kernel{i}"))
            self.norms[i].build((None, None, width))

    def call(self, x: Tensor, inside: Tensor, training: bool | None = None) -> Tensor:
        """[B, T, C] with inside [B, T, 1] -> [B, T, C'], zero beyond the ends."""
        inside = ops.cast(inside, self.compute_dtype)
        x = ops.where(inside > 0, x, ops.zeros_like(x))
        for i in range(len(self.widths)):
            x = self._layer(i, ops.pad(x, ((0, 0), (self.half, self.half), (0, 0))), inside, training) * inside
        return x

    def initial_state(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Zeros: nothing lies before the beginning."""
        late = [ops.zeros((batch, self.kernel_size - 1, width)) for width in self.inputs_]
        return conv_state_type(self.part, len(self.widths))(*late, ops.zeros((batch, self.delay, 1)))

    def step(self, x: Tensor, inside: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The next n positions [B, n, C], inside [B, n, 1] -> [B, n, C'] of `delay` positions earlier."""
        count = x.shape[1]
        marks = ops.concatenate([state[-1], inside], axis=1)  # [B, delay + n, 1]
        x, kept = x * inside, []
        for i in range(len(self.widths)):
            x = ops.concatenate([state[i], x], axis=1)
            kept.append(x[:, count:])
            earlier = self.delay - (i + 1) * self.half
            x = self._layer(i, x, None, False) * marks[:, earlier : earlier + count]
        return x, type(state)(*kept, marks[:, count:])

    def _layer(self, i: int, x: Tensor, inside: Tensor | None, training: bool | None) -> Tensor:
        x = ops.conv(x, ops.cast(self.kernels[i], x.dtype), strides=1, padding="valid")
        mask = None if inside is None else inside[..., 0] > 0
        x = self.norms[i](x, training=training, mask=mask if training else None)
        return self.dropout(self.activations[i](x), training=training)
