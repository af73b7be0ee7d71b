"""Free-running synthesis with a Keras `Tacotron`, for looking at a run while it goes on.

The device has its own loop (`ondevice.acoustic`) around the exported steps; tests prove that both say the same.
"""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from models.tacotron import DecoderState, Tacotron


@dataclass(frozen=True)
class Spoken:
    """What the generator said: normalised log-mel [F, M], alignment [G, N], and whether it ended by itself."""

    mel: np.ndarray
    alignment: np.ndarray
    ended: bool


class Speaker:
    """Says one sentence after another in a given style."""

    def __init__(self, tacotron: Tacotron, most_frames: int = 1_200) -> None:
        self.tacotron, self.most_frames = tacotron, most_frames
        self._step = tacotron.decoder_step
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            self._step = tf.function(tacotron.decoder_step, reduce_retracing=True)

    def style_of(self, mel: np.ndarray) -> np.ndarray:
        """The style [1, S] of normalised log-mel [F, M]."""
        t = self.tacotron
        block = t.config.style.block
        padded = np.pad(mel, ((0, -len(mel) % block), (0, 0)))[None].astype(np.float32)
        return ops.convert_to_numpy(t.style.embed(t.style(t.reference(padded, np.array([len(mel)], np.int32)))))

    def say(self, symbols: np.ndarray, style: np.ndarray, prosody: np.ndarray | None = None, seed: int = 0) -> Spoken:
        """symbols int [N], style [1, S], prosody [N, P] -> the sentence; the seed draws the pre-net's dropout."""
        t, c = self.tacotron, self.tacotron.config
        rng = np.random.default_rng(seed)
        lengths = np.array([len(symbols)], np.int32)
        if prosody is None:
            prosody = np.zeros((len(symbols), 4), np.float32)
        memory, keys = t.remember(t.encode(symbols[None], lengths), style, prosody[None])
        memory, keys = (ops.cast(x, "float32") for x in (memory, keys))
        state = t.initial_state(1, len(symbols))
        frame = np.zeros((1, c.bands), np.float32)
        mels, weights, ended = [], [], False
        while len(mels) * c.reduction < self.most_frames and not ended:
            keep = (rng.random((1, 2 * c.prenet)) >= c.dropout).astype(np.float32) / (1 - c.dropout)
            mel, stop, state = self._step(frame, keep, memory, keys, lengths, DecoderState(*state))
            mels.append(ops.convert_to_numpy(mel)[0])
            weights.append(ops.convert_to_numpy(state.decoder_weights)[0])
            frame = mels[-1][None, -1]
            ended = float(ops.convert_to_numpy(stop)[0, 0]) > 0
        mel = np.concatenate(mels)[None].astype(np.float32)
        refined = mel + ops.convert_to_numpy(
            ops.cast(t.postnet(mel, np.ones((1, mel.shape[1], 1), np.float32)), "float32")
        )
        return Spoken(refined[0], np.stack(weights), ended)


def plot_spoken(path: Path, spoken: list[Spoken], titles: list[str]) -> None:
    """A picture of each sentence: its spectrum above where it looked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(spoken), figsize=(6 * len(spoken), 6), squeeze=False)
    for column, (one, title) in enumerate(zip(spoken, titles, strict=True)):
        axes[0, column].imshow(one.mel.T, origin="lower", aspect="auto", vmin=-2.5, vmax=2.5)
        axes[0, column].set_title(title[:60], fontsize=8)
        axes[1, column].imshow(one.alignment.T, origin="lower", aspect="auto", vmin=0, vmax=1)
        axes[1, column].set(xlabel="decoder step", ylabel="symbol")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
