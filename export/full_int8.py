"""A recogniser at 8 bits everywhere, inputs and states included, with scales set by real speech.

Two things differ from the other files. Embeddings are looked up outside, by `ondevice.opening`, for no accelerator of
whole 8-bit models has a lookup. And cells are kept within bounds: an LSTM's cell may count up for a whole recording,
while 8 bits have 255 steps for all it can be, and what it passes on, its tanh, hardly changes beyond 3.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from export.convert import Call, Taken, keras_calls, to_tflite
from export.rnnt import endpoints, run_steps
from models.rnnt import CELL_CLIP, Rnnt
from ondevice.opening import embedded

Run = tuple[np.ndarray, Sequence[int]]  # features [S, F] of a recording and its tokens


@dataclass(frozen=True)
class Embedding:
    """The table of a predictor: row of a token = `rows` * `scale`."""

    rows: np.ndarray  # int8 [V, E]
    scale: float

    @classmethod
    def of(cls, rnnt: Rnnt) -> "Embedding":
        """The network's own at 8 bits, which is what the predictor's input has anyway."""
        table = ops.convert_to_numpy(rnnt.embedding.embeddings)
        scale = float(np.abs(table).max()) / 127
        return cls(np.rint(table / scale).astype(np.int8), scale)

    def looked_up(self, call: Call) -> Call:
        """The predictor's call, given tokens."""
        table = self.rows * np.float32(self.scale)
        return lambda inputs: call(embedded(inputs, table))


def bounded(rnnt: Rnnt, clip: float = CELL_CLIP) -> Rnnt:
    """The same network with its cells kept within -clip..clip, unless it was trained with bounds of its own."""
    if rnnt.config.cell_clip:
        return rnnt
    made = Rnnt(replace(rnnt.config, cell_clip=clip))
    made.build()
    made.set_weights(rnnt.get_weights())
    return made


def convert_full(rnnt: Rnnt, runs: Iterable[Run], per_tensor: bool = False) -> tuple[bytes, Embedding]:
    """The TFLite file and the table that goes with it; `runs` are recordings that set the scales of activations.

    per_tensor: see `export.convert.to_tflite`.
    """
    rnnt = bounded(rnnt)
    made, embedding = endpoints(rnnt, embedded=True), Embedding.of(rnnt)
    taken: list[Taken] = []
    calls = {name: _kept(name, call, taken) for name, call in keras_calls(made).items()}
    calls["predictor"] = embedding.looked_up(calls["predictor"])
    for features, tokens in runs:
        run_steps(calls, rnnt, features, tokens)
    parameters = rnnt.count_params() - embedding.rows.size
    return to_tflite(rnnt, made, "int8-full", per_tensor, taken, parameters), embedding


def _kept(name: str, call: Call, taken: list[Taken]) -> Callable[[Mapping[str, np.ndarray]], Any]:
    """The call, whose inputs are kept."""

    def kept(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        taken.append((name, {key: np.asarray(array, np.float32) for key, array in inputs.items()}))
        return call(inputs)

    return kept
