"""What a generator and its discriminators learn from each other in one step with one optimiser.

A discriminator is a Keras model: input -> (scores of each part, feature maps of all of them). It sees what was
generated with its gradient stopped, and the generator sees a discriminator whose weights are constants.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any


def matched_features(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """L1 of two lists of feature maps, each relative to the size of the real one (Defossez et al. 2022, eq. 4)."""
    parts = [
        ops.mean(ops.abs(r - f)) / ops.maximum(ops.mean(ops.abs(r)), 1e-3) for r, f in zip(real, fake, strict=True)
    ]
    return sum(parts) / len(parts)


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least squares (Mao et al. 2017): 1 for recordings, 0 for what was generated; mean over discriminators."""
    parts = [ops.mean(ops.square(1.0 - r)) + ops.mean(ops.square(f)) for r, f in zip(real, fake, strict=True)]
    return sum(parts) / len(parts)


def adversarial_losses(judge: keras.Model, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """`adversarial` and `features` for the generator of `fake`, `discriminator` for the judge."""
    real_scores, real_features = judge(real)
    fake_scores, _ = judge(ops.stop_gradient(fake))
    frozen = [ops.stop_gradient(v.value) for v in judge.trainable_variables]
    others = [v.value for v in judge.non_trainable_variables]
    (scores, features), _ = judge.stateless_call(frozen, others, fake)
    return {
        "adversarial": sum(ops.mean(ops.square(1.0 - s)) for s in scores) / len(scores),
        "features": matched_features([ops.stop_gradient(f) for f in real_features], features),
        "discriminator": discriminator_loss(real_scores, fake_scores),
    }
