"""Greedy transducer decoding of a whole batch in Keras, to watch a model while it trains."""

from typing import Any

import numpy as np
from keras import ops

from models.rnnt import BLANK, Rnnt

Tensor = Any


def greedy_tokens(rnnt: Rnnt, encoded: np.ndarray, frames: np.ndarray, max_symbols: int = 3) -> list[list[int]]:
    """Tokens of each row of encoded [B, T, J] with `frames` [B] valid: at most `max_symbols` per frame."""
    batch = len(encoded)
    tokens: list[list[int]] = [[] for _ in range(batch)]
    blanks = np.full(batch, BLANK, np.int32)
    predicted, state = rnnt.predictor_step(blanks, rnnt.predictor.initial_state(batch))
    for t in range(int(frames.max())):
        active = t < frames
        for _ in range(max_symbols):
            best = np.argmax(ops.convert_to_numpy(rnnt.joiner_step(encoded[:, t], predicted)), axis=-1)
            emits = active & (best != BLANK)
            if not emits.any():
                break
            for row in np.nonzero(emits)[0]:
                tokens[row].append(int(best[row]))
            new_predicted, new_state = rnnt.predictor_step(best.astype(np.int32), state)
            chosen = emits[:, None]
            predicted = ops.where(chosen, new_predicted, predicted)
            state = type(state)(*(ops.where(chosen, n, o) for n, o in zip(new_state, state, strict=True)))
            active = emits
    return tokens


def collapse(path: np.ndarray) -> list[int]:
    """A CTC path [T] without repeats and blanks."""
    kept = path[np.insert(path[1:] != path[:-1], 0, True)] if len(path) else path
    return [int(token) for token in kept if token != BLANK]
