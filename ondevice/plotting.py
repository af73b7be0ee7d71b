"""A picture of what was said: spectrum and melody with the words beneath, and where the decoder looked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import FailureError, InputError
from ondevice.files import atomic_bytes, check_writable
from ondevice.pitch import track_pitch

if TYPE_CHECKING:
    from ondevice.synthesizer import Said

Float32 = npt.NDArray[np.float32]
PICTURES = ("png", "pdf", "svg")
MOST_WORDS = 40  # beneath one spectrum; more would not be read


class SpeechPicture:
    """Watches speech as it is made and draws its first sentence."""

    def __init__(self, rate_hz: int, hop_samples: int) -> None:
        load_pyplot()  # a missing matplotlib is told before anything is said
        self._rate_hz, self._hop_samples = rate_hz, hop_samples
        self._first: Said | None = None
        self._samples: list[Float32] = []

    def said(self, sentence: Said) -> None:
        """A sentence's spectra are ready."""
        self._first = self._first or sentence

    def chunks(self, source: Iterator[Float32]) -> Iterator[Float32]:
        """The same chunks; those of the first sentence are kept."""
        wanted: float = 1
        for chunk in source:
            if self._first is not None:
                wanted = self._first.seconds * self._rate_hz
            if sum(map(len, self._samples)) < wanted:
                self._samples.append(chunk)
            yield chunk

    def write(self, path: str | os.PathLike[str]) -> None:
        """Draw what was said first, if anything was; raises as `plot_speech`."""
        if self._first is not None and self._samples:
            samples = np.concatenate(self._samples)[: round(self._first.seconds * self._rate_hz)]
            plot_speech(path, self._first, samples, self._rate_hz, self._hop_samples)


def plot_speech(path: str | os.PathLike[str], sentence: Said, samples: Float32, rate_hz: int, hop_samples: int) -> None:
    """Write a PNG (or PDF or SVG, by the name) of a sentence and its samples [n].

    Raises FailureError when matplotlib is missing or the file cannot be written, InputError as `picture_kind`.
    """
    pyplot = load_pyplot()
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(11, 7), height_ratios=(3, 2), layout="constrained")
    seconds = len(sentence.log_mel) * hop_samples / rate_hz
    above.imshow(sentence.log_mel.T, origin="lower", aspect="auto", extent=(0, seconds, 0, sentence.log_mel.shape[1]))
    above.set(ylabel="mel band", title=literal(sentence.sentence.text))
    melody = above.twinx()
    pitch = track_pitch(samples, rate_hz)
    melody.plot(pitch.times_s, np.where(pitch.voiced, pitch.f0_hz, np.nan), color="white", linewidth=2)
    melody.set(ylabel="F0, Hz (white)", ylim=(60, 500), yscale="log")
    spans = word_times(sentence)[:MOST_WORDS]
    above.set_xticks([start for _, start, _ in spans], [literal(word) for word, _, _ in spans], rotation=45, ha="left")
    alignment = sentence.mel.alignment.T
    below.imshow(alignment, origin="lower", aspect="auto", extent=(0, seconds, 0, len(alignment)), vmin=0, vmax=1)
    below.set(xlabel="seconds", ylabel="symbol")
    try:
        with atomic_bytes(path) as out:
            figure.savefig(out, dpi=110, format=picture_kind(path))
    finally:
        pyplot.close(figure)


def literal(text: str) -> str:
    """The text as matplotlib shows it unchanged: dollars would begin a formula."""
    return text.replace("$", r"\$")


def picture_kind(path: str | os.PathLike[str]) -> str:
    """Format of a picture's name. Raises InputError for another one than PNG, PDF and SVG."""
    kind = os.path.splitext(os.fspath(path))[1].lower().removeprefix(".")
    if kind not in PICTURES:
        raise InputError(
            f"{os.fspath(path)}: not a kind of picture; expected a name that ends in .{', .'.join(PICTURES)}"
        )
    return kind


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise InputError or FailureError where a picture of such a name could not be written now."""
    picture_kind(path)
    check_writable(path)


def word_times(sentence: Said) -> list[tuple[str, float, float]]:
    """(word, start, end) in seconds of the words of a sentence: when the decoder looked at their symbols."""
    alignment = sentence.mel.alignment  # [G, N]
    step_s = sentence.seconds / max(1, len(alignment))
    places = np.argmax(alignment, axis=1)
    found = []
    for word in sentence.sentence.words:
        steps = np.flatnonzero((places >= word.start) & (places < word.end))
        if steps.size:
            found.append((word.text, float(steps[0]) * step_s, float(steps[-1] + 1) * step_s))
    return found


def load_pyplot() -> Any:
    """matplotlib's pyplot, set to draw into files. Raises FailureError where it is missing."""
    try:
        import matplotlib
    except ImportError:
        raise FailureError("pictures need matplotlib; pip install 'ondevice[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
