"""Running a Keras test file on the other backend too, and gradients on either."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest


def gradient(function: Callable, *arrays: np.ndarray) -> np.ndarray | list[np.ndarray]:
    """Gradient of a scalar function of tensors at these arrays (a list when there are several)."""
    if keras.backend.backend() == "jax":
        import jax
        import jax.numpy as jnp

        grads = jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*map(jnp.asarray, arrays))
    else:
        import tensorflow as tf

        @tf.function
        def run(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                value = function(*tensors)
            return tape.gradient(value, tensors)

        grads = run(*map(tf.constant, arrays))
    result = [np.asarray(g) for g in grads]
    return result[0] if len(result) == 1 else result


def on_every_backend(file: str) -> Callable:
    """A test that runs the same file in a new process with Keras on JAX (nothing to do when already there)."""

    def test_on_jax() -> None:
        if keras.backend.backend() == "jax":
            return
        pytest.importorskip("jax")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
            env={**os.environ, "KERAS_BACKEND": "jax"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]

    return test_on_jax
