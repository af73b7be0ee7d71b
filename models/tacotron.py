"""Tacotron 2 (Shen et al. 2017, arXiv 1712.05884) with style tokens and per-symbol prosody, in Keras.

Shapes: `B` batch, `N` symbols of text, `F` mel frames, `G` groups of `reduction` frames (one decoder step each),
`M` mel bands, `D` memory width, `A` attention width, `H` cells. Mel frames are normalised to mean 0, deviation 1.
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import keras
from keras import ops

from models.attention_recurrence import AttentionStart, AttentionWeights, attend, attention_sequence
from models.convolution import ConvStack
from models.recurrence import lstm_gates, lstm_sequence
from models.style import ReferenceEncoder, StyleConfig, StyleTokens

Tensor = Any
PROSODY_FEATURES = 4  # per symbol: log F0, voicing, log energy, log duration, as deviations from the voice's own


@dataclass(frozen=True)
class TacotronConfig:
    """Sizes of the network; every hyperparameter is written here once. The defaults are the published ones."""

    symbols: int = 80
    bands: int = 80
    embedding: int = 512
    encoder_convolutions: int = 3
    kernel: int = 5  # of the convolutions over text and over mel frames
    encoder_units: int = 256  # of each direction
    prenet: int = 256  # both layers
    attention: int = 128
    location_filters: int = 32
    location_kernel: int = 31
    attention_units: int = 1024  # first decoder LSTM, whose output asks where to look
    decoder_units: int = 1024  # second decoder LSTM
    reduction: int = 1  # mel frames a decoder step makes
    postnet_layers: int = 5
    postnet_width: int = 512
    dropout: float = 0.5  # of the pre-net, at all times
    convolution_dropout: float = 0.5  # in training
    lstm_dropout: float = 0.1
    frame_dropout: float = 0.0  # frames hidden from the decoder in training, which else listens more than it reads
    style: StyleConfig = field(default_factory=StyleConfig)

    @property
    def memory(self) -> int:
        """Width of what the decoder attends to."""
        return 2 * self.encoder_units


TINY = TacotronConfig(
    symbols=9, bands=8, embedding=6, encoder_convolutions=2, kernel=3, encoder_units=4, prenet=5, attention=5,
    location_filters=3, location_kernel=5, attention_units=7, decoder_units=6, reduction=2, postnet_layers=2,
    postnet_width=6, style=StyleConfig(filters=(2, 3), units=5, tokens=4, heads=2, width=6),
)  # fmt: skip
SMALL = TacotronConfig(
    embedding=192, encoder_units=128, prenet=128, attention_units=256, decoder_units=256, reduction=4,
    postnet_width=128, convolution_dropout=0.1, frame_dropout=0.6,
    style=StyleConfig(filters=(16, 16, 32, 32, 64, 64), units=64, width=128, heads=4),
)  # fmt: skip
PAPER = TacotronConfig()
PRESETS = {"tiny": replace(TINY, bands=80, symbols=80), "small": SMALL, "paper": PAPER}


class DecoderState(NamedTuple):
    """What a decoder step hands to the next."""

    decoder_c0: Tensor  # [B, H] cell of the attention LSTM
    decoder_r0: Tensor  # [B, H] its output
    decoder_context: Tensor  # [B, D] what was attended to
    decoder_weights: Tensor  # [B, N] where
    decoder_total: Tensor  # [B, N] the sum of all weights so far
    decoder_c1: Tensor  # [B, H] cell of the second LSTM
    decoder_r1: Tensor  # [B, H] its output


class RecurrenceState(NamedTuple):
    """Both directions of the text encoder's LSTM."""

    recurrence_c0: Tensor  # [B, H] forwards
    recurrence_r0: Tensor
    recurrence_c1: Tensor  # backwards
    recurrence_r1: Tensor


class Lstm(keras.layers.Layer):
    """LSTM on whole sequences and step by step."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        def forget_open(shape, dtype=None):
            return ops.concatenate(
                [ops.zeros(self.units, dtype), ops.ones(self.units, dtype), ops.zeros(2 * self.units, dtype)]
            )

        self.kernel = self.add_weight(shape=(int(input_shape[-1]), 4 * self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, 4 * self.units), initializer="orthogonal", name="recurrent")
        self.bias = self.add_weight(shape=(4 * self.units,), initializer=forget_open, name="bias")

    def call(self, x: Tensor) -> Tensor:
        """[B, T, I] -> [B, T, H] from the zero state."""
        batch = ops.shape(x)[0]
        weights = [ops.cast(w, self.compute_dtype) for w in (self.kernel, self.recurrent, self.bias)]
        cell = ops.zeros((batch, self.units), "float32")
        output = ops.zeros((batch, self.units), self.compute_dtype)
        return ops.transpose(lstm_sequence(ops.transpose(x, (1, 0, 2)), *weights, None, cell, output), (1, 0, 2))

    def step(self, x: Tensor, cell: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, I] -> (cell, output), both [B, H]."""
        kernel, recurrent, bias = (ops.cast(w, x.dtype) for w in (self.kernel, self.recurrent, self.bias))
        cell, output, _, _ = lstm_gates(ops.matmul(x, kernel) + ops.matmul(output, recurrent) + bias, cell)
        return cell, output


def reverse_rows(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row of [B, T, C] back to front within its length [B]; what lies beyond stays."""
    at = ops.arange(ops.shape(x)[1])[None, :]
    source = ops.where(at < lengths[:, None], lengths[:, None] - 1 - at, at)
    return ops.take_along_axis(x, source[..., None], axis=1)


class Tacotron(keras.Model):
    """Text encoder, style branch, attention decoder and post-net; each on whole sequences and step by step."""

    def __init__(self, config: TacotronConfig = SMALL, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = c = config
        dense = keras.layers.Dense
        self.embedding = keras.layers.Embedding(c.symbols, c.embedding, name="embedding")
        self.text = ConvStack(
            "text", (c.embedding,) * c.encoder_convolutions, c.kernel, activation="relu", last="relu",
            dropout=c.convolution_dropout,
        )  # fmt: skip
        self.forwards = Lstm(c.encoder_units, name="forwards")
        self.backwards = Lstm(c.encoder_units, name="backwards")
        self.reference = ReferenceEncoder(c.style, c.bands)
        self.style = StyleTokens(c.style)
        self.style_to_memory = dense(c.memory, use_bias=False, name="style_to_memory")
        self.prosody_to_memory = dense(  # at first of no effect: it comes to voices that read well without
            c.memory, use_bias=False, kernel_initializer="zeros", name="prosody_to_memory"
        )
        self.memory_to_key = dense(c.attention, use_bias=False, name="memory_to_key")
        self.prenet = [dense(c.prenet, activation="relu", name=f"prenet{i}") for i in range(2)]
        self.attention_lstm = Lstm(c.attention_units, name="attention_lstm")
        self.query = dense(c.attention, name="query")
        self.location_conv = keras.layers.Conv1D(
            c.location_filters, c.location_kernel, padding="same", use_bias=False, name="location_conv"
        )
        self.location_dense = dense(c.attention, use_bias=False, name="location_dense")
        self.score = dense(1, use_bias=False, name="score")
        self.decoder_lstm = Lstm(c.decoder_units, name="decoder_lstm")
        self.lstm_dropout = keras.layers.Dropout(c.lstm_dropout)
        self.to_mel = dense(c.reduction * c.bands, name="to_mel", dtype="float32")
        self.to_stop = dense(1, name="to_stop", dtype="float32")
        widths = (c.postnet_width,) * (c.postnet_layers - 1) + (c.bands,)
        self.postnet = ConvStack(
            "postnet", widths, c.kernel, activation="tanh", last="linear", dropout=c.convolution_dropout
        )
        self.seeds = keras.random.SeedGenerator(0)
        # what runs inside the loop over time must have its weights before: a loop on JAX may not make any
        self.attention_lstm.build((None, c.prenet + c.memory))
        self.query.build((None, c.attention_units))
        self.location_conv.build((None, None, 2))
        self.location_dense.build((None, None, c.location_filters))
        self.score.build((None, None, c.attention))

    def build(self, input_shape: Any = None) -> None:
        """Make every weight by one pass over nothing much."""
        c = self.config
        length = max(c.style.block, c.reduction)
        self.call(
            ops.zeros((1, 2), "int32"), ops.full((1,), 2, "int32"), ops.zeros((1, length, c.bands)),
            ops.full((1,), length, "int32"), ops.zeros((1, 2, PROSODY_FEATURES)),
        )  # fmt: skip
        self.built = True

    def call(
        self, symbols: Tensor, lengths: Tensor, mel: Tensor, frames: Tensor, prosody: Tensor,
        training: bool | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Teacher-forced pass: symbols int [B, N], mel [B, F, M] (F a multiple of the reference block and of
        `reduction`), prosody [B, N, P] -> `mel` and `refined` [B, F, M], `stop` logits [B, G], `alignment` [B, G, N].
        """
        style = self.style.embed(self.style(self.reference(mel, frames, training=training)))
        known = ops.arange(ops.shape(symbols)[1])[None, :, None] < lengths[:, None, None]
        prosody = ops.where(known, prosody, ops.zeros_like(prosody))
        memory, keys = self.remember(self.encode(symbols, lengths, training=training), style, prosody)
        made = self.decode(memory, keys, lengths, mel, training=training)
        inside = ops.cast(ops.arange(ops.shape(mel)[1])[None, :, None] < frames[:, None, None], "float32")
        change = ops.cast(self.postnet(made["mel"], inside, training=training), "float32")
        return {**made, "refined": made["mel"] + change}

    # text

    def encode(self, symbols: Tensor, lengths: Tensor, training: bool | None = None) -> Tensor:
        """Symbols [B, N] of which `lengths` [B] count -> [B, N, D], zero beyond."""
        inside = ops.cast(ops.arange(ops.shape(symbols)[1])[None, :, None] < lengths[:, None, None], "float32")
        x = self.text(self.embedding(symbols), inside, training=training)
        back = reverse_rows(self.backwards(reverse_rows(x, lengths)), lengths)
        x = ops.concatenate([self.forwards(x), back], axis=-1)
        return self.lstm_dropout(x, training=training) * ops.cast(inside, x.dtype)

    def text_step(
        self, symbols: Tensor, inside: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The convolutions over the next symbols [B, n]: see `ConvStack.step`."""
        return self.text.step(self.embedding(symbols), inside, state)

    def recurrence_step(self, ahead: Tensor, back: Tensor, state: RecurrenceState) -> tuple[Tensor, RecurrenceState]:
        """One symbol in each direction, [B, E] each -> ([B, D]: one half for each of them, state)."""
        c0, r0 = self.forwards.step(ahead, state.recurrence_c0, state.recurrence_r0)
        c1, r1 = self.backwards.step(back, state.recurrence_c1, state.recurrence_r1)
        return ops.concatenate([r0, r1], axis=-1), RecurrenceState(c0, r0, c1, r1)

    def remember(self, encoded: Tensor, style: Tensor, prosody: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded text [B, N, D], style [B, S] and prosody [B, N, P] -> memory [B, N, D] and its keys [B, N, A]."""
        memory = encoded + self.style_to_memory(style)[:, None] + self.prosody_to_memory(prosody)
        return memory, self.memory_to_key(memory)

    # decoder

    def decode(
        self, memory: Tensor, keys: Tensor, lengths: Tensor, mel: Tensor, keep: Tensor | None = None,
        training: bool | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Teacher-forced decoding of mel [B, F, M]; `keep` [B, G, 2 P] is the pre-net's dropout, drawn when None."""
        c = self.config
        batch = ops.shape(mel)[0]
        before = ops.pad(mel[:, c.reduction - 1 :: c.reduction][:, :-1], ((0, 0), (1, 0), (0, 0)))  # [B, G, M]
        if training and c.frame_dropout:
            shown = keras.random.uniform((batch, ops.shape(before)[1], 1), seed=self.seeds) >= c.frame_dropout
            before = before * ops.cast(shown, before.dtype)
        if keep is None:
            keep = self.draw_keep((batch, ops.shape(before)[1], 2 * c.prenet))
        heard = self._prenet(ops.cast(before, self.compute_dtype), ops.cast(keep, self.compute_dtype))
        kernel, bias, learnt = self._attention_weights()
        pre = ops.transpose(ops.matmul(heard, kernel) + bias, (1, 0, 2))  # [G, B, 4 H]
        beyond = self._beyond(lengths, ops.shape(memory)[1])
        state = self.initial_state(batch, ops.shape(memory)[1], self.compute_dtype)
        memory, keys = ops.cast(memory, self.compute_dtype), ops.cast(keys, self.compute_dtype)
        outputs, contexts, weights = attention_sequence(pre, memory, keys, beyond, learnt, AttentionStart(*state[:5]))
        seen = ops.transpose(ops.concatenate([outputs, contexts], axis=-1), (1, 0, 2))  # [B, G, H + D]
        seen = self.lstm_dropout(seen, training=training)
        said = self.lstm_dropout(self.decoder_lstm(seen), training=training)
        said = ops.concatenate([said, seen[..., c.attention_units :]], axis=-1)
        return {
            "mel": ops.reshape(self.to_mel(said), (batch, -1, c.bands)),
            "stop": self.to_stop(said)[..., 0],
            "alignment": ops.transpose(weights, (1, 0, 2)),
        }

    def initial_state(self, batch: int, symbols: int, dtype: str = "float32") -> DecoderState:
        """Nothing said, nothing attended to; cells and attention weights are always float32."""
        c = self.config
        zeros = ops.zeros
        return DecoderState(
            zeros((batch, c.attention_units)), zeros((batch, c.attention_units), dtype),
            zeros((batch, c.memory), dtype),
            zeros((batch, symbols)), zeros((batch, symbols)),
            zeros((batch, c.decoder_units)), zeros((batch, c.decoder_units), dtype),
        )  # fmt: skip

    def decoder_step(
        self, frame: Tensor, keep: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor, state: DecoderState
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """frame [B, M] the last one said, keep [B, 2 P] -> mel [B, r, M], stop logit [B, 1], state."""
        c = self.config
        frame, keep, memory, keys, output, context, before = (
            ops.cast(x, self.compute_dtype)
            for x in (frame, keep, memory, keys, state.decoder_r0, state.decoder_context, state.decoder_r1)
        )
        kernel, bias, learnt = self._attention_weights()
        gates = ops.matmul(self._prenet(frame, keep), kernel) + bias
        gates = gates + ops.matmul(output, learnt.recurrent) + ops.matmul(context, learnt.from_memory)
        cell, output, _, _ = lstm_gates(gates, state.decoder_c0)
        beyond = self._beyond(lengths, ops.shape(memory)[1])
        context, weights, _, _ = attend(
            output, state.decoder_weights, state.decoder_total, memory, keys, beyond, learnt
        )
        seen = ops.concatenate([output, context], axis=-1)
        c1, r1 = self.decoder_lstm.step(seen, state.decoder_c1, before)
        said = ops.concatenate([r1, context], axis=-1)
        mel = ops.reshape(self.to_mel(said), (-1, c.reduction, c.bands))
        new = DecoderState(cell, output, context, weights, state.decoder_total + weights, c1, r1)
        return mel, self.to_stop(said), DecoderState(*(ops.cast(x, "float32") for x in new))

    def draw_keep(self, shape: tuple[Any, ...]) -> Tensor:
        """Dropout of the pre-net: 0, or what makes up for it."""
        rate = self.config.dropout
        return ops.cast(keras.random.uniform(shape, seed=self.seeds) >= rate, "float32") / (1 - rate)

    def _prenet(self, x: Tensor, keep: Tensor) -> Tensor:
        width = self.config.prenet
        return self.prenet[1](self.prenet[0](x) * keep[..., :width]) * keep[..., width:]

    def _attention_weights(self) -> tuple[Tensor, Tensor, AttentionWeights]:
        """Kernel [P, 4 H] and bias [4 H] of the attention LSTM for the pre-net, and what the loop over time learns."""
        lstm, width = self.attention_lstm, self.config.prenet
        found = (
            lstm.recurrent, lstm.kernel[width:], self.query.kernel, self.query.bias, self.location_conv.kernel,
            self.location_dense.kernel, self.score.kernel[:, 0],
        )  # fmt: skip
        learnt = AttentionWeights(*(ops.cast(x, self.compute_dtype) for x in found))
        return ops.cast(lstm.kernel[:width], self.compute_dtype), ops.cast(lstm.bias, self.compute_dtype), learnt

    def _beyond(self, lengths: Tensor, symbols: Any) -> Tensor:
        """[B, N]: what keeps attention off the padding."""
        return ops.where(ops.arange(symbols)[None, :] < lengths[:, None], 0.0, -1e9)

    # post-net

    def postnet_step(
        self, mel: Tensor, inside: Tensor, late: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """mel [B, n, M], inside [B, n, 1], late [B, delay, M] -> refined [B, n, M], `delay` frames late, and state."""
        change, state = self.postnet.step(mel, inside, state)
        both = ops.concatenate([late, mel], axis=1)
        return both[:, : mel.shape[1]] + change, both[:, mel.shape[1] :], state
