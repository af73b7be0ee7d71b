"""Small discriminators that teach what distances cannot: a vocoder, phases that fit each other; a voice, sharp spectra.

On waveforms, multi-period (Kong et al. 2020, HiFi-GAN, section 2.3: the waveform folded at a few periods) and
multi-resolution spectrogram discriminators (Jang et al. 2021, UnivNet, section 2.2), with a tenth of the published
channels and strides in both directions, for a CPU; on mel spectra, patches of one such image. They are thrown away
after training.

Shapes: `B` batch, `n` samples, `P` period, `F` frames, `R` bins, `M` mel bands, `C` channels.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from models.spectral_losses import POWER_FLOOR, Resolution, power_spectrum

Tensor = Any
LEAK = 0.1


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of all of them."""

    periods: tuple[int, ...] = (2, 3, 5, 11)
    period_channels: tuple[int, ...] = (16, 32, 64, 128)
    resolutions: tuple[Resolution, ...] = ((512, 128), (1024, 256), (2048, 512))
    spectral_channels: tuple[int, ...] = (16, 24, 32, 32)


class ConvDiscriminator(keras.layers.Layer):
    """A few strided convolutions, leaky ReLU between, and a score for every place."""

    def __init__(
        self, channels: tuple[int, ...], kernel: tuple[int, int], strides: tuple[int, int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.convs = [
            keras.layers.Conv2D(c, kernel, strides, padding="same", name=f"conv{i}") for i, c in enumerate(channels)
        ]
        self.score = keras.layers.Conv2D(1, 3 if kernel[1] > 1 else (3, 1), padding="same", name="score")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        for conv in (*self.convs, self.score):
            conv.build((None, None, None, width))
            width = conv.filters

    def call(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image [B, H, W, C] -> (scores [B, H', W', 1], the feature maps before them)."""
        features = []
        for conv in self.convs:
            x = ops.leaky_relu(conv(x), LEAK)
            features.append(x)
        return ops.cast(self.score(x), "float32"), features


class Discriminators(keras.Model):
    """All of them on one waveform."""

    def __init__(self, config: DiscriminatorConfig = DiscriminatorConfig(), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = c = config
        self.periodic = [ConvDiscriminator(c.period_channels, (5, 1), (3, 1), name=f"period{p}") for p in c.periods]
        self.spectral = [
            ConvDiscriminator(c.spectral_channels, (3, 7), (2, 3), name=f"spectrum{fft}") for fft, _ in c.resolutions
        ]

    def build(self, input_shape: Any = None) -> None:
        """Make every weight."""
        for judge in (*self.periodic, *self.spectral):
            judge.build((None, None, None, 1))
        self.built = True

    def call(self, samples: Tensor, training: bool | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Samples [B, n] -> (scores of each discriminator float32, all their feature maps)."""
        scores, features = [], []
        for judge, image in self._images(samples):
            score, maps = judge(ops.cast(image, self.compute_dtype))
            scores.append(score)
            features += [ops.cast(each, "float32") for each in maps]
        return scores, features

    def _images(self, samples: Tensor) -> list[tuple[keras.layers.Layer, Tensor]]:
        """(discriminator, what it looks at): [B, n / P, P, 1], and log power [B, F, R - 1, 1] about -1..1."""
        found, length = [], samples.shape[1]
        for period, judge in zip(self.config.periods, self.periodic, strict=True):
            rows = length // period
            found.append((judge, ops.reshape(samples[:, : rows * period], (-1, rows, period, 1))))
        for (fft, hop), judge in zip(self.config.resolutions, self.spectral, strict=True):
            power = power_spectrum(samples, fft, hop)[:, :, :-1, None]
            found.append((judge, ops.log(power + POWER_FLOOR) / 8.0 + 1.0))
        return found


class MelDiscriminator(keras.Model):
    """Judges patches of 31 frames and as many bands of a mel spectrum: whether they have the detail of recordings."""

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 64), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patches = ConvDiscriminator(channels, (3, 3), (2, 2), name="patches")

    def build(self, input_shape: Any = None) -> None:
        """Make every weight."""
        self.patches.build((None, None, None, 1))
        self.built = True

    def call(self, mel: Tensor, training: bool | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Normalised mel [B, F, M] -> (its scores float32, the feature maps)."""
        score, maps = self.patches(ops.cast(mel[..., None], self.compute_dtype))
        return [score], [ops.cast(each, "float32") for each in maps]
