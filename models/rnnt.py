"""Streaming RNN-T recogniser (He et al. 2018, arXiv 1811.06621) in Keras.

Shapes: `B` batch, `S` stacked frames (30 ms), `T` encoder frames (60 ms), `U` labels, `J` joiner width, `V` symbols,
`C` phones, blank included.
"""

from collections import namedtuple
from dataclasses import dataclass
from functools import cache
from typing import Any

import keras
from keras import ops

from models.recurrence import fake_quantized, lstm_gates, lstm_sequence

Tensor = Any
BLANK = 0
CELL_CLIP = 4.0  # for 8 bits everywhere


@dataclass(frozen=True)
class RnntConfig:
    """Sizes of the network; every hyperparameter is written here once."""

    features: int = 240  # one stacked frame: 3 x 80 log-mel values
    encoder_layers: int = 8
    encoder_units: int = 2048
    encoder_projection: int = 640
    reduction: int = 2  # frames joined by the time reduction: 30 ms -> 60 ms
    reduction_after: int = 2  # encoder layers before the time reduction
    predictor_layers: int = 2
    predictor_units: int = 2048
    predictor_projection: int = 640
    embedding: int = 640
    joiner: int = 640
    symbols: int = 4096  # word pieces, blank included
    residual: bool = False  # add a layer's input to its output where the widths agree
    dropout: float = 0.0
    phones: int = 0  # symbols of the phone head on the layers before the reduction, blank included; 0: there is none
    cell_clip: float | None = None  # cells stay within -clip..clip, as 8 bits need (Sak et al. 2014 clip at 50)
    quantized: bool = False  # LSTM layers are trained with inputs, weights and cells rounded to 8 bits

    def __post_init__(self) -> None:
        if not 0 < self.reduction_after < self.encoder_layers:
            raise ValueError("reduction_after must leave encoder layers on both sides")
        if self.quantized and not self.cell_clip:
            raise ValueError("quantized needs a cell_clip, within which cells are rounded")


TINY = RnntConfig(
    features=6, encoder_layers=3, encoder_units=8, encoder_projection=5, reduction_after=1, predictor_layers=1,
    predictor_units=6, predictor_projection=4, embedding=3, joiner=7, symbols=9, residual=True,
)  # fmt: skip
SMALL = RnntConfig(
    encoder_layers=6, encoder_units=512, encoder_projection=320, reduction_after=4, predictor_layers=1,
    predictor_units=512, predictor_projection=320, embedding=256, joiner=320, symbols=256, residual=True, dropout=0.1,
)  # fmt: skip
MOBILE_80MB = RnntConfig()  # the published sizes
PRESETS = {"tiny": TINY, "small": SMALL, "mobile-80mb": MOBILE_80MB}


@cache
def state_type(part: str, layers: int) -> type:
    """NamedTuple of a stack's state: `<part>_c0` cell and `<part>_r0` projected output of layer 0, and so on."""
    fields = [f"{part}_{kind}{layer}" for layer in range(layers) for kind in "cr"]
    return namedtuple(f"{part.capitalize()}State", fields)


class ProjectedLstm(keras.layers.Layer):
    """LSTM with projection and layer normalisation of what it puts out (Sak et al. 2014; He et al. 2018, 2.2).

    The normalisation stands outside the recurrence: a step then is two matrix products, which is what quantises
    and trains fastest, and the layers above see inputs of one scale.
    """

    def __init__(
        self, units: int, projection: int, *, residual: bool, dropout: float = 0.0, clip: float | None = None,
        quantized: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.units, self.projection_width, self.clip, self.quantized = units, projection, clip, quantized
        self.may_add = residual
        self.normalise = keras.layers.LayerNormalization(name="normalise")
        self.dropout = keras.layers.Dropout(dropout)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        self.residual = self.may_add and width == self.projection_width

        def forget_open(shape, dtype=None):
            return ops.concatenate(
                [ops.zeros(self.units, dtype), ops.ones(self.units, dtype), ops.zeros(2 * self.units, dtype)]
            )

        self.kernel = self.add_weight(shape=(width, 4 * self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.projection_width, 4 * self.units), name="recurrent")
        self.bias = self.add_weight(shape=(4 * self.units,), initializer=forget_open, name="bias")
        self.projection = self.add_weight(shape=(self.units, self.projection_width), name="projection")
        self.normalise.build((None, self.projection_width))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        """[B, T, I] -> [B, T, P] from the zero state."""
        batch = ops.shape(x)[0]
        cell = ops.zeros((batch, self.units), "float32")
        output = ops.zeros((batch, self.projection_width), self.compute_dtype)
        quantized = self.quantized and bool(training)
        kernel, recurrent, projection = (
            ops.cast(fake_quantized(w) if quantized else w, self.compute_dtype)
            for w in (self.kernel, self.recurrent, self.projection)
        )
        y = lstm_sequence(
            ops.transpose(fake_quantized(x) if quantized else x, (1, 0, 2)), kernel, recurrent,
            ops.cast(self.bias, self.compute_dtype), projection, cell, output, self.clip, quantized=quantized,
        )  # fmt: skip
        y = self.dropout(self.normalise(ops.transpose(y, (1, 0, 2))), training=training)
        return x + y if self.residual else y

    def step(self, x: Tensor, cell: Tensor, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One time step: x [B, I], cell [B, H], output [B, P] -> (y [B, P], cell, output)."""
        pre = ops.matmul(x, self.kernel) + ops.matmul(output, self.recurrent) + self.bias
        cell, hidden, _, _ = lstm_gates(pre, cell, self.clip)
        output = ops.matmul(hidden, self.projection)
        y = self._normalised(output)
        return x + y if self.residual else y, cell, output

    def _normalised(self, x: Tensor) -> Tensor:
        """The layer normalisation in as few operators as there are, each of which keeps its sense at 8 bits."""
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(centred * centred, axis=-1, keepdims=True)
        scaled = centred * ops.rsqrt(variance + self.normalise.epsilon)
        return scaled * self.normalise.gamma + self.normalise.beta


class LstmStack(keras.layers.Layer):
    """Projected LSTM layers one after another, the state of all of them in one NamedTuple."""

    def __init__(
        self, part: str, layers: int, units: int, projection: int, *, residual: bool, dropout: float,
        clip: float | None, quantized: bool,
    ) -> None:  # fmt: skip
        super().__init__(name=part)
        self.part, self.units, self.width = part, units, projection
        self.layers_ = [
            ProjectedLstm(
                units, projection, residual=residual, dropout=dropout, clip=clip, quantized=quantized, name=f"lstm{i}"
            )
            for i in range(layers)
        ]

    def initial_state(self, batch: int = 1) -> tuple[Tensor, ...]:
        """All zeros: cells [B, H] and outputs [B, P]."""
        widths = [self.units, self.width] * len(self.layers_)
        return state_type(self.part, len(self.layers_))(*(ops.zeros((batch, w)) for w in widths))

    def step(self, layer: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Advance one layer by one step; the other layers' state passes through."""
        cell, output = f"{self.part}_c{layer}", f"{self.part}_r{layer}"
        y, new_cell, new_output = self.layers_[layer].step(x, getattr(state, cell), getattr(state, output))
        return y, state._replace(**{cell: new_cell, output: new_output})


class Rnnt(keras.Model):
    """Encoder, predictor and joiner; each on whole sequences and step by step."""

    def __init__(self, config: RnntConfig = SMALL, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = c = config
        self.encoder = LstmStack(
            "encoder",
            c.encoder_layers,
            c.encoder_units,
            c.encoder_projection,
            residual=c.residual,
            dropout=c.dropout,
            clip=c.cell_clip,
            quantized=c.quantized,
        )
        self.encoder_to_joiner = keras.layers.Dense(c.joiner, name="encoder_to_joiner")
        self.phone_head = keras.layers.Dense(c.phones, name="phone_head", dtype="float32") if c.phones else None
        self.embedding = keras.layers.Embedding(c.symbols, c.embedding, name="embedding")
        self.predictor = LstmStack(
            "predictor", c.predictor_layers, c.predictor_units, c.predictor_projection,
            residual=c.residual, dropout=c.dropout, clip=c.cell_clip, quantized=c.quantized,
        )  # fmt: skip
        self.predictor_to_joiner = keras.layers.Dense(c.joiner, use_bias=False, name="predictor_to_joiner")
        self.joiner_to_logits = keras.layers.Dense(c.symbols, name="joiner_to_logits", dtype="float32")

    def build(self, input_shape: Any = None) -> None:
        """Make every weight by one pass over nothing much."""
        c = self.config
        self.call(ops.zeros((1, c.reduction, c.features)), ops.zeros((1, 1), "int32"))
        if c.phones:
            self.phone_head.build((None, None, c.encoder_projection))
        self.built = True

    def call(self, features: Tensor, targets: Tensor, training: bool | None = None) -> Tensor:
        """Logits float32 [B, T, U + 1, V] of features [B, S, F] and targets int32 [B, U]: for small problems."""
        encoded, predicted = (
            self.encode(features, training=training),
            self.predict_tokens(targets, training=training),
        )
        return self.join(encoded[:, :, None, :] + predicted[:, None, :, :])

    def hidden_layers(self, features: Tensor, training: bool | None = None) -> list[Tensor]:
        """What each encoder layer puts out for [B, S, F]: [B, S, P] before the reduction, [B, T, P] after."""
        x, outputs = features, []
        for index, layer in enumerate(self.encoder.layers_):
            if index == self.config.reduction_after:
                x = self._reduce(x)
            x = layer(x, training=training)
            outputs.append(x)
        return outputs

    def layer_input(self, features: Tensor, layer: int) -> Tensor:
        """What an encoder layer is given for [B, S, F]."""
        x = features
        for index, below in enumerate(self.encoder.layers_[:layer]):
            x = below(self._reduce(x) if index == self.config.reduction_after else x)
        return self._reduce(x) if layer == self.config.reduction_after else x

    def encode(self, features: Tensor, training: bool | None = None) -> Tensor:
        """[B, S, F] -> [B, T, J] with T = S // reduction."""
        return self.encoder_to_joiner(self.hidden_layers(features, training=training)[-1])

    def phones(self, layers: list[Tensor]) -> Tensor:
        """`hidden_layers` -> logits float32 [B, S, C] of the phones, from the last layer before the time reduction.

        A CTC of its own beside the transducer: which sounds there were, whatever words they make.
        """
        return self.phone_head(layers[self.config.reduction_after - 1])

    def _reduce(self, x: Tensor) -> Tensor:
        rate, width = self.config.reduction, x.shape[-1]
        batch, frames = ops.shape(x)[0], ops.shape(x)[1] // rate
        return ops.reshape(x[:, : frames * rate], (batch, frames, rate * width))

    def predict_tokens(self, targets: Tensor, training: bool | None = None) -> Tensor:
        """[B, U] labels -> [B, U + 1, J]: what is predicted after 0, 1, ... U labels."""
        x = self.embedding(ops.pad(targets, ((0, 0), (1, 0)), constant_values=BLANK))
        for layer in self.predictor.layers_:
            x = layer(x, training=training)
        return self.predictor_to_joiner(x)

    def join(self, summed: Tensor) -> Tensor:
        """encoded + predicted [..., J] -> logits float32 [..., V]."""
        return self.joiner_to_logits(ops.tanh(summed))

    def encoder_step(self, features: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """features [B, reduction, F] (60 ms) and state -> (encoded [B, J], state)."""
        encoded, _, state = self.hearing_step(features, state)
        return encoded, state

    def hearing_step(
        self, features: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """The same with the phone head's logits [B, reduction, C], if there is one: (encoded, phones, state)."""
        phones = None
        frames = [features[:, i] for i in range(self.config.reduction)]
        for index in range(self.config.encoder_layers):
            if index == self.config.reduction_after:
                if self.phone_head is not None:
                    phones = ops.stack([self.phone_head(frame) for frame in frames], axis=1)
                frames = [ops.concatenate(frames, axis=-1)]
            advanced = []
            for frame in frames:
                y, state = self.encoder.step(index, frame, state)
                advanced.append(y)
            frames = advanced
        return self.encoder_to_joiner(frames[0]), phones, state

    def predictor_step(self, token: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """token int32 [B] and state -> (predicted [B, J], state); begin with BLANK and the zero state."""
        return self.embedded_step(self.embedding(token), state)

    def embedded_step(self, embedded: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same for a token's embedding [B, E], looked up elsewhere."""
        for index in range(self.config.predictor_layers):
            embedded, state = self.predictor.step(index, embedded, state)
        return self.predictor_to_joiner(embedded), state

    def joiner_step(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """encoded [B, J], predicted [B, J] -> logits [B, V]."""
        return self.join(encoded + predicted)
