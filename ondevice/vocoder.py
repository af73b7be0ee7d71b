"""Log-mel to samples on the device: a vocoder's exported steps with the loops around them, as a stream.

Shapes: `F` mel frames, `M` mel bands, `n` samples, `R` spectrum bins, `W` what a WaveNet's layers are told.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.overlap_add import StreamingInverseStft
from ondevice.sampling import RingCache, mixture_noise, mu_expand, softmax_noise
from ondevice.voice_manifest import VocoderManifest

Float32 = npt.NDArray[np.float32]
Call = Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]


def vocoder_stream(manifest: VocoderManifest, calls: Mapping[str, Call], seed: int = 0) -> "VocoderStream":
    """The stream for a vocoder's kind; `calls` runs its signatures, `seed` draws what is drawn."""
    if manifest.wavenet is not None:
        return WavenetStream(manifest, calls, seed)
    return InverseStftStream(manifest, calls)


class VocoderStream(ABC):
    """Frames in, samples out, in any portions: F frames make F * hop samples once the stream is finished.

    The network takes chunks of frames and runs `lookahead` frames behind; silence lies before and after the speech.
    """

    def __init__(self, manifest: VocoderManifest) -> None:
        self._manifest = manifest
        self._silence = np.float32(np.log(manifest.features.floor))
        self.reset()

    def reset(self) -> None:
        """Forget the stream: silence lies before what comes next."""
        self._waiting = np.zeros((0, self._manifest.features.bands), np.float32)
        self._skip, self._owed = self._manifest.lookahead, 0
        self._begin()

    def accept(self, mel: Float32) -> Float32:
        """Samples float32 [n] that these natural-log mel frames [F, M] complete."""
        self._waiting = np.concatenate([self._waiting, mel.astype(np.float32)])
        self._owed += len(mel)
        made, chunk = [np.zeros(0, np.float32)], self._manifest.chunk_frames
        while len(self._waiting) >= chunk:
            made.append(self._run(self._waiting[:chunk]))
            self._waiting = self._waiting[chunk:]
        return np.concatenate(made)

    def finish(self) -> Float32:
        """The samples float32 [n] still owed; the next frame begins another stream."""
        made, chunk = [np.zeros(0, np.float32)], self._manifest.chunk_frames
        while self._owed:
            missing = chunk - len(self._waiting)
            made.append(self._run(np.pad(self._waiting, ((0, missing), (0, 0)), constant_values=self._silence)))
            self._waiting = self._waiting[:0]
        made.append(self._end())
        self.reset()
        return np.concatenate(made)

    def _run(self, mel: Float32) -> Float32:
        """One chunk; what lags behind the beginning or lies beyond the end is thrown away."""
        frames = self._frames(mel)
        late = min(self._skip, len(frames[0]))
        self._skip -= late
        count = min(len(frames[0]) - late, self._owed)
        self._owed -= count
        return self._samples(*(values[late : late + count] for values in frames))

    def _zeros(self, signature: str) -> dict[str, Float32]:
        """A signature's state before anything was said: mel is silence, all else nothing."""
        state = self._manifest.signatures[signature].state
        fill = {name: self._silence if name.endswith("_mel") else 0.0 for name in state}
        return {name: np.full(shape, fill[name], np.float32) for name, shape in state.items()}

    @abstractmethod
    def _begin(self) -> None:
        """Set what lies before the first frame."""

    @abstractmethod
    def _frames(self, mel: Float32) -> tuple[Float32, ...]:
        """What the network makes of a chunk [n, M], frame by frame: arrays [n, ...]."""

    @abstractmethod
    def _samples(self, *frames: Float32) -> Float32:
        """Samples of the same frames."""

    def _end(self) -> Float32:
        """Samples held back to the end."""
        return np.zeros(0, np.float32)


class InverseStftStream(VocoderStream):
    """A network that makes spectra, and their inverse Fourier transform."""

    def __init__(self, manifest: VocoderManifest, calls: Mapping[str, Call]) -> None:
        self._call = calls["vocoder"]
        self._inverse = StreamingInverseStft(manifest.features.fft_size, manifest.features.hop_samples)
        super().__init__(manifest)

    def _begin(self) -> None:
        self._state = self._zeros("vocoder")
        self._inverse.reset()

    def _frames(self, mel: Float32) -> tuple[Float32, ...]:
        self._state = self._call({"mel": mel[None], **self._state})
        return self._state.pop("real")[0], self._state.pop("imag")[0]

    def _samples(self, *frames: Float32) -> Float32:
        return self._inverse.accept(*frames)

    def _end(self) -> Float32:
        return self._inverse.finish()


class WavenetStream(VocoderStream):
    """A WaveNet: every call draws some samples, given those before and what the mel tells the layers."""

    def __init__(self, manifest: VocoderManifest, calls: Mapping[str, Call], seed: int = 0) -> None:
        self._condition, self._steps, self._seed = calls["condition"], calls["steps"], seed
        assert manifest.wavenet is not None
        self._shape = manifest.wavenet
        _, self._count, self._group, self._noises = manifest.shape("steps", "inputs", "noise", 4)
        self._calls_per_frame = manifest.features.hop_samples // (self._count * self._group)
        residual = manifest.shape("steps", "inputs", "past0", 3)[2]
        self._cache = RingCache(self._shape.dilations, self._shape.kernel, residual, self._count)
        super().__init__(manifest)

    def _begin(self) -> None:
        self._state = self._zeros("condition")
        self._previous = np.zeros((1, self._group), np.float32)
        self._cache.reset()
        self._rng = np.random.default_rng(self._seed)

    def _frames(self, mel: Float32) -> tuple[Float32, ...]:
        self._state = self._condition({"mel": mel[None], **self._state})
        return (self._state.pop("told")[0],)

    def _samples(self, *frames: Float32) -> Float32:
        made = [np.zeros(0, np.float32)]
        for told in np.repeat(frames[0], self._calls_per_frame, axis=0):
            past = {f"past{i}": value for i, value in enumerate(self._cache.past())}
            out = self._steps({"previous": self._previous, "told": told[None], "noise": self._noise(), **past})
            self._cache.push([out[f"present{i}"] for i in range(len(self._shape.dilations))])
            self._previous = out["samples"][:, -self._group :]
            made.append(out["samples"][0] if self._shape.mixture else mu_expand(out["samples"][0], self._noises))
        return np.concatenate(made)

    def _noise(self) -> Float32:
        shape = (1, self._count, self._group)
        if self._shape.mixture:
            return mixture_noise(self._rng, shape, self._shape.mixture)
        return softmax_noise(self._rng, shape, self._noises)
