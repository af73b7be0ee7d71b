"""Connectionist temporal classification (Graves et al. 2006) on whichever implementation the backend does well."""

from typing import Any

import keras
from keras import ops

Tensor = Any


def ctc_loss(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """Loss [B] of logits [B, T, V] (0 is blank) and targets int32 [B, U]; 0 where the labels do not fit the frames."""
    logits = ops.cast(logits, "float32")
    spoken = ops.cast(labels > 0, "float32")
    targets, labels = (
        ops.maximum(targets, 1),
        ops.maximum(labels, 1),
    )  # no label at all is an error to the kernels
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # The sparse form runs a C++ kernel, ten times faster than the dense one, which is written in graph ops.
        keep = tf.sequence_mask(labels, tf.shape(targets)[1])
        sparse = tf.SparseTensor(tf.where(keep), tf.boolean_mask(targets, keep) - 1, tf.shape(targets, tf.int64))
        blank_last = tf.concat([logits[..., 1:], logits[..., :1]], axis=-1)  # as the kernel wants it
        loss = tf.compat.v1.nn.ctc_loss(
            sparse, blank_last, frames, time_major=False, ignore_longer_outputs_than_inputs=True
        )
    else:
        loss = ops.ctc_loss(targets, logits, labels, frames, mask_index=0)
        loss = ops.where(loss < 1e4, loss, 0.0)
    return loss * spoken
