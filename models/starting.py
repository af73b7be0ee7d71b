"""The start of a recogniser's encoder: each layer sees what it is given as numbers around zero, of size one.

A layer without that answers to the constant part of its input, which the normalisation behind it makes as large as
any; its gain then falls to zero in the first few hundred steps and never comes back.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from models.rnnt import Rnnt

Tensor = Any
SMALLEST_DEVIATION = 1e-3


def settle(rnnt: Rnnt, features: Tensor, frames: np.ndarray, layers: Iterable[int] | None = None) -> None:
    """Fold mean and deviation of what reaches each fresh encoder layer into its kernel and bias, from below upwards.

    features [B, S, F] and frames [B], the frames that count, are a batch of training speech; layers: which are fresh,
    all if None. A data-dependent initialisation (Krähenbühl et al. 2016, arXiv 1511.06856).
    """
    config = rnnt.config
    for index in range(config.encoder_layers) if layers is None else layers:
        x = rnnt.layer_input(features, index)
        rate = config.reduction if index >= config.reduction_after else 1
        inside = np.arange(x.shape[1]) < np.asarray(frames)[:, None] // rate
        seen = ops.convert_to_numpy(ops.cast(x, "float32"))[inside]
        mean, deviation = seen.mean(axis=0), np.maximum(seen.std(axis=0), SMALLEST_DEVIATION)
        layer = rnnt.encoder.layers_[index]
        kernel = keras.ops.convert_to_numpy(layer.kernel) / deviation[:, None]
        layer.kernel.assign(kernel)
        layer.bias.assign(keras.ops.convert_to_numpy(layer.bias) - mean @ kernel)
