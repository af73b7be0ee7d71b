"""What a `Tacotron` is trained with: losses on spectra, stop decisions and where it looks.

Shapes: `B` batch, `N` symbols, `F` mel frames, `G` decoder steps, `M` mel bands.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from models.adversarial import adversarial_losses
from models.tacotron import Tacotron

Tensor = Any


@dataclass(frozen=True)
class TacotronLossConfig:
    """Weights of the parts of the loss."""

    squared: float = 1.0  # mean squared error of the spectra, as published, before and after the post-net
    absolute: float = 1.0  # mean absolute error of the same: sharper
    stop: float = 0.5
    stop_weight: float = 5.0  # of the few steps at the end among the many before
    stop_tail: int = 4  # steps beyond the end that still must say stop
    guide: float = 1.0  # keeps attention near the diagonal (Tachibana et al. 2017, arXiv 1710.08969, section 4.1)
    guide_width: float = 0.25  # how far from it costs nothing to speak of, as a share of the text
    adversarial: float = 0.2  # with a discriminator
    features: float = 1.0  # feature matching


class TacotronTrainer(keras.Model):
    """Losses of a batch: `call` takes the dict of arrays `TacotronBatches` makes.

    With a discriminator of mel spectra, one loss and one optimiser step serve both sides.
    """

    def __init__(
        self, tacotron: Tacotron, config: TacotronLossConfig | None = None, discriminator: keras.Model | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(dtype="float32", **kwargs)  # spectra and losses stay exact whatever the generator computes in
        self.tacotron, self.config, self.discriminator = tacotron, config or TacotronLossConfig(), discriminator
        names = ["before", "refined", "stop", "guide", "focus"]
        if discriminator is not None:
            names += ["adversarial", "features", "discriminator"]
        self.parts = {name: keras.metrics.Mean(name=name) for name in names}

    def build(self, input_shape: Any = None) -> None:
        """Nothing here: generator and discriminator are built before they are given."""

    def call(self, batch: dict[str, Tensor], training: bool | None = None) -> dict[str, Tensor]:
        """What the generator makes of the batch, and the batch, which the loss needs too."""
        made = self.tacotron(**batch, training=training)
        return {**made, **{f"batch_{key}": value for key, value in batch.items()}}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """Weighted sum of the losses; `focus` is the mean of the largest attention weight, 1 when it is sure."""
        config, made = self.config, y_pred
        frames, lengths = made["batch_frames"], made["batch_lengths"]
        reduction = self.tacotron.config.reduction
        inside = _within(frames, ops.shape(made["mel"])[1])
        steps = (frames + reduction - 1) // reduction
        spoken = _within(steps, ops.shape(made["stop"])[1])
        before = self._distance(made["mel"], made["batch_mel"], inside)
        refined = self._distance(made["refined"], made["batch_mel"], inside)
        stop = self._stop_loss(made["stop"], steps)
        pairs = spoken[:, :, None] * _within(lengths, ops.shape(made["alignment"])[2])[:, None, :]
        astray = made["alignment"] * self._off_diagonal(steps, lengths, made["alignment"]) * pairs
        guide = ops.sum(astray) / ops.sum(spoken)
        focus = ops.sum(ops.max(made["alignment"], axis=-1) * spoken) / ops.sum(spoken)
        values = {"before": before, "refined": refined, "stop": stop, "guide": guide, "focus": focus}
        loss = before + refined + config.stop * stop + config.guide * guide
        if self.discriminator is not None:
            shown = [spectrum * inside[..., None] for spectrum in (made["batch_mel"], made["refined"])]
            judged = adversarial_losses(self.discriminator, *shown)
            loss += config.adversarial * judged["adversarial"] + config.features * judged["features"]
            loss += judged["discriminator"]
            values |= judged
        for name, value in values.items():
            self.parts[name].update_state(value)
        return loss

    def _distance(self, mel: Tensor, target: Tensor, inside: Tensor) -> Tensor:
        difference = (mel - target) * inside[..., None]
        cost = self.config.squared * difference**2 + self.config.absolute * ops.abs(difference)
        return ops.sum(cost) / (ops.sum(inside) * target.shape[-1])

    def _stop_loss(self, logits: Tensor, steps: Tensor) -> Tensor:
        config = self.config
        at = ops.arange(ops.shape(logits)[1])[None, :]
        ended = ops.cast(at >= steps[:, None] - 1, "float32")
        counts = ops.cast(at < steps[:, None] + config.stop_tail, "float32") * (1 + (config.stop_weight - 1) * ended)
        cost = ops.relu(logits) - logits * ended + ops.softplus(-ops.abs(logits))
        return ops.sum(cost * counts) / ops.sum(counts)

    def _off_diagonal(self, steps: Tensor, lengths: Tensor, alignment: Tensor) -> Tensor:
        """[B, G, N] between 0 on the diagonal and 1 far from it."""
        down = ops.arange(ops.shape(alignment)[1])[None, :, None] / steps[:, None, None]
        across = ops.arange(ops.shape(alignment)[2])[None, None, :] / lengths[:, None, None]
        distance = ops.cast(down, "float32") - ops.cast(across, "float32")
        return 1 - ops.exp(-(distance**2) / (2 * self.config.guide_width**2))


def _within(counts: Tensor, length: Any) -> Tensor:
    """float32 [B, length]: 1 where the position is below the row's count."""
    return ops.cast(ops.arange(length)[None, :] < counts[:, None], "float32")
