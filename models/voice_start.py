"""Beginning a voice's training with the weights of an exported voice, its own file being all there is of it.

Two things the export leaves no trace of are made up so that the voice says the same: what batch normalisation did,
which lies in the convolutions now, and how style tokens, keys and values came about, of which only products are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from models.convolution import ConvStack
from models.file_weights import Place, convolution, dense, fill, plain, turned, widened
from models.style import StyleTokens
from models.tacotron import Lstm, Tacotron
from ondevice.graph import Subgraph

Batch = Mapping[str, np.ndarray]
TOKEN_SCALE = 0.5  # largest tanh of a made-up token's values


def take_voice(tacotron: Tacotron, path: Path) -> None:
    """Give a voice the weights of a TFLite file that was exported from one of the same sizes.

    Until `spread` is called it says the same, but would not learn as it did. Raises InputError when the weights do not
    fit, or are stored in a form that cannot be widened.
    """
    for norm in chain.from_iterable(stack.norms for stack in _stacks(tacotron)):
        norm.gamma.assign(ops.full_like(norm.gamma, (1.0 + norm.epsilon) ** 0.5))
        norm.moving_mean.assign(ops.zeros_like(norm.moving_mean))
        norm.moving_variance.assign(ops.ones_like(norm.moving_variance))
    tokens = Tokens(tacotron.style)
    order = _order(tacotron, *tokens.places())
    signatures = fill(path, order, "a voice of the same sizes and symbols", once=False)
    tokens.make_up()
    tacotron.to_stop.bias.assign(_bias(path, signatures["decoder"], tuple(tacotron.to_stop.kernel.shape)[::-1]))


def spread(tacotron: Tacotron, batches: Sequence[Batch]) -> None:
    """Set batch normalisation so that with the statistics of such batches the network stays what it is.

    After `take_voice` the convolutions do all of it. Layer by layer, those that come before being set already.
    """
    for stack in _stacks(tacotron):
        for norm in stack.norms:
            momentum = norm.momentum
            for seen, batch in enumerate(batches):
                norm.momentum = seen / (seen + 1)  # the moving statistics become the mean of all batches
                tacotron(**batch, training=True)
            norm.momentum = momentum
            norm.gamma.assign(ops.sqrt(norm.moving_variance + norm.epsilon))
            norm.beta.assign(norm.beta + norm.moving_mean)


def _stacks(tacotron: Tacotron) -> list[Any]:
    return [tacotron.text, tacotron.reference, tacotron.postnet]


def _order(tacotron: Tacotron, keys: Place, values: Place) -> dict[str, list[Place]]:
    """The weights of each signature in the order its operators first use them."""
    t, prenet = tacotron, tacotron.config.prenet
    attention = t.attention_lstm
    return {
        "text": [plain(t.embedding.embeddings), *_convolutions(t.text)],
        "recurrence": [
            turned(t.backwards.kernel), turned(t.forwards.kernel),
            turned(t.forwards.recurrent), plain(t.forwards.bias),
            turned(t.backwards.recurrent), plain(t.backwards.bias),
        ],
        "memory": [turned(layer.kernel) for layer in (t.prosody_to_memory, t.style_to_memory, t.memory_to_key)],
        "reference": [*_reference(t), turned(t.style.query), keys],
        "style": [values],
        "decoder": [
            turned(attention.recurrent), turned(t.decoder_lstm.recurrent),
            convolution(t.location_conv.kernel), _unused((t.config.location_filters,)),
            turned(t.location_dense.kernel),
            *dense(t.prenet[0]), _rows(attention, slice(prenet, None)), *dense(t.prenet[1]),
            _rows(attention, slice(prenet)), plain(attention.bias),
            *dense(t.query), turned(t.score.kernel),
            turned(t.decoder_lstm.kernel), plain(t.decoder_lstm.bias),
            *dense(t.to_mel), turned(t.to_stop.kernel),
        ],
        "postnet": _convolutions(t.postnet),
    }  # fmt: skip


def _unused(shape: tuple[int, ...]) -> Place:
    """The zeros that the converter gives a convolution for a bias."""
    return Place(shape, lambda value: None)


def _rows(lstm: Lstm, rows: slice) -> Place:
    """Rows of a kernel whose inputs come from two sides."""

    def put(value: np.ndarray) -> None:
        kernel = ops.convert_to_numpy(lstm.kernel).copy()
        kernel[rows] = value.T
        lstm.kernel.assign(kernel)

    taken = len(range(*rows.indices(lstm.kernel.shape[0])))
    return Place((lstm.kernel.shape[1], taken), put)


def _convolutions(stack: ConvStack) -> list[Place]:
    pairs = zip(stack.kernels, stack.norms, strict=True)
    return [place for kernel, norm in pairs for place in (convolution(kernel), plain(norm.beta))]


def _reference(tacotron: Tacotron) -> Iterable[Place]:
    encoder = tacotron.reference
    for kernel, norm in zip(encoder.kernels, encoder.norms, strict=True):
        rows, columns, inputs, outputs = kernel.shape
        yield Place((outputs, rows, columns, inputs), lambda v, kernel=kernel: kernel.assign(v.transpose(1, 2, 3, 0)))
        yield plain(norm.beta)
    for row, kernel in enumerate((encoder.gru_kernel, encoder.gru_recurrent)):
        yield turned(kernel)
        yield Place((kernel.shape[1],), lambda v, row=row: _put_row(encoder.gru_bias, row, v))


def _put_row(variable: keras.Variable, row: int, value: np.ndarray) -> None:
    whole = ops.convert_to_numpy(variable).copy()
    whole[row] = value
    variable.assign(whole)


@dataclass
class Tokens:
    """What the file holds of the style tokens: keys and values, [K, width] each, as products with the tokens' tanh."""

    style: StyleTokens
    keys: np.ndarray | None = None
    values: np.ndarray | None = None

    def places(self) -> tuple[Place, Place]:
        """Keys [1, heads, K, depth] and values [heads, K, depth]."""
        c = self.style.config
        shape = (c.heads, c.tokens, c.width // c.heads)

        def put(name: str, value: np.ndarray) -> None:
            setattr(self, name, value.reshape(shape).transpose(1, 0, 2).reshape(c.tokens, c.width))

        return Place((1, *shape), partial(put, "keys")), Place(shape, partial(put, "values"))

    def make_up(self) -> None:
        """Tokens, and matrices that make the same products of them."""
        c = self.style.config
        depth, products = c.width // c.heads, np.concatenate([self.keys, self.values], axis=1)
        directions = np.linalg.svd(products)[0][:, :depth]  # no product has more than `depth` of them
        squashed = np.zeros((c.tokens, depth), np.float32)
        squashed[:, : directions.shape[1]] = TOKEN_SCALE * directions / np.abs(directions).max()
        self.style.tokens.assign(np.arctanh(squashed))
        for variable, product in zip((self.style.key, self.style.value), (self.keys, self.values), strict=True):
            variable.assign(np.linalg.pinv(squashed) @ product)


def _bias(path: Path, subgraph: Subgraph, shape: tuple[int, ...]) -> np.ndarray:
    """The bias of the last product with weights of a shape; zeros where the file has none."""
    stored = {o.outputs[0]: o.inputs[0] for o in subgraph.operators if o.code == "DEQUANTIZE"}
    for operator in reversed(subgraph.operators):
        if operator.code == "FULLY_CONNECTED" and subgraph.tensors[operator.inputs[1]].shape == shape:
            place = operator.inputs[2] if len(operator.inputs) > 2 else -1
            if place >= 0:
                return widened(path, subgraph.tensors[stored.get(place, place)])
    return np.zeros(shape[:1], np.float32)
