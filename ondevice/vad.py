"""Voice activity: whether anybody speaks, so that a bark or a slammed door is not taken for a word.

One linear unit on the recogniser's own encoder, which knows speech from other sounds far better than loudness does and
runs anyway (an encoder that serves both: Bijwadia et al. 2022). An utterance in which it never hears speech for 0.3 s
has no words, whatever the search makes of it.

Shapes: `T` encoder frames (60 ms), `J` their width.
"""

import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.files import DAMAGED, atomic_bytes

Float32 = npt.NDArray[np.float32]
FRAMES = 5  # over which the mean is taken: 0.3 s
FORMAT = 1


class SpeechDetector:
    """The unit, and how much it must say."""

    def __init__(self, weights: Float32, bias: float, threshold: float) -> None:
        """weights [J] and bias give the natural log odds of speech in a frame; `threshold` is of their running mean.

        Raises ValueError when they are no finite numbers of that shape.
        """
        self.weights, self.bias, self.threshold = np.asarray(weights, np.float32), float(bias), float(threshold)
        if (
            self.weights.ndim != 1
            or not len(self.weights)
            or not np.isfinite([*self.weights.reshape(-1), self.bias, self.threshold]).all()
        ):
            raise ValueError("expected a row of finite weights, a bias and a threshold")

    @classmethod
    def load(cls, path: Path) -> "SpeechDetector":
        """Read a file of `save`. Raises InputError when it is none."""
        try:
            with np.load(path) as saved:
                if int(saved["format"]) != FORMAT:
                    raise ValueError(f"format {int(saved['format'])} is not {FORMAT}")
                return cls(saved["weights"], float(saved["bias"]), float(saved["threshold"]))
        except (OSError, *DAMAGED) as error:
            raise InputError(f"{path}: {error}; expected a file of `ondevice train vad`") from None

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        bias, threshold = np.float32(self.bias), np.float32(self.threshold)
        with atomic_bytes(path) as file:
            np.savez(file, format=np.int64(FORMAT), weights=self.weights, bias=bias, threshold=threshold)

    def evidence(self, encoded: Float32) -> float:
        """The largest mean over 0.3 s of the log odds in encoder frames [T, J]; -inf when there is less of them."""
        watch = SpeechWatch(self)
        for frame in encoded:
            watch.accept(frame)
        return watch.evidence


def load_detector(path: Path, width: int) -> SpeechDetector:
    """The detector of a recogniser with encoder frames of that width. Raises InputError when it is not."""
    detector = SpeechDetector.load(path)
    if len(detector.weights) != width:
        raise InputError(f"{path}: {len(detector.weights)} weights; expected one for each of {width} encoder outputs")
    return detector


class SpeechWatch:
    """Listens along with an utterance."""

    def __init__(self, detector: SpeechDetector) -> None:
        self._detector = detector
        self.reset()

    def reset(self) -> None:
        """Begin a new utterance."""
        self._odds: deque[float] = deque(maxlen=FRAMES)
        self.evidence = -math.inf

    def accept(self, encoded: npt.NDArray[Any]) -> None:
        """Take an encoder frame of J values."""
        self._odds.append(float(encoded.reshape(-1) @ self._detector.weights) + self._detector.bias)
        if len(self._odds) == FRAMES:
            self.evidence = max(self.evidence, sum(self._odds) / FRAMES)

    @property
    def heard(self) -> bool:
        """Whether somebody has spoken."""
        return self.evidence >= self._detector.threshold
