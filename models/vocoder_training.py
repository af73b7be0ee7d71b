"""What is trained around a `Vocoder`: spectral losses and, in a second stage, discriminators.

Shapes: `B` batch, `F` mel frames, `M` mel bands, `n` samples (F * hop).
"""

from dataclasses import dataclass
from typing import Any

import keras

from models.adversarial import adversarial_losses
from models.spectral_losses import Resolution, reconstruction_losses
from models.vocoder import Vocoder
from ondevice.features import LogMelConfig

Tensor = Any


@dataclass(frozen=True)
class VocoderLossConfig:
    """Weights of the parts of the loss."""

    resolutions: tuple[Resolution, ...] = ((512, 128), (1024, 256), (2048, 512))
    convergence: float = 1.0
    log_magnitude: float = 1.0
    mel: float = 1.0
    edge_frames: int = 6  # left out at both ends, where the network sees silence instead of the recording
    adversarial: float = 0.5
    features: float = 1.0  # feature matching
    adversarial_frames: int = 96  # discriminators judge so many of the last frames: they are what costs


class VocoderTrainer(keras.Model):
    """`call` generates the waveforms of a batch {"mel": [B, F, M], "samples": [B, n]}; `compute_loss` judges them.

    With a discriminator, one loss and one optimiser step serve both sides.
    """

    def __init__(
        self, vocoder: Vocoder, mel: LogMelConfig, config: VocoderLossConfig = VocoderLossConfig(),
        discriminator: keras.Model | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(autocast=False, **kwargs)
        self.vocoder, self.mel, self.config, self.discriminator = vocoder, mel, config, discriminator
        names = ["convergence", "log_magnitude", "mel"]
        if discriminator is not None:
            names += ["adversarial", "features", "discriminator"]
        self.parts = {name: keras.metrics.Mean(name=name) for name in names}

    def build(self, input_shape: Any = None) -> None:
        """Nothing here: vocoder and discriminator are built before they are given."""

    def call(self, batch: dict[str, Tensor], training: bool | None = None) -> Tensor:
        """Waveform float32 [B, n]."""
        return self.vocoder(batch["mel"], training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """Weighted sum of the parts."""
        edge = self.config.edge_frames * self.vocoder.config.hop
        real, fake = (audio[:, edge : audio.shape[1] - edge] for audio in (x["samples"], y_pred))
        values = reconstruction_losses(real, fake, self.config.resolutions, self.mel)
        if self.discriminator is not None:
            values |= self.adversarial_losses(real, fake)
        for name, value in values.items():
            self.parts[name].update_state(value)
        return sum(getattr(self.config, name, 1.0) * value for name, value in values.items())

    def adversarial_losses(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """`adversarial` and `features` for the generator, `discriminator` for the discriminator, of [B, n]."""
        length = self.config.adversarial_frames * self.vocoder.config.hop
        return adversarial_losses(self.discriminator, real[:, -length:], fake[:, -length:])
