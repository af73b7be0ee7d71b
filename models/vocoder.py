"""Streaming vocoder in Keras: log-mel -> spectrum -> waveform by an inverse short-time Fourier transform.

Vocos (Siuzdak 2023, arXiv 2306.00814) and iSTFTNet (Kaneko et al. 2022) at the size of a phone: ConvNeXt blocks at
the frame rate, one matrix product for the spectrum, and no network at the sample rate at all. Every convolution is
causal; the network as a whole runs `lookahead` frames behind its input, which is how it looks ahead.

Shapes: `B` batch, `F` mel frames (10.7 ms), `M` mel bands, `D` width, `K` kernel, `N` fft, `R` spectrum bins N/2 + 1.
"""

import math
from collections import namedtuple
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any
LOUDEST_LOG_MAGNITUDE = 7.0  # a sine of amplitude 1 has log(512) = 6.2: nothing real is cut, nothing overflows


@dataclass(frozen=True)
class VocoderConfig:
    """Sizes of the network; every hyperparameter is written here once."""

    bands: int = 80
    fft: int = 1024  # samples of the periodic Hann window
    hop: int = 256  # samples per frame: 10.7 ms at 24 kHz
    width: int = 256
    expansion: int = 768  # inner width of a block
    layers: int = 8
    kernel: int = 7
    lookahead: int = 3  # frames the network waits for: 32 ms, and centres its first convolution
    silence: float = math.log(1e-6)  # log-mel of digital silence: what lies before and after a recording

    def __post_init__(self) -> None:
        if self.fft % self.hop or self.fft // self.hop < 2:
            raise ValueError(f"fft {self.fft} must be a multiple of hop {self.hop}, at least twice")
        if not 0 <= self.lookahead < self.kernel:
            raise ValueError(f"lookahead {self.lookahead} must lie within the first kernel of {self.kernel} frames")

    @property
    def bins(self) -> int:
        """513 bins of a spectrum."""
        return self.fft // 2 + 1

    @property
    def receptive_frames(self) -> int:
        """Frames that an output frame depends on: 1 + (K - 1) of every convolution."""
        return 1 + (self.kernel - 1) * (self.layers + 1)


TINY = VocoderConfig(bands=5, fft=16, hop=4, width=6, expansion=8, layers=2, kernel=3, lookahead=1)
SMALL = VocoderConfig()
PRESETS = {"tiny": replace(TINY, bands=80, fft=1024, hop=256), "small": SMALL}


@cache
def state_type(layers: int) -> type:
    """NamedTuple of the frames that the next chunk still needs: `vocoder_mel`, then `vocoder_conv0` and so on."""
    return namedtuple("VocoderState", ["vocoder_mel", *(f"vocoder_conv{i}" for i in range(layers))])


def window(fft: int) -> np.ndarray:
    """Periodic Hann window, float32 [N]."""
    return np.hanning(fft + 1)[:-1].astype(np.float32)


def overlap_add(frames: Tensor, hop: int) -> Tensor:
    """[B, F, N] -> [B, F * hop + N - hop]: every frame added in at its place; hop divides N."""
    shifts = frames.shape[-1] // hop
    total = sum(
        ops.pad(frames[..., i * hop : (i + 1) * hop], ((0, 0), (i, shifts - 1 - i), (0, 0))) for i in range(shifts)
    )  # [B, F + shifts - 1, hop]
    return ops.reshape(total, (ops.shape(total)[0], -1))


def inverse_stft(real: Tensor, imag: Tensor, fft: int, hop: int) -> Tensor:
    """Waveform [B, F * hop] of spectra [B, F, R], each frame centred on its hop of samples.

    Least squares (Griffin & Lim 1984, eq. 6): the overlap-add is divided by that of the squared window.
    """
    shape = np.reshape(window(fft), (1, 1, fft))
    frames = ops.irfft((real, imag), fft_length=fft) * shape  # [B, F, N]
    envelope = overlap_add(ops.ones_like(frames[:1]) * shape**2, hop)
    margin = (fft - hop) // 2
    return (overlap_add(frames, hop) / ops.maximum(envelope, 1e-8))[:, margin:-margin]


class ConvNextBlock(keras.layers.Layer):
    """Depthwise convolution, layer norm, two products with a GELU between, layer scale, residual (Liu et al. 2022)."""

    def __init__(self, config: VocoderConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.depthwise = keras.layers.DepthwiseConv1D(config.kernel, padding="valid", name="depthwise")
        self.normalise = keras.layers.LayerNormalization(epsilon=1e-6, name="normalise")
        self.expand = keras.layers.Dense(config.expansion, name="expand")
        self.contract = keras.layers.Dense(config.width, name="contract")

    def build(self, input_shape: Any) -> None:
        c = self.config
        for layer, width in ((self.depthwise, c.width), (self.normalise, c.width), (self.expand, c.width)):
            layer.build((None, None, width))
        self.contract.build((None, None, c.expansion))
        start = keras.initializers.Constant(1.0 / c.layers)
        self.scale = self.add_weight(shape=(c.width,), initializer=start, name="gamma")

    def call(self, x: Tensor) -> Tensor:
        """[B, K - 1 + n, D], the first K - 1 frames being those before the chunk -> [B, n, D]."""
        y = self.normalise(self.depthwise(x))
        y = self.contract(ops.gelu(self.expand(y), approximate=True))
        return x[:, self.config.kernel - 1 :] + ops.cast(self.scale, y.dtype) * y


class Vocoder(keras.Model):
    """Log-mel to waveform, for whole recordings; or to spectra, chunk by chunk."""

    def __init__(self, config: VocoderConfig = SMALL, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # mel stays float32 whatever the layers compute in
        self.config = c = config
        self.embed = keras.layers.Conv1D(c.width, c.kernel, padding="valid", name="embed")
        self.embed_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="embed_norm")
        self.blocks = [ConvNextBlock(c, name=f"block{i}") for i in range(c.layers)]
        self.final_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="final_norm", dtype="float32")
        # phases run over many turns, of which bfloat16 would leave a few degrees of nothing
        self.head = keras.layers.Dense(2 * c.bins, name="head", dtype="float32")

    def build(self, input_shape: Any = None) -> None:
        """Make every weight; mel statistics begin as those of nothing in particular (`set_statistics`)."""
        c = self.config
        constant = keras.initializers.Constant
        self.mean = self.add_weight(shape=(c.bands,), initializer=constant(-6.0), trainable=False, name="mel_mean")
        self.std = self.add_weight(shape=(c.bands,), initializer=constant(3.0), trainable=False, name="mel_std")
        self.embed.build((None, None, c.bands))
        for layer in (self.embed_norm, *self.blocks, self.final_norm, self.head):
            layer.build((None, None, c.width))
        quiet = np.zeros(2 * c.bins, np.float32)
        quiet[: c.bins] = -3.0  # magnitudes begin at the level of speech, not at that of a full-scale tone
        self.head.bias.assign(quiet)
        self.built = True

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Mean and standard deviation of each band [M] over the training speech."""
        self.mean.assign(mean)
        self.std.assign(std)

    def initial_state(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Silence before the recording, and nothing yet in the layers: mel [B, K - 1, M], convs [B, K - 1, D]."""
        c = self.config
        before = c.kernel - 1
        mel = ops.full((batch, before, c.bands), c.silence, "float32")
        convs = [ops.zeros((batch, before, c.width), self.compute_dtype) for _ in range(c.layers)]
        return state_type(c.layers)(mel, *convs)

    def step(self, mel: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """mel [B, n, M] and state -> (real [B, n, R], imag [B, n, R], state), any n >= 1.

        The spectra lag behind: the first `lookahead` of a recording belong to nothing and are thrown away, and
        `lookahead` frames of silence after its end bring out the last ones.
        """
        context = ops.concatenate([state[0], mel], axis=1)
        kept = [context[:, -(self.config.kernel - 1) :]]
        x = ops.cast((context - self.mean) / self.std, self.compute_dtype)
        x = self.embed_norm(self.embed(x))  # [B, n, D]
        for block, before in zip(self.blocks, state[1:], strict=True):
            x = ops.concatenate([ops.cast(before, x.dtype), x], axis=1)
            kept.append(x[:, -(self.config.kernel - 1) :])
            x = block(x)
        real, imag = self._spectrum(x)
        return real, imag, type(state)(*kept)

    def _spectrum(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spectrum = self.head(self.final_norm(x))  # [B, n, 2 R], float32
        bins = self.config.bins
        magnitude = ops.exp(ops.minimum(spectrum[..., :bins], LOUDEST_LOG_MAGNITUDE))
        phase = spectrum[..., bins:]
        return magnitude * ops.cos(phase), magnitude * ops.sin(phase)

    def spectra(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary parts [B, F, R] that belong to the frames of mel [B, F, M]."""
        c = self.config
        batch = ops.shape(mel)[0]
        silence = ops.full((batch, c.lookahead, c.bands), c.silence, mel.dtype)
        real, imag, _ = self.step(ops.concatenate([mel, silence], axis=1), self.initial_state(batch))
        return real[:, c.lookahead :], imag[:, c.lookahead :]

    def call(self, mel: Tensor, training: bool | None = None) -> Tensor:
        """Waveform float32 [B, F * hop] of log-mel [B, F, M]."""
        return inverse_stft(*self.spectra(mel), self.config.fft, self.config.hop)
