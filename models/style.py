"""How something is said: reference encoder and global style tokens.

Skerry-Ryan et al. 2018 (arXiv 1803.09047, the encoder) and Wang et al. 2018 (arXiv 1803.09017, the tokens).
Shapes: `B` batch, `F` frames, `M` mel bands, `K` tokens, `D` style width.
"""

from collections import namedtuple
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
from keras import ops

from models.recurrence import scan

Tensor = Any


@dataclass(frozen=True)
class StyleConfig:
    """Sizes of the style branch."""

    filters: tuple[int, ...] = (32, 32, 64, 64, 128, 128)  # 3 x 3 convolutions, stride 2 both ways
    units: int = 128  # of the GRU over what remains of time
    tokens: int = 10
    heads: int = 8
    width: int = 256  # of a style embedding, all heads together

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")

    @property
    def block(self) -> int:
        """64 frames make one step of the GRU."""
        return 2 ** len(self.filters)


@cache
def reference_state_type(layers: int) -> type:
    """NamedTuple: `reference_x0` the frame before the block as layer 0 sees it, and so on; `reference_gru`."""
    return namedtuple("ReferenceState", [f"reference_x{i}" for i in range(layers)] + ["reference_gru"])


class ReferenceEncoder(keras.layers.Layer):
    """A recording's prosody as one vector: strided convolutions, then a GRU whose last state it is.

    Convolutions are padded in the past only, so a block of 64 frames needs one frame from the block before.
    """

    def __init__(self, config: StyleConfig, bands: int, **kwargs: Any) -> None:
        super().__init__(name="reference", **kwargs)
        self.config, self.bands = config, bands
        self.norms = [
            keras.layers.BatchNormalization(momentum=0.95, name=f"norm{i}") for i in range(len(config.filters))
        ]

    def build(self, input_shape: Any = None) -> None:
        c = self.config
        self.kernels, self.widths = [], []  # widths: (bands, channels) a layer takes in
        bands, channels = self.bands, 1
        for i, width in enumerate(c.filters):
            self.widths.append((bands, channels))
            self.kernels.append(self.add_weight(shape=(3, 3, channels, width), name=f"kernel{i}"))
            bands, channels = -(-bands // 2), width
            self.norms[i].build((None, None, bands, width))
        self.gru_kernel = self.add_weight(shape=(bands * channels, 3 * c.units), name="gru_kernel")
        self.gru_recurrent = self.add_weight(
            shape=(c.units, 3 * c.units), initializer="orthogonal", name="gru_recurrent"
        )
        self.gru_bias = self.add_weight(shape=(2, 3 * c.units), initializer="zeros", name="gru_bias")

    def call(self, mel: Tensor, frames: Tensor, training: bool | None = None) -> Tensor:
        """mel [B, F, M], F a multiple of `block`; frames [B] of them count -> [B, units]."""
        batch, length, units = ops.shape(mel)[0], ops.shape(mel)[1], self.config.units
        inside = ops.arange(length)[None, :] < frames[:, None]
        x = ops.cast(ops.where(inside[..., None], mel, 0.0), self.compute_dtype)[..., None]
        for i in range(len(self.config.filters)):
            inside = inside[:, ::2]
            x = self._layer(i, ops.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0))), training, inside)
        x = ops.transpose(ops.reshape(x, (batch, -1, self.gru_kernel.shape[0])), (1, 0, 2))
        inside = ops.cast(ops.transpose(inside)[..., None], x.dtype)  # [F / 64, B, 1]: a row that ended keeps its state

        def step(carry: tuple[Tensor], now: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor], tuple[Tensor]]:
            new = now[1] * self._gru(now[0], carry[0]) + (1 - now[1]) * carry[0]
            return (new,), (new[:, :1],)

        (state,), _ = scan(step, (ops.zeros((batch, units), x.dtype),), (x, inside))
        return state

    def initial_state(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Zeros."""
        rows = [ops.zeros((batch, 1, *width)) for width in self.widths]
        return reference_state_type(len(rows))(*rows, ops.zeros((batch, self.config.units)))

    def step(self, mel: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One block [B, 64, M] (the last one filled with zeros) -> ([B, units] so far, state)."""
        x, rows = mel[..., None], []
        for i in range(len(self.config.filters)):
            rows.append(x[:, -1:])
            x = self._layer(i, ops.concatenate([state[i], x], axis=1), False)
        gru = self._gru(ops.reshape(x, (-1, self.gru_kernel.shape[0])), state[-1])
        return gru, type(state)(*rows, gru)

    def _layer(self, i: int, x: Tensor, training: bool | None, inside: Tensor | None = None) -> Tensor:
        """[B, 1 + F, bands, C] -> [B, F // 2, bands', C']: in time the row before is in `x` already.

        inside [B, F // 2] keeps padding out of the batch's statistics.
        """
        odd = x.shape[2] % 2
        x = ops.pad(x, ((0, 0), (0, 0), (1, odd), (0, 0)))
        x = ops.conv(x, ops.cast(self.kernels[i], x.dtype), strides=2, padding="valid")
        mask = None
        if training and inside is not None:
            mask = ops.broadcast_to(inside[:, :, None], ops.shape(x)[:3])
        return ops.relu(self.norms[i](x, training=training, mask=mask))

    def _gru(self, x: Tensor, state: Tensor) -> Tensor:
        units = self.config.units
        bias = ops.cast(self.gru_bias, x.dtype)
        new = ops.matmul(x, ops.cast(self.gru_kernel, x.dtype)) + bias[0]
        old = ops.matmul(state, ops.cast(self.gru_recurrent, x.dtype)) + bias[1]
        gates = ops.sigmoid(new[:, : 2 * units] + old[:, : 2 * units])
        candidate = ops.tanh(new[:, 2 * units :] + gates[:, units:] * old[:, 2 * units :])
        return gates[:, :units] * state + (1 - gates[:, :units]) * candidate


class StyleTokens(keras.layers.Layer):
    """A bank of learnt styles and the attention that mixes them to resemble a reference (Wang et al. 2018, 3.2)."""

    def __init__(self, config: StyleConfig, **kwargs: Any) -> None:
        super().__init__(name="style", **kwargs)
        self.config = config

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        c = self.config
        depth = c.width // c.heads
        self.tokens = self.add_weight(
            shape=(c.tokens, depth), initializer=keras.initializers.RandomNormal(stddev=0.5), name="tokens"
        )
        self.query = self.add_weight(shape=(int(input_shape[-1]), c.width), name="query")
        self.key = self.add_weight(shape=(depth, c.width), name="key")
        self.value = self.add_weight(shape=(depth, c.width), name="value")

    def call(self, reference: Tensor) -> Tensor:
        """What the reference encoder says [B, units] -> attention over the tokens, float32 [B, heads, K]."""
        return ops.softmax(self.scores(reference), axis=-1)

    def scores(self, reference: Tensor) -> Tensor:
        """The same before the softmax."""
        c = self.config
        depth = c.width // c.heads
        query = ops.reshape(ops.matmul(reference, ops.cast(self.query, reference.dtype)), (-1, c.heads, 1, depth))
        key = ops.reshape(ops.matmul(ops.tanh(self.tokens), self.key), (1, c.tokens, c.heads, depth))
        scores = ops.sum(ops.cast(query, "float32") * ops.cast(ops.transpose(key, (0, 2, 1, 3)), "float32"), axis=-1)
        return scores / depth**0.5

    def embed(self, weights: Tensor) -> Tensor:
        """Any weights [B, heads, K], which need not sum to one -> style [B, width]."""
        mixed = ops.matmul(ops.transpose(weights, (1, 0, 2)), self.values())
        return ops.reshape(ops.transpose(mixed, (1, 0, 2)), (-1, self.config.width))

    def values(self) -> Tensor:
        """What each token gives the style, float32 [heads, K, width / heads]."""
        c = self.config
        value = ops.reshape(ops.matmul(ops.tanh(self.tokens), self.value), (c.tokens, c.heads, c.width // c.heads))
        return ops.cast(ops.transpose(value, (1, 0, 2)), "float32")
