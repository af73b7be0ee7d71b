"""The weights of an exported model, read out of its TFLite file, which is all there is of it.

The file names no weight as the network does, but its operators come to use them in an order that is known. Quantised
weights are widened to what they stand for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ondevice.errors import InputError
from ondevice.graph import Subgraph, Tensor, read_graph


@dataclass(frozen=True)
class Place:
    """A weight as the file holds it, and what to do with it."""

    shape: tuple[int, ...]
    put: Callable[[np.ndarray], None]


def plain(variable: keras.Variable) -> Place:
    """A variable that the file holds as it is."""
    return Place(tuple(variable.shape), variable.assign)


def turned(variable: keras.Variable) -> Place:
    """A matrix that it holds transposed."""
    return Place(tuple(variable.shape)[::-1], lambda value: variable.assign(value.T))


def convolution(kernel: keras.Variable) -> Place:
    """A kernel over time [K, I, O], which it holds as [O, 1, K, I]."""
    size, inputs, outputs = kernel.shape
    return Place((outputs, 1, size, inputs), lambda value: kernel.assign(value[:, 0].transpose(1, 2, 0)))


def dense(layer: keras.layers.Dense) -> list[Place]:
    """Kernel, and bias if it has one."""
    return [turned(layer.kernel)] + ([plain(layer.bias)] if layer.use_bias else [])


def fill(
    path: Path, order: Mapping[str, Sequence[Place]], expected: str, *, once: bool = True
) -> Mapping[str, Subgraph]:
    """Put the weights of a TFLite file into their places, which have its order by signature, and return its signatures.

    once: see `stored_weights`.
    Raises InputError when they do not fit, for something else was expected, or are stored in a form that is not known.
    """
    graph = read_graph(path)
    if graph is None:
        raise InputError(f"{path}: reading its weights needs LiteRT's schema: pip install ai-edge-litert")
    for signature, places in order.items():
        if signature not in graph.signatures:
            raise InputError(f"{path}: no signature {signature!r}; expected {expected}")
        found = stored_weights(graph.signatures[signature], once=once)
        if [tensor.shape for tensor in found] != [place.shape for place in places]:
            raise InputError(
                f"{path}: signature {signature!r} does not hold the {len(places)} weights of this preset; "
                f"expected {expected}"
            )
        for place, tensor in zip(places, found, strict=True):
            place.put(widened(path, tensor))
    return graph.signatures


def stored_weights(subgraph: Subgraph, *, once: bool) -> Sequence[Tensor]:
    """Constants that are neither single numbers nor indices, as the operators come to use them.

    once: each is listed where it is first used. Two that are alike share a place in the file, and so are one then.
    """
    widening = [operator for operator in subgraph.operators if operator.code == "DEQUANTIZE"]
    stored = {operator.outputs[0]: operator.inputs[0] for operator in widening}
    others = (operator for operator in subgraph.operators if operator.code != "DEQUANTIZE")
    used = (subgraph.tensors[stored.get(i, i)] for operator in others for i in operator.inputs if i >= 0)
    found = [t for t in used if len(t.data) and math.prod(t.shape) > 1 and t.type not in ("INT32", "INT64")]
    first: dict[int, Tensor] = {}
    for tensor in found:
        first.setdefault(tensor.buffer, tensor)
    return list(first.values()) if once else found


def widened(path: Path, tensor: Tensor) -> np.ndarray:
    """float32 of a weight: as it is, of half the width, or of 8 or 4 bits with a scale for all or for each channel.

    Channels are the first axis, or the last where that is 1, as in a depthwise convolution.
    """
    if tensor.type in ("FLOAT32", "FLOAT16"):
        return tensor.data.view(tensor.type.lower()).astype(np.float32).reshape(tensor.shape)
    axis = 0 if tensor.shape[0] > 1 else len(tensor.shape) - 1
    if tensor.type in ("INT8", "INT4") and len(tensor.scales) in (1, tensor.shape[axis]):
        scales = tensor.scales.reshape([-1 if i == axis else 1 for i in range(len(tensor.shape))])
        values = tensor.data.view(np.int8) if tensor.type == "INT8" else _nibbles(tensor.data, math.prod(tensor.shape))
        return values.reshape(tensor.shape) * scales
    raise InputError(f"{path}: a weight is {tensor.type}; expected float32, float16, int8 or int4")


def _nibbles(data: np.ndarray, count: int) -> np.ndarray:
    """int8 [count] of numbers from -8 to 7 stored two a byte, the lower four bits first."""
    halves = np.stack([data & 15, data >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    return (halves ^ 8) - 8
