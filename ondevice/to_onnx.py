"""A TFLite signature as an ONNX graph of the same arithmetic in float32, for ONNX Runtime to be timed beside.

Weights are widened to what they stand for; what is quantised besides weights is refused. Convolutions keep their
layout on the outside and turn it inside, for ONNX knows only the other one. Needs `pip install onnx`.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import FailureError

OPSET, IR_VERSION = 20, 9
OUTPUT = "out_"  # before the names of outputs, for those of the state go in as well
Array = npt.NDArray[Any]

_PLAIN = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "MAXIMUM": "Max", "MINIMUM": "Min", "TANH": "Tanh",
    "LOGISTIC": "Sigmoid", "EXP": "Exp", "SIN": "Sin", "COS": "Cos", "NEG": "Neg", "ABS": "Abs", "SQRT": "Sqrt",
    "LESS": "Less", "GREATER": "Greater", "SELECT": "Where", "SELECT_V2": "Where", "LOG": "Log", "RELU": "Relu",
    "DEQUANTIZE": "Identity",
}  # fmt: skip
_TYPES = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}
_ACTIVATIONS = {0: None, 1: "Relu", 3: "Relu6", 4: "Tanh"}


def signatures_to_onnx(path: Path) -> dict[str, bytes]:
    """ONNX files of each signature of a TFLite file; their inputs and outputs have the signature's names.

    Raises FailureError naming what cannot be translated.
    """
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # behind the flatbuffer
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    return {
        _text(signature.signatureKey): _Translation(path, model, signature, codes, types).file()
        for signature in model.signatureDefs or ()
    }


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Translation:
    """One signature on its way: nodes, constants, and the ONNX name of each tensor."""

    def __init__(self, path: Path, model: Any, signature: Any, codes: dict[int, str], types: dict[int, str]) -> None:
        self._onnx = importlib.import_module("onnx")
        self._where = f"{path}, signature {_text(signature.signatureKey)!r}"
        self._model, self._signature, self._types = model, signature, types
        self._graph = model.subgraphs[signature.subgraphIndex]
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._names: dict[int, str] = {}
        self._shared: dict[tuple[int, tuple[int, ...]], str] = {}
        self._widened: dict[int, int] = {}  # what DEQUANTIZE makes of a constant, and that constant
        self._codes = [codes[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
        widening = [o for o in self._graph.operators if self._codes[o.opcodeIndex] == "DEQUANTIZE"]
        self._widened = {o.outputs[0]: o.inputs[0] for o in widening if self.values(o.inputs[0]) is not None}

    def file(self) -> bytes:
        """The ONNX file."""
        inputs = {map_.tensorIndex: _text(map_.name) for map_ in self._signature.inputs or ()}
        self._names |= inputs
        for operator in self._graph.operators:
            self._translate(self._codes[operator.opcodeIndex], operator)
        outputs = {_text(map_.name): map_.tensorIndex for map_ in self._signature.outputs or ()}
        for name, index in outputs.items():
            self.node("Identity", [self.name(index)], output=OUTPUT + name)
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, "signature",
            [self._described(name, index) for index, name in inputs.items()],
            [self._described(OUTPUT + name, index) for name, index in outputs.items()],
            self._constants,
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        content: bytes = made.SerializeToString()
        return content

    def _described(self, name: str, index: int) -> Any:
        dtype = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_TYPES[self._type(index)]))
        return self._onnx.helper.make_tensor_value_info(name, dtype, self.shape(index))

    def fail(self, what: str, hint: str = "") -> FailureError:
        """An error that names the signature."""
        return FailureError(f"{self._where}: {what} cannot be translated to ONNX{hint}")

    # what operators are translated with

    def node(self, operator: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """A node; returns the name of what it makes."""
        output = output or f"n{len(self._nodes)}"
        name = f"{operator}{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def constant(self, values: Array) -> str:
        """A constant; returns its name."""
        name = f"c{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weights(self, index: int, values: Array) -> str:
        """A constant made of a tensor's values, once for all that share its buffer."""
        key = (self._graph.tensors[self._widened.get(index, index)].buffer, values.shape)
        if key not in self._shared:
            self._shared[key] = self.constant(values)
        return self._shared[key]

    def ints(self, *values: int) -> str:
        """A constant of whole numbers."""
        return self.constant(np.array(values, np.int64))

    def name(self, index: int) -> str:
        """The ONNX name of a tensor, a constant included."""
        if index not in self._names:
            values = self.values(index)
            if values is None:
                raise self.fail(f"tensor {index}, which nothing makes,")
            self._names[index] = self.weights(index, values)
        return self._names[index]

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor."""
        found = self._graph.tensors[index].shape
        return () if found is None else tuple(int(size) for size in found)

    def _type(self, index: int) -> str:
        return self._types[self._graph.tensors[index].type]

    def values(self, index: int) -> Array | None:
        """A constant's values, weights widened to float32; None for what is computed."""
        index = self._widened.get(index, index)
        tensor = self._graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        if data is None or not len(data):
            return None
        raw, kind, shape = np.asarray(data, np.uint8), self._type(index), self.shape(index)
        if kind == "INT4":
            low = np.stack([raw & 15, raw >> 4], axis=-1).reshape(-1)[: int(np.prod(shape))].astype(np.int8)
            stored: Array = np.where(low > 7, low - 16, low).reshape(shape)
        elif kind == "INT8":
            stored = raw.view(np.int8).reshape(shape)
        elif kind in _TYPES:
            plain: Array = raw.view(_TYPES[kind]).reshape(shape)
            return plain.astype(np.float32) if kind == "FLOAT16" else plain
        else:
            raise self.fail(f"a constant of {kind}")
        quantised = tensor.quantization
        if quantised is None or quantised.scale is None:
            raise self.fail(f"a constant of {kind} without a scale")
        scale, zero = np.asarray(quantised.scale, np.float32), np.asarray(quantised.zeroPoint, np.float32)
        if len(scale) > 1:
            along = [1] * len(shape)
            along[quantised.quantizedDimension] = -1
            scale, zero = scale.reshape(along), zero.reshape(along)
        widened: Array = (stored.astype(np.float32) - zero) * scale
        return widened

    def known(self, index: int) -> Array:
        """A constant's values; FailureError for what is computed."""
        values = self.values(index)
        if values is None:
            raise self.fail("an operator whose shape is computed")
        return values

    def _translate(self, code: str, operator: Any) -> None:
        options = operator.builtinOptions
        inputs = [int(i) for i in operator.inputs]
        made = operator.outputs[0]
        if made in self._widened:
            return
        kind = self._type(made)
        if kind not in _TYPES and code != "GATHER":
            raise self.fail(f"{code} of {kind}", "; expected a file at float32, float16, int8, int4 or mixed")
        own: Callable[..., str] | None = getattr(self, f"_{code.lower()}", None)
        if code in _PLAIN:
            name = self.node(_PLAIN[code], [self.name(i) for i in inputs])
        elif own is not None and len(operator.outputs) == 1:
            name = own(inputs, int(made), options)
        else:
            raise self.fail(f"the operator {code}", "; expected a recogniser, voice or vocoder, but no WaveNet")
        activation = getattr(options, "fusedActivationFunction", 0)
        if activation not in _ACTIVATIONS:
            raise self.fail(f"{code} with activation {activation}")
        if activation == 3:
            name = self.node("Clip", [name, *(self.constant(np.array(x, np.float32)) for x in (0, 6))])
        elif _ACTIVATIONS[activation]:
            name = self.node(str(_ACTIVATIONS[activation]), [name])
        self._names[int(made)] = name

    # operators: tensors by index, what is made, options -> name

    def _fully_connected(self, inputs: list[int], made: int, options: Any) -> str:
        weights = self.known(inputs[1])
        x = self.name(inputs[0])
        if not options.keepNumDims and len(self.shape(inputs[0])) != 2:
            x = self.node("Reshape", [x, self.ints(-1, weights.shape[1])])
        name = self.node("MatMul", [x, self.weights(inputs[1], weights.T)])
        if len(inputs) > 2 and inputs[2] >= 0:
            name = self.node("Add", [name, self.name(inputs[2])])
        return self.node("Reshape", [name, self.ints(*self.shape(made))])

    def _batch_matmul(self, inputs: list[int], made: int, options: Any) -> str:
        sides = []
        for index, turned in zip(inputs, (options.adjX, options.adjY), strict=True):
            rank = len(self.shape(index))
            order = [*range(rank - 2), rank - 1, rank - 2]
            sides.append(self.node("Transpose", [self.name(index)], perm=order) if turned else self.name(index))
        return self.node("MatMul", sides)

    def _conv_2d(self, inputs: list[int], made: int, options: Any) -> str:
        weights = self.known(inputs[1])  # [out, height, width, in]
        return self._convolved(inputs, options, weights.transpose(0, 3, 1, 2), group=1)

    def _depthwise_conv_2d(self, inputs: list[int], made: int, options: Any) -> str:
        weights = self.known(inputs[1])  # [1, height, width, channels]
        channels = weights.shape[-1] // options.depthMultiplier
        return self._convolved(inputs, options, weights.transpose(3, 0, 1, 2), group=channels)

    def _convolved(self, inputs: list[int], options: Any, weights: Array, group: int) -> str:
        x = self.node("Transpose", [self.name(inputs[0])], perm=[0, 3, 1, 2])
        arguments = [x, self.weights(inputs[1], weights)]
        if len(inputs) > 2 and inputs[2] >= 0:
            arguments.append(self.name(inputs[2]))
        name = self.node(
            "Conv", arguments, group=group, auto_pad="VALID" if options.padding == 1 else "SAME_UPPER",
            strides=[options.strideH, options.strideW], dilations=[options.dilationHFactor, options.dilationWFactor],
        )  # fmt: skip
        return self.node("Transpose", [name], perm=[0, 2, 3, 1])

    def _concatenation(self, inputs: list[int], made: int, options: Any) -> str:
        return self.node("Concat", [self.name(i) for i in inputs], axis=options.axis)

    def _pack(self, inputs: list[int], made: int, options: Any) -> str:
        axis = options.axis % len(self.shape(made))
        parts = [self.node("Unsqueeze", [self.name(i), self.ints(axis)]) for i in inputs]
        return self.node("Concat", parts, axis=axis)

    def _reshape(self, inputs: list[int], made: int, options: Any) -> str:
        return self.node("Reshape", [self.name(inputs[0]), self.ints(*self.shape(made))])

    def _expand_dims(self, inputs: list[int], made: int, options: Any) -> str:
        return self._reshape(inputs, made, options)

    def _squeeze(self, inputs: list[int], made: int, options: Any) -> str:
        return self._reshape(inputs, made, options)

    def _transpose(self, inputs: list[int], made: int, options: Any) -> str:
        return self.node("Transpose", [self.name(inputs[0])], perm=self.known(inputs[1]).tolist())

    def _pad(self, inputs: list[int], made: int, options: Any) -> str:
        before, after = self.known(inputs[1]).T.tolist()
        return self.node("Pad", [self.name(inputs[0]), self.ints(*before, *after)])

    def _mean(self, inputs: list[int], made: int, options: Any) -> str:
        return self._reduced("ReduceMean", inputs, options)

    def _sum(self, inputs: list[int], made: int, options: Any) -> str:
        return self._reduced("ReduceSum", inputs, options)

    def _reduced(self, operator: str, inputs: list[int], options: Any) -> str:
        axes = np.atleast_1d(self.known(inputs[1])).tolist()
        return self.node(operator, [self.name(inputs[0]), self.ints(*axes)], keepdims=int(options.keepDims))

    def _rsqrt(self, inputs: list[int], made: int, options: Any) -> str:
        return self.node("Reciprocal", [self.node("Sqrt", [self.name(inputs[0])])])

    def _squared_difference(self, inputs: list[int], made: int, options: Any) -> str:
        apart = self.node("Sub", [self.name(i) for i in inputs])
        return self.node("Mul", [apart, apart])

    def _gelu(self, inputs: list[int], made: int, options: Any) -> str:
        return self.node("Gelu", [self.name(inputs[0])], approximate="tanh" if options.approximate else "none")

    def _softmax(self, inputs: list[int], made: int, options: Any) -> str:
        if options.beta != 1.0:
            raise self.fail(f"SOFTMAX with beta {options.beta}")
        return self.node("Softmax", [self.name(inputs[0])], axis=-1)

    def _gather(self, inputs: list[int], made: int, options: Any) -> str:
        if options.batchDims:
            raise self.fail("GATHER with batch dimensions")
        return self.node("Gather", [self.name(i) for i in inputs], axis=options.axis)

    def _embedding_lookup(self, inputs: list[int], made: int, options: Any) -> str:
        return self.node("Gather", [self.name(inputs[1]), self.name(inputs[0])], axis=0)

    def _strided_slice(self, inputs: list[int], made: int, options: Any) -> str:
        if options.ellipsisMask or options.newAxisMask or options.offset:
            raise self.fail("STRIDED_SLICE with an ellipsis or new axes")
        shape = self.shape(inputs[0])
        begin, end, stride = (self.known(i).tolist() for i in inputs[1:])
        for axis in range(len(begin)):
            if options.beginMask >> axis & 1:
                begin[axis] = 0 if stride[axis] > 0 else shape[axis] - 1
            if options.endMask >> axis & 1:
                end[axis] = shape[axis] if stride[axis] > 0 else -shape[axis] - 1
            if options.shrinkAxisMask >> axis & 1:
                end[axis] = begin[axis] + 1 if begin[axis] != -1 else shape[axis]
        axes = self.ints(*range(len(begin)))
        name = self.node("Slice", [self.name(inputs[0]), self.ints(*begin), self.ints(*end), axes, self.ints(*stride)])
        return self.node("Reshape", [name, self.ints(*self.shape(made))])
