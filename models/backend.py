"""Starting the Keras backend: quietly, and with settings that must be made before it runs."""

import os

from ondevice.quiet import quiet_stderr


def start_backend(towers: int = 1) -> None:
    """Load Keras; with several towers, one core per tower and one thread within an operation.

    Small matrix products gain nothing from being split among threads.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():  # what TensorFlow says of this processor before its log level applies
        import keras

    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1 if towers > 1 else 0)
    tf.config.threading.set_inter_op_parallelism_threads(max(towers, 1))
