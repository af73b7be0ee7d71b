"""What is trained around a `Wavenet`: the likelihood of each sample given those before it.

Shapes: `B` batch, `F` mel frames, `M` mel bands, `n` samples (F * hop).
"""

import math
from typing import Any

import keras
from keras import ops

from models.wavenet import SMALLEST_LOG_SCALE, Wavenet, mu_law

Tensor = Any
LEVELS = 65_536  # of 16-bit samples
OUTERMOST = 1.0 - 1.5 / (LEVELS - 1)  # beyond it lie the first and last level only


def mixture_nll(parameters: Tensor, samples: Tensor) -> Tensor:
    """Negative log-likelihood [B, n], in nats, of 16-bit samples in -1..1 (Salimans et al. 2017, section 2.1).

    parameters [B, n, 3 * mixture]: logits, means, log-scales. A level's probability is the mass of its interval,
    the outermost reaching to infinity.
    """
    logits, means, log_scales = ops.split(parameters, 3, axis=-1)
    log_scales = ops.maximum(log_scales, SMALLEST_LOG_SCALE)
    centred, inverse, half = samples[:, :, None] - means, ops.exp(-log_scales), 1.0 / (LEVELS - 1)
    upper, lower = inverse * (centred + half), inverse * (centred - half)
    mass = ops.sigmoid(upper) - ops.sigmoid(lower)
    # where the mass is lost to rounding: the density at the middle times the width
    middle = inverse * centred
    density = middle - log_scales - 2.0 * ops.softplus(middle) + math.log(2.0 * half)
    inner = ops.where(mass > 1e-5, ops.log(ops.maximum(mass, 1e-12)), density)
    at_end = samples[:, :, None]
    log_probability = ops.where(
        at_end < -OUTERMOST, ops.log_sigmoid(upper), ops.where(at_end > OUTERMOST, ops.log_sigmoid(-lower), inner)
    )
    return -ops.logsumexp(ops.log_softmax(logits, axis=-1) + log_probability, axis=-1)


def softmax_nll(parameters: Tensor, samples: Tensor, levels: int) -> Tensor:
    """Negative log-likelihood [B, n], in nats, of the mu-law levels of samples in -1..1; parameters [B, n, levels]."""
    scaled = (mu_law(samples, levels) + 1.0) * (0.5 * levels)
    level = ops.clip(ops.cast(ops.floor(scaled), "int32"), 0, levels - 1)
    return -ops.take_along_axis(ops.log_softmax(parameters, axis=-1), level[:, :, None], axis=-1)[:, :, 0]


class WavenetTrainer(keras.Model):
    """`call` gives the distributions of a batch {"mel": [B, F, M], "samples": [B, n]}; `compute_loss` their loss.

    Samples that see less than a whole receptive field do not count, nor do the frames whose look-ahead is missing,
    so a segment has to be longer than both. The loss is in bits for each sample.
    """

    def __init__(self, wavenet: Wavenet, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.wavenet = wavenet
        c = wavenet.config
        frames = max(math.ceil(c.receptive_steps * c.group / c.hop), c.mel_kernel)
        self.context_samples, self.tail_samples = frames * c.hop, c.lookahead * c.hop

    def build(self, input_shape: Any = None) -> None:
        """Nothing here: the wavenet is built before it is given."""

    def call(self, batch: dict[str, Tensor], training: bool | None = None) -> Tensor:
        """Parameters float32 [B, n, P]."""
        return self.wavenet(batch["mel"], batch["samples"], training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """Mean bits a sample. Raises ValueError where a segment is too short to have any."""
        config, count = self.wavenet.config, x["samples"].shape[1]
        counted = slice(self.context_samples, count - self.tail_samples)
        if counted.start >= counted.stop:
            raise ValueError(f"segments of {count} samples; expected more than {counted.start + self.tail_samples}")
        parameters, samples = y_pred[:, counted], x["samples"][:, counted]
        levels = config.mu_levels
        nll = mixture_nll(parameters, samples) if config.mixture else softmax_nll(parameters, samples, levels)
        return ops.mean(nll) / math.log(2.0)
