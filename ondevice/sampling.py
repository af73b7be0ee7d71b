"""Drawing the samples of an autoregressive vocoder: seeded noise, and the cache of what its layers have seen.

The noise is made here, a block at a time, and the model adds it in: so a seed gives one waveform whatever runs the
model. Shapes: `L` layers, `R` width of a layer's input, `N` steps of a call, `K` kernel.
"""

from __future__ import annotations  # `np.random` in a signature would import it, 4 MB

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def tap_offsets(dilation: int, kernel: int, steps: int) -> tuple[int, ...]:
    """Times before a call of so many steps (-1 is the step before it) that a dilated causal convolution reads."""
    read = {step - tap * dilation for step in range(steps) for tap in range(1, kernel)}
    return tuple(sorted(offset for offset in read if offset < 0))


class RingCache:
    """The inputs of dilated layers, as far back as their taps reach: one ring for each layer."""

    def __init__(self, dilations: Sequence[int], kernel: int, width: int, steps: int = 1) -> None:
        """For calls of `steps` steps of layers whose inputs have `width` values."""
        self.steps = steps
        self._rings = [np.zeros((max(d * (kernel - 1), steps), width), np.float32) for d in dilations]
        self._offsets = [np.array(tap_offsets(d, kernel, steps), np.int64) for d in dilations]
        self.reset()

    def reset(self) -> None:
        """Forget everything: zeros, as before a recording."""
        self._position = 0
        for ring in self._rings:
            ring[:] = 0.0

    def past(self) -> list[Float32]:
        """What the taps of each layer read in the next call, [1, offsets, R]."""
        pairs = zip(self._rings, self._offsets, strict=True)
        return [ring[(self._position + offsets) % len(ring)][None] for ring, offsets in pairs]

    def push(self, present: Sequence[Float32]) -> None:
        """Keep the inputs [1, N, R] that each layer had in this call."""
        times = self._position + np.arange(self.steps)
        for ring, values in zip(self._rings, present, strict=True):
            ring[times % len(ring)] = values[0]
        self._position += self.steps


def mixture_noise(rng: np.random.Generator, shape: tuple[int, ...], mixture: int, temperature: float = 1.0) -> Float32:
    """Noise float32 [*shape, mixture + 1]: Gumbel to choose a logistic, then one standard logistic value.

    `temperature` narrows (below 1) or widens the logistics; 0 puts out the chosen one's mean.
    """
    uniform = rng.uniform(1e-7, 1.0 - 1e-7, (*shape, mixture + 1))
    noise = -np.log(-np.log(uniform))
    noise[..., mixture] = temperature * (np.log(uniform[..., mixture]) - np.log1p(-uniform[..., mixture]))
    return noise.astype(np.float32)


def softmax_noise(rng: np.random.Generator, shape: tuple[int, ...], levels: int) -> Float32:
    """Gumbel noise float32 [*shape, levels]: the largest sum with the logits is a draw from their softmax."""
    return (-np.log(-np.log(rng.uniform(1e-7, 1.0 - 1e-7, (*shape, levels))))).astype(np.float32)


def mu_expand(companded: Float32, levels: int) -> Float32:
    """Samples in -1..1 of companded ones in -1..1 (G.711, with mu = levels - 1)."""
    expanded: Float32 = np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(levels - 1.0)) / (levels - 1.0)
    return expanded.astype(np.float32)
