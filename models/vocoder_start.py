"""The weights of an exported vocoder, its own file being all there is of it."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from models.file_weights import Place, convolution, dense, fill, plain
from models.vocoder import ConvNextBlock, Vocoder


def take_vocoder(vocoder: Vocoder, path: Path) -> None:
    """Give a vocoder the weights of a TFLite file that was exported from one of the same sizes.

    The scale of each block lies in its last product there, and is 1 from now on. Raises InputError when the weights do
    not fit, or are stored in a form that cannot be widened.
    """
    v = vocoder
    order = [
        plain(v.mean), Place(tuple(v.std.shape), lambda value: v.std.assign(1.0 / value)),
        convolution(v.embed.kernel), plain(v.embed.bias), *_norm(v.embed_norm),
        *(place for block in v.blocks for place in _block(block)),
        *_norm(v.final_norm), *dense(v.head),
    ]  # fmt: skip
    fill(path, {"vocoder": order}, "a vocoder of the same sizes that is no WaveNet", once=False)
    for block in v.blocks:
        block.scale.assign(ops.ones_like(block.scale))


def _norm(layer: keras.layers.LayerNormalization) -> list[Place]:
    """Scale and shift, which the file holds as [1, 1, D]."""

    def row(variable: keras.Variable) -> Place:
        return Place((1, 1, *variable.shape), lambda value: variable.assign(value[0, 0]))

    return [row(layer.gamma), row(layer.beta)]


def _block(block: ConvNextBlock) -> list[Place]:
    kernel = block.depthwise.kernel  # [K, D, 1], which the file holds as [1, 1, K, D]

    def put(value: np.ndarray) -> None:
        kernel.assign(value[0, 0][..., None])

    depthwise = Place((1, 1, *kernel.shape[:2]), put)
    return [
        depthwise, plain(block.depthwise.bias), *_norm(block.normalise), *dense(block.expand), *dense(block.contract)
    ]  # fmt: skip
