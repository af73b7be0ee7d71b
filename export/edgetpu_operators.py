"""What the Edge TPU computes: Coral's table of supported operators with the limits that a TFLite file shows.

Facts of https://coral.ai/docs/edgetpu/models-intro/#supported-operations and #model-requirements, for runtime 13 and
later; https://developer.axis.com/computer-vision/on-device/system-on-chip/artpec-7/supported-ops/ has the same table.
Numbers of runtimes and the rows RSQRT, SQUARED_DIFFERENCE, SUM, TRANSPOSE and TRANSPOSE_CONV are from memory. Limits
that no file shows are not checked: large RESHAPEs and some sizes of RESIZE_* may stay on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ALL = 10  # the oldest runtime the compiler targets
LARGEST_SOFTMAX = 16_000
# Versions of operators from which compiler 16.0, the last, cannot parse the file: google-coral/edgetpu issue 879.
TOO_NEW = {"QUANTIZE": 3}


@dataclass(frozen=True)
class Tensor:
    """A tensor as an operator sees it."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # "int8", "uint8", "int32", "float32" ...
    scales: int = 0  # 0: not quantised, 1: per tensor, more: per channel
    zero_point: int = 0
    dynamic: bool = False  # a dimension known only when it runs
    variable: bool = False  # state inside the graph
    values: np.ndarray | None = field(default=None, repr=False, compare=False)  # of a constant

    def __str__(self) -> str:
        """Name, type and shape, as "x int8 [1, 4]"."""
        return f"{self.name} {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Node:
    """One operator of a graph."""

    name: str
    version: int
    inputs: tuple[Tensor | None, ...]  # None: an optional input that is left out
    outputs: tuple[Tensor, ...]
    options: Any = None  # the flatbuffer's table of this operator, e.g. FullyConnectedOptionsT

    def option(self, name: str, default: int = 0) -> int:
        """An option as the file gives it; the default where it gives none."""
        return int(getattr(self.options, name, default))

    @property
    def tensors(self) -> list[Tensor]:
        """Inputs that are there, then outputs."""
        return [*filter(None, self.inputs), *self.outputs]


Check = Callable[[Node], str | None]  # what limitation the operator breaks


@dataclass(frozen=True)
class Support:
    """A row of the table."""

    runtime: int  # the oldest that computes it
    checks: tuple[Check, ...] = ()


def no_activation(node: Node) -> str | None:
    """No activation inside the operator."""
    return "has a fused activation" if node.option("fusedActivationFunction") else None


def equal_dilation(node: Node) -> str | None:
    """The same dilation in both directions."""
    y, x = node.option("dilationHFactor", 1), node.option("dilationWFactor", 1)
    return f"dilation {y} x {x}: must be the same in x and y" if y != x else None


def default_weights(node: Node) -> str | None:
    """Weights in TFLite's default format."""
    return "weights are shuffled: only the default format" if node.option("weightsFormat") else None


def constant(*places: int) -> Check:
    """Weights and bias, the inputs at these places, in the file and not computed."""

    def check(node: Node) -> str | None:
        found = [t for i, t in enumerate(node.inputs) if i in places and t is not None and t.values is None]
        return f"parameter {found[0].name} is computed: must be constant" if found else None

    return check


def flat(tensor: Tensor) -> bool:
    """Whether only the innermost dimension is larger than one."""
    return all(size == 1 for size in tensor.shape[:-1])


def flat_output(node: Node) -> str | None:
    """An output of one dimension."""
    out = node.outputs[0]
    return None if flat(out) else f"output {list(out.shape)}: only one dimension may be larger than 1"


def zero_constant(node: Node) -> str | None:
    """A constant among the inputs must be zeros and one of two: padding."""
    constants = [t for t in node.inputs if t is not None and t.values is not None]
    if constants and len(node.inputs) != 2:
        return f"a constant among {len(node.inputs)} inputs: only of two"
    if any(np.any(t.values != t.zero_point) for t in constants):
        return "a constant input that is not all zeros"
    return None


def small_softmax(node: Node) -> str | None:
    """One dimension of at most 16,000 values."""
    shape = node.inputs[0].shape
    if not flat(node.inputs[0]):
        return f"input {list(shape)}: only one dimension may be larger than 1"
    return f"{max(shape)} values: at most {LARGEST_SOFTMAX}" if max(shape, default=1) > LARGEST_SOFTMAX else None


def flat_alpha(node: Node) -> str | None:
    """One slope per channel."""
    alpha = node.inputs[1]
    return None if flat(alpha) else f"alpha {list(alpha.shape)}: only its innermost dimension may be larger than 1"


def axes_of(tensor: Tensor | None, rank: int) -> list[int] | None:
    """A constant's axes counted from the front; None where they are computed."""
    if tensor is None or tensor.values is None:
        return None
    return [int(axis) % max(rank, 1) for axis in np.atleast_1d(tensor.values)]


def no_batch_reduction(node: Node) -> str | None:
    """The batch, dimension 0, is kept."""
    axes = axes_of(node.inputs[1], len(node.inputs[0].shape))
    return "reduces the batch dimension, or some that are computed" if axes is None or 0 in axes else None


def mean_of_fours(node: Node) -> str | None:
    """A mean over the innermost dimension takes a multiple of four values."""
    shape = node.inputs[0].shape
    inner = len(shape) - 1 in (axes_of(node.inputs[1], len(shape)) or ())
    return f"mean over {shape[-1]} values: must be a multiple of 4" if inner and shape[-1] % 4 else None


def no_batch_pad(node: Node) -> str | None:
    """No padding before or after the batch."""
    pads = node.inputs[1].values
    if pads is None:
        return "paddings are computed: must be constant"
    return "pads the batch dimension" if np.any(pads.reshape(-1, 2)[0]) else None


def no_batch_split(node: Node) -> str | None:
    """The axis, SPLIT's first input, is not the batch."""
    axes = axes_of(node.inputs[0], len(node.inputs[1].shape))
    return "splits the batch dimension, or one that is computed" if axes is None or 0 in axes else None


def no_batch_pack(node: Node) -> str | None:
    """The new dimension does not become the first."""
    return "packs in the batch dimension" if node.option("axis") % len(node.outputs[0].shape) == 0 else None


def plain_slice(node: Node) -> str | None:
    """Strides of 1, no ellipsis, no new axis."""
    strides = node.inputs[3].values
    if strides is None or np.any(strides != 1):
        return f"strides {'are computed' if strides is None else strides.tolist()}: all must be 1"
    return "has an ellipsis or a new axis" if node.option("ellipsisMask") or node.option("newAxisMask") else None


_REDUCTION = (no_batch_reduction,)

SUPPORTED: dict[str, Support] = {
    "ADD": Support(ALL),
    "AVERAGE_POOL_2D": Support(ALL, (no_activation,)),
    "CONCATENATION": Support(ALL, (no_activation, zero_constant)),
    "CONV_2D": Support(ALL, (equal_dilation, constant(1, 2))),
    "DEPTHWISE_CONV_2D": Support(ALL, (equal_dilation, constant(1, 2))),
    "EXPAND_DIMS": Support(13),
    "FULLY_CONNECTED": Support(ALL, (default_weights, constant(1, 2), flat_output)),
    "L2_NORMALIZATION": Support(ALL),
    "LOGISTIC": Support(ALL),
    "LSTM": Support(14),  # one direction only: the others are operators of their own
    "MAXIMUM": Support(ALL),
    "MAX_POOL_2D": Support(ALL, (no_activation,)),
    "MEAN": Support(ALL, (no_batch_reduction, mean_of_fours)),
    "MINIMUM": Support(ALL),
    "MUL": Support(ALL),
    "PACK": Support(13, (no_batch_pack,)),
    "PAD": Support(ALL, (no_batch_pad,)),
    "PRELU": Support(13, (flat_alpha,)),
    "QUANTIZE": Support(13),
    "REDUCE_MAX": Support(14, _REDUCTION),
    "REDUCE_MIN": Support(14, _REDUCTION),
    "RELU": Support(ALL),
    "RELU6": Support(ALL),
    "RELU_N1_TO_1": Support(ALL),
    "RESHAPE": Support(ALL),
    "RESIZE_BILINEAR": Support(ALL),
    "RESIZE_NEAREST_NEIGHBOR": Support(ALL),
    "RSQRT": Support(14),
    "SLICE": Support(ALL),
    "SOFTMAX": Support(ALL, (small_softmax,)),
    "SPACE_TO_DEPTH": Support(ALL),
    "SPLIT": Support(ALL, (no_batch_split,)),
    "SQUARED_DIFFERENCE": Support(14),
    "SQUEEZE": Support(ALL),
    "STRIDED_SLICE": Support(ALL, (plain_slice,)),
    "SUB": Support(ALL),
    "SUM": Support(13, _REDUCTION),
    "TANH": Support(ALL),
    "TRANSPOSE": Support(14),
    "TRANSPOSE_CONV": Support(13, (constant(1, 3),)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Support(14),
}


def limitation(node: Node) -> str | None:
    """Why the operator by itself stays on the CPU, None where the Edge TPU computes it."""
    if node.name not in SUPPORTED:
        return "not supported"
    reasons = [*map(tensor_limitation, node.tensors)]
    if not any(reasons):  # the checks may rely on shapes and types
        reasons = [check(node) for check in SUPPORTED[node.name].checks]
    return next(filter(None, reasons), None)


def tensor_limitation(tensor: Tensor) -> str | None:
    """Which requirement of Coral's a tensor does not meet."""
    if "float" in tensor.dtype:
        return f"float tensor {tensor}"
    if tensor.dynamic:
        return f"dynamic shape of {tensor}"
    if tensor.variable:
        return None  # an LSTM's cell is int16
    constant = tensor.values is not None
    if tensor.dtype not in ("int8", "uint8") and not (constant and tensor.dtype == "int32"):
        return f"tensor {tensor} is not of 8 bits"
    if not constant and not tensor.scales:
        return f"tensor {tensor} is not quantised"
    if not constant and any(size != 1 for size in tensor.shape[:-3]):
        return f"tensor {tensor}: only the three innermost dimensions may be larger than 1"
    return None


def read_tensor(model: Any, tensor: Any) -> Tensor:
    """A tensor of a parsed TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    dtypes = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    dtype, data, values = dtypes[tensor.type], listed(model.buffers[tensor.buffer].data), None
    if len(data):
        known = dtype if dtype in ("int8", "uint8", "int32", "int64") else "uint8"  # others are never computed with
        values = np.asarray(data, np.uint8).view(known)
    scales, zeros = (listed(getattr(tensor.quantization, key, None)) for key in ("scale", "zeroPoint"))
    return Tensor(
        text_of(tensor.name),
        tuple(int(size) for size in listed(tensor.shape)),
        dtype,
        len(scales),
        int(zeros[0]) if len(zeros) else 0,
        any(size < 0 for size in listed(tensor.shapeSignature)),
        bool(tensor.isVariable),
        values,
    )


def read_nodes(model: Any, graph: Any) -> list[Node]:
    """The operators of a subgraph of a parsed TFLite file, with their tensors."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    tensors = [read_tensor(model, tensor) for tensor in graph.tensors]
    found = []
    for operator in listed(graph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        name = text_of(code.customCode) or names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        inputs = tuple(tensors[i] if i >= 0 else None for i in listed(operator.inputs))
        outputs = tuple(tensors[i] for i in listed(operator.outputs))
        found.append(Node(name, code.version, inputs, outputs, operator.builtinOptions))
    return found


def listed(values: Any) -> Any:
    """A flatbuffer's vector; an absent one is empty."""
    return () if values is None else values


def text_of(value: bytes | str | None) -> str:
    """A flatbuffer's string; an absent one is empty."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
