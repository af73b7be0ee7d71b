"""Settings that must be made before the Keras backend starts."""

import os


def use_threads(towers: int) -> None:
    """One core per tower and one thread within an operation: small matrix products gain nothing from being split."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1 if towers > 1 else 0)
    tf.config.threading.set_inter_op_parallelism_threads(max(towers, 1))
