"""Gradients of a loss with respect to every trainable weight of a model, on either backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tests.models.backends import gradient


def weight_gradients(model: keras.Model, loss: Callable[[Any], Any], *inputs: Any) -> dict[str, np.ndarray]:
    """Path of each trainable weight -> gradient of `loss(model(*inputs))`."""
    variables = model.trainable_variables
    if keras.backend.backend() == "jax":
        others = [v.value for v in model.non_trainable_variables]

        def of_weights(*values):
            return loss(model.stateless_call(values, others, *inputs)[0])

        grads = gradient(of_weights, *(ops.convert_to_numpy(v) for v in variables))
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss(model(*inputs))
        wanted = tape.gradient(value, [v.value for v in variables], unconnected_gradients="zero")
        grads = [np.asarray(tf.convert_to_tensor(g)) for g in wanted]
    return {v.path: g for v, g in zip(variables, grads, strict=True)}


def assert_all_reached(grads: dict[str, np.ndarray]) -> None:
    """Every gradient is finite and not all zero."""
    for path, grad in grads.items():
        assert np.isfinite(grad).all(), path
        assert np.abs(grad).max() > 0, path
