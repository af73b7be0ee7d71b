"""Distances between waveforms that the ear agrees with more than with the difference of samples.

Everything is float32 whatever the precision of the network. Shapes: `B` batch, `n` samples, `F` frames, `N` fft,
`R` bins N/2 + 1, `M` mel bands.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from ondevice.features import LogMelConfig, mel_filters

Tensor = Any
Resolution = tuple[int, int]  # (fft, hop) in samples
POWER_FLOOR = 1e-7  # about the noise of 16-bit samples in one bin: nothing below it is worth learning


def frames(samples: Tensor, fft: int, hop: int) -> Tensor:
    """[B, n] -> [B, F, N] with F = 1 + (n - N) // hop, by slices instead of a gather; hop divides fft."""
    pieces = samples.shape[1] // hop
    count, each = pieces - fft // hop + 1, ops.reshape(samples[:, : pieces * hop], (-1, pieces, hop))
    return ops.concatenate([each[:, i : i + count] for i in range(fft // hop)], axis=-1)


def power_spectrum(samples: Tensor, fft: int, hop: int) -> Tensor:
    """Power float32 [B, F, R] of samples [B, n] under a periodic Hann window, no padding at the ends."""
    windowed = frames(ops.cast(samples, "float32"), fft, hop) * np.hanning(fft + 1)[:-1].astype(np.float32)
    real, imag = ops.rfft(windowed)
    return ops.square(real) + ops.square(imag)


def log_mel(power: Tensor, config: LogMelConfig) -> Tensor:
    """Natural-log mel [B, F, M] of power [B, F, R]: what `ondevice.features` computes, for gradients to pass."""
    return ops.log(ops.matmul(power, mel_filters(config).astype(np.float32)) + config.floor)


def spectral_distance(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """(spectral convergence, log-magnitude L1) of two power spectra (Yamamoto et al. 2020, eqs. 4 and 5).

    The convergence is taken of each example, or the loudest would outvote the rest.
    """
    magnitudes = [ops.sqrt(power + POWER_FLOOR) for power in (real, fake)]
    difference = ops.sum(ops.square(magnitudes[0] - magnitudes[1]), axis=(1, 2))
    whole = ops.sum(ops.square(magnitudes[0]), axis=(1, 2))
    convergence = ops.mean(ops.sqrt((difference + POWER_FLOOR) / (whole + POWER_FLOOR)))
    log_difference = 0.5 * (ops.log(real + POWER_FLOOR) - ops.log(fake + POWER_FLOOR))
    return convergence, ops.mean(ops.abs(log_difference))


def reconstruction_losses(
    real: Tensor, fake: Tensor, resolutions: Sequence[Resolution], mel: LogMelConfig
) -> dict[str, Tensor]:
    """`convergence` and `log_magnitude` (means over the resolutions) and `mel` (L1 in nepers of power) of [B, n]."""
    pairs = [tuple(power_spectrum(x, *resolution) for x in (real, fake)) for resolution in resolutions]
    distances = [spectral_distance(*pair) for pair in pairs]
    wanted = (mel.fft_size, mel.hop_samples)
    spectra = (
        pairs[list(resolutions).index(wanted)]
        if wanted in resolutions
        else tuple(power_spectrum(x, *wanted) for x in (real, fake))
    )
    return {
        "convergence": sum(d[0] for d in distances) / len(distances),
        "log_magnitude": sum(d[1] for d in distances) / len(distances),
        "mel": ops.mean(ops.abs(log_mel(spectra[0], mel) - log_mel(spectra[1], mel))),
    }
