"""WaveNet vocoder (van den Oord et al. 2016, arXiv 1609.03499; on mel, Shen et al. 2017, section 2.3) in Keras.

Dilated causal convolutions with gated activations, conditioned on mel, put out a distribution for the next sample.
A step may cover a `group` of samples: the convolutions run once for all of them, and a small head, which sees the
samples of the group drawn so far, once for each. With `group` 1 it is the published network; with 8, one that a
phone's processor can follow. The factorisation into one distribution per sample is exact in both.

Shapes: `B` batch, `F` mel frames, `M` mel bands, `n` samples, `G` group, `T` steps (n / G), `L` layers,
`R` residual width, `S` skip width, `P` parameters of a distribution, `N` steps in one call, `K` kernel.
"""

import math
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from ondevice.sampling import tap_offsets

Tensor = Any
SMALLEST_LOG_SCALE = -11.0  # a logistic as narrow as one 16-bit level


@dataclass(frozen=True)
class WavenetConfig:
    """Sizes of the network; every hyperparameter is written here once."""

    bands: int = 80
    hop: int = 256  # samples a mel frame stands for
    group: int = 8  # samples in a step
    layers: int = 12
    cycles: int = 2  # dilations 1, 2, 4 ... begin anew so many times
    kernel: int = 2
    residual: int = 64
    skip: int = 64
    condition: int = 128
    mel_kernel: int = 5
    lookahead: int = 2  # frames of mel it waits for
    mixture: int = 10  # logistics (Shen et al. 2017), or 0: a softmax over `mu_levels`
    mu_levels: int = 256
    gain: float = 16.0  # brings the samples of speech, 24 dB below full scale, to unit variance (companded ones: 2)
    silence: float = math.log(1e-6)  # log-mel of digital silence

    def __post_init__(self) -> None:
        if self.layers % self.cycles:
            raise ValueError(f"{self.layers} layers do not make {self.cycles} equal dilation cycles")
        if self.hop % self.group:
            raise ValueError(f"a hop of {self.hop} samples is no multiple of group {self.group}")
        if not 0 <= self.lookahead < self.mel_kernel:
            raise ValueError(f"lookahead {self.lookahead} must lie within the mel kernel of {self.mel_kernel} frames")

    @property
    def dilations(self) -> tuple[int, ...]:
        """1, 2, 4 ... in each cycle."""
        return tuple(2 ** (i % (self.layers // self.cycles)) for i in range(self.layers))

    @property
    def receptive_steps(self) -> int:
        """Steps that an output depends on: 1 + sum of dilation x (K - 1)."""
        return 1 + sum(self.dilations) * (self.kernel - 1)

    @property
    def parameters(self) -> int:
        """P: weight, mean and log-scale of each logistic, or one logit per level."""
        return 3 * self.mixture if self.mixture else self.mu_levels

    @property
    def noises(self) -> int:
        """Random numbers that drawing one sample takes."""
        return self.mixture + 1 if self.mixture else self.mu_levels


TINY = WavenetConfig(
    bands=5, hop=4, group=1, layers=4, residual=4, skip=6, condition=6, mel_kernel=3, lookahead=1, mixture=2,
    mu_levels=8, gain=1.0,
)  # fmt: skip
SMALL = WavenetConfig()
# Layers, cycles and mixture as published, the kernel by the printed receptive field of 6,139 samples; the widths, which
# are not published, as others took them.
PAPER = WavenetConfig(group=1, layers=30, cycles=3, kernel=3, residual=128, skip=128)
PRESETS = {"tiny": replace(TINY, bands=80, hop=256), "small": SMALL, "paper": PAPER}


@cache
def cache_type(kind: str, layers: int) -> type:
    """NamedTuple with a tensor per layer: `past0` ... what each layer's taps read, `present0` ... what it then saw."""
    return namedtuple(kind.capitalize(), [f"{kind}{i}" for i in range(layers)])


def mu_law(samples: Tensor, levels: int) -> Tensor:
    """Samples in -1..1 companded to -1..1 (G.711, with mu = levels - 1)."""
    mu = levels - 1.0
    return ops.sign(samples) * ops.log1p(mu * ops.abs(samples)) / math.log1p(mu)


def mu_expand(companded: Tensor, levels: int) -> Tensor:
    """The inverse of `mu_law`."""
    return ops.sign(companded) * ops.expm1(ops.abs(companded) * math.log1p(levels - 1.0)) / (levels - 1.0)


class Wavenet(keras.Model):
    """Distributions of samples given those before and mel, for whole recordings; samples, step by step."""

    def __init__(self, config: WavenetConfig = SMALL, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)  # mel and samples stay float32 whatever the layers compute in
        self.config = c = config
        dense, layers = keras.layers.Dense, range(c.layers)
        self.mel_conv = keras.layers.Conv1D(c.condition, c.mel_kernel, activation="tanh", name="mel_conv")
        # projected for all layers at the frame rate, where it costs next to nothing
        self.to_layers = dense(c.layers * 2 * c.residual, name="to_layers")
        self.embed = dense(c.residual, name="embed", dtype="float32")
        self.gates = [dense(2 * c.residual, use_bias=False, name=f"gate{i}") for i in layers]
        self.outputs_ = [dense(c.residual + c.skip, name=f"output{i}") for i in layers]
        self.head = dense(c.skip, use_bias=False, name="head", dtype="float32")
        self.distribution = dense(c.parameters, name="distribution", dtype="float32")

    def build(self, input_shape: Any = None) -> None:
        """Make every weight."""
        c, constant = self.config, keras.initializers.Constant
        self.mean = self.add_weight(shape=(c.bands,), initializer=constant(-6.0), trainable=False, name="mel_mean")
        self.std = self.add_weight(shape=(c.bands,), initializer=constant(3.0), trainable=False, name="mel_std")
        self.mel_conv.build((None, None, c.bands))
        self.to_layers.build((None, c.condition))
        self.embed.build((None, c.group))
        for gate, output in zip(self.gates, self.outputs_, strict=True):
            gate.build((None, c.kernel * c.residual))
            output.build((None, c.residual))
        self.head.build((None, c.skip))
        self.distribution.build((None, c.skip))
        if c.mixture:  # begin with logistics side by side at the level of speech, not with ten of full scale
            spread = np.linspace(-0.1, 0.1, c.mixture) * c.gain
            self.distribution.bias.assign(np.concatenate([0.0 * spread, spread, np.full(c.mixture, -4.0)]))
        self.place = self.add_weight(shape=(c.group, c.skip), initializer="zeros", name="place_bias")
        if c.group > 1:  # how the samples of a group already drawn change the next ones
            self.within = self.add_weight(shape=(c.group, c.group, c.skip), name="within")
        self.built = True

    def set_statistics(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Mean and standard deviation of each band [M] over the training speech."""
        self.mean.assign(mean)
        self.std.assign(std)

    # Conditioning, at the frame rate.

    def initial_mel(self, batch: int = 1) -> Tensor:
        """The mel [B, mel_kernel - 1, M] before a recording: silence."""
        return ops.full((batch, self.config.mel_kernel - 1, self.config.bands), self.config.silence, "float32")

    def condition_step(self, mel: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """mel [B, n, M] and the frames before -> (what all layers are told [B, n, L * 2 R], the frames now before).

        It lags behind by `lookahead` frames, as `Vocoder.step` does.
        """
        context = ops.concatenate([before, mel], axis=1)
        told = self.to_layers(self.mel_conv((context - self.mean) / self.std))
        return told, context[:, -(self.config.mel_kernel - 1) :]

    def condition(self, mel: Tensor) -> Tensor:
        """mel [B, F, M] -> [B, F, L * 2 R]."""
        c = self.config
        batch = ops.shape(mel)[0]
        silence = ops.full((batch, c.lookahead, c.bands), c.silence, mel.dtype)
        return self.condition_step(ops.concatenate([mel, silence], axis=1), self.initial_mel(batch))[0][
            :, c.lookahead :
        ]

    # Teacher-forced, on whole recordings.

    def call(self, mel: Tensor, samples: Tensor, training: bool | None = None) -> Tensor:
        """Parameters float32 [B, n, P] of each sample's distribution, of mel [B, F, M] and samples [B, F * hop]."""
        c = self.config
        signal = samples if c.mixture else mu_law(samples, c.mu_levels)
        groups = ops.reshape(signal, (-1, signal.shape[1] // c.group, c.group))  # [B, T, G]
        told = ops.split(self.condition(mel), c.layers, axis=-1)  # L x [B, F, 2 R]
        x, skips = self._embed(ops.pad(groups, ((0, 0), (1, 0), (0, 0)))[:, :-1]), 0.0
        for index, dilation in enumerate(c.dilations):
            behind = dilation * (c.kernel - 1)
            padded, length = ops.pad(x, ((0, 0), (behind, 0), (0, 0))), x.shape[1]
            taps = [padded[:, j * dilation : j * dilation + length] for j in range(c.kernel)]
            x, skips = self._layer(index, taps, told[index], skips)
        hidden = self.head(ops.relu(skips))[:, :, None] + self.place  # [B, T, G, S]
        if c.group > 1:
            earlier = np.tril(np.ones((c.group, c.group), np.float32), -1)[:, :, None]
            hidden = hidden + ops.einsum("btg,jgs->btjs", groups * c.gain, self.within * earlier)
        parameters = self._parameters(hidden)
        return ops.reshape(parameters, (-1, groups.shape[1] * c.group, c.parameters))

    def _embed(self, groups: Tensor) -> Tensor:
        return ops.cast(self.embed(groups * self.config.gain), self.compute_dtype)

    def _parameters(self, hidden: Tensor) -> Tensor:
        """[..., S] -> [..., P]; means come at the scale of the inputs, or one training step would pass them by."""
        c = self.config
        scale = np.repeat(np.array([1.0, 1.0 / c.gain, 1.0], np.float32), c.mixture) if c.mixture else 1.0
        return self.distribution(ops.relu(hidden)) * scale

    def _layer(self, index: int, taps: Sequence[Tensor], told: Tensor, skips: Tensor) -> tuple[Tensor, Tensor]:
        width = self.config.residual
        pre = self.gates[index](ops.concatenate(taps, axis=-1))
        if len(told.shape) == 3:  # a frame is told to all its steps, without a copy of it for each
            frames, shape = told.shape[1], (-1, *pre.shape[1:])
            pre = ops.reshape(pre, (-1, frames, pre.shape[1] // frames, 2 * width)) + told[:, :, None]
            pre = ops.reshape(pre, shape)
        else:
            pre = pre + told
        filtered, gate = ops.split(pre, 2, axis=-1)
        y = self.outputs_[index](ops.tanh(filtered) * ops.sigmoid(gate))
        added, skip = ops.split(y, [width], axis=-1)
        return taps[-1] + added, skips + ops.cast(skip, "float32")

    # Step by step.

    def initial_past(self, batch: int = 1, steps: int = 1) -> tuple[Tensor, ...]:
        """What the taps read before anything was said: zeros [B, offsets, R] for each layer (`tap_offsets`)."""
        c = self.config
        counts = [len(tap_offsets(d, c.kernel, steps)) for d in c.dilations]
        return cache_type("past", c.layers)(*(ops.zeros((batch, count, c.residual)) for count in counts))

    def steps(
        self, previous: Tensor, told: Tensor, noise: Tensor, past: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Draw the samples of N steps that lie in one mel frame: -> (samples [B, N * G], present).

        previous [B, G]: the samples before (mu-law companded without a mixture, as are those returned); told
        [B, L * 2 R]: the frame's condition; noise [B, N, G, noises] of `ondevice.sampling`; past: for each layer
        what its taps read from before these steps, [B, offsets, R] in the order of `tap_offsets`. present: for each
        layer its inputs [B, N, R]. The caller keeps them (`RingCache`), so a step costs the same at any dilation.
        """
        c, drawn = self.config, []
        parts = ops.split(told, c.layers, axis=-1)
        offsets = [tap_offsets(d, c.kernel, noise.shape[1]) for d in c.dilations]
        seen = [{o: past[i][:, at] for at, o in enumerate(each)} for i, each in enumerate(offsets)]
        for step in range(noise.shape[1]):
            x, skips = self._embed(previous), 0.0
            for index, dilation in enumerate(c.dilations):
                seen[index][step] = x
                taps = [seen[index][step - j * dilation] for j in reversed(range(c.kernel))]
                x, skips = self._layer(index, taps, parts[index], skips)
            previous = self._draw_group(self.head(ops.relu(skips)), noise[:, step])
            drawn.append(previous)
        present = [ops.stack([each[s] for s in range(noise.shape[1])], axis=1) for each in seen]
        return ops.concatenate(drawn, axis=1), cache_type("present", c.layers)(*present)

    def _draw_group(self, hidden: Tensor, noise: Tensor) -> Tensor:
        """hidden [B, S], noise [B, G, noises] -> samples [B, G]."""
        drawn: list[Tensor] = []
        hidden = hidden[:, None] + self.place  # [B, G, S]
        for j in range(self.config.group):
            sample = self.draw(self._parameters(hidden[:, j]), noise[:, j])  # [B, 1]
            if j + 1 < self.config.group:
                hidden = hidden + (self.config.gain * sample)[:, :, None] * self.within[:, j]
            drawn.append(sample)
        return ops.concatenate(drawn, axis=1)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """One sample [B, 1] of distributions [B, P]; noise [B, noises]: Gumbel picks, the logistic last one spreads."""
        count = self.config.mixture
        scores = parameters[:, :count] + noise[:, :count] if count else parameters + noise
        # a mask instead of an argmax, which Keras writes with operators that TFLite lacks
        chosen = ops.cast(scores >= ops.max(scores, axis=-1, keepdims=True), "float32")
        if not count:
            centres = (2.0 * np.arange(self.config.mu_levels, dtype=np.float32) + 1.0) / self.config.mu_levels - 1.0
            return ops.sum(chosen * centres, axis=-1, keepdims=True)
        mean = ops.sum(chosen * parameters[:, count : 2 * count], axis=-1, keepdims=True)
        log_scale = ops.sum(chosen * parameters[:, 2 * count :], axis=-1, keepdims=True)
        value = mean + ops.exp(ops.maximum(log_scale, SMALLEST_LOG_SCALE)) * noise[:, count:]
        return ops.clip(value, -1.0, 1.0)
