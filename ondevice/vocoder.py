"""Log-mel to samples on the device: the exported step of a vocoder and the inverse STFT, as a stream.

Shapes: `F` mel frames, `M` mel bands, `n` samples.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.overlap_add import StreamingInverseStft
from ondevice.voice_manifest import VocoderManifest

Float32 = npt.NDArray[np.float32]
Call = Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]


class VocoderStream:
    """Frames in, samples out, in any portions: F frames make F * hop samples once the stream is finished."""

    def __init__(self, manifest: VocoderManifest, call: Call) -> None:
        """`call` runs the signature `vocoder`."""
        self._manifest, self._call = manifest, call
        features = manifest.features
        self._silence = np.float32(np.log(features.floor))
        self._inverse = StreamingInverseStft(features.fft_size, features.hop_samples)
        self.reset()

    def reset(self) -> None:
        """Forget the stream: silence lies before what comes next."""
        state = self._manifest.signatures["vocoder"].state
        self._state = {
            name: np.full(shape, self._silence if name == "vocoder_mel" else 0.0, np.float32)
            for name, shape in state.items()
        }
        self._waiting = np.zeros((0, self._manifest.features.bands), np.float32)
        self._skip, self._owed = self._manifest.lookahead, 0
        self._inverse.reset()

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
        made.append(self._inverse.finish())
        self.reset()
        return np.concatenate(made)

    def _run(self, mel: Float32) -> Float32:
        """One step; spectra that lag behind the beginning or lie beyond the end are thrown away."""
        self._state = self._call({"mel": mel[None], **self._state})
        real, imag = self._state.pop("real")[0], self._state.pop("imag")[0]
        late = min(self._skip, len(real))
        self._skip -= late
        count = min(len(real) - late, self._owed)
        self._owed -= count
        return self._inverse.accept(real[late : late + count], imag[late : late + count])
