"""What a TFLite file holds, read from its flatbuffer without running it.

Only LiteRT's schema is needed, so a file can be looked into that no interpreter should open.
"""

import importlib
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError

IDENTIFIER = b"TFL3"  # bytes 4 to 7 of a TFLite file
WIDTHS = {"BFLOAT16": 2, "FLOAT16": 2, "FLOAT32": 4, "FLOAT64": 8}  # bytes a value
TABLES = {"GATHER": 0, "EMBEDDING_LOOKUP": 1}  # operators that read rows of an input, and which input


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph; `data` is empty unless it is a constant."""

    name: str
    type: str  # "FLOAT32", "INT8", ...
    shape: tuple[int, ...]
    buffer: int  # constants may share one
    data: npt.NDArray[np.uint8]  # stored bytes
    scales: npt.NDArray[np.float32]  # of its quantisation, empty if it has none

    @property
    def is_finite(self) -> bool:
        """Whether a constant holds no NaN or infinity, nor its quantisation."""
        if len(self.data) % WIDTHS.get(self.type, 1):  # cut short
            return False
        if self.type == "BFLOAT16":  # NumPy has none: NaN and infinity have all bits of the exponent
            whole = not np.any((self.data.view(np.uint16) & 0x7F80) == 0x7F80)
        elif self.type in WIDTHS:
            whole = bool(np.isfinite(self.data.view(self.type.lower())).all())
        else:
            whole = True
        return whole and bool(np.isfinite(self.scales).all())


@dataclass(frozen=True)
class Operator:
    """An operator of a graph, its tensors by index; -1 is an input left out."""

    code: str  # "FULLY_CONNECTED", ...
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Subgraph:
    """Operators in the order they run."""

    tensors: Sequence[Tensor]
    operators: Sequence[Operator]

    def rows_taken(self, operator: Operator) -> float:
        """Part of a table that an operator of TABLES reads in one call."""
        table = self.tensors[operator.inputs[TABLES[operator.code]]]
        taken = math.prod(self.tensors[operator.outputs[0]].shape) / max(1, math.prod(table.shape))
        return min(1.0, taken)


@dataclass(frozen=True)
class Graph:
    """A whole file."""

    subgraphs: Sequence[Subgraph]
    signatures: Mapping[str, Subgraph]

    @property
    def constants(self) -> list[Tensor]:
        """Every tensor with stored data."""
        return [tensor for subgraph in self.subgraphs for tensor in subgraph.tensors if len(tensor.data)]

    @property
    def codes(self) -> set[str]:
        """Every kind of operator in it."""
        return {operator.code for subgraph in self.subgraphs for operator in subgraph.operators}


def read_graph(path: Path) -> Graph | None:
    """The graph of a TFLite file; None where LiteRT's schema is not installed. InputError when it cannot be read."""
    try:
        schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError:
        return None
    try:
        content = path.read_bytes()
        if content[4:8] != IDENTIFIER:
            raise InputError(f"{path}: no {IDENTIFIER.decode()} at byte 4; expected a TFLite model")
        return _graph(schema, schema.Model.GetRootAs(content, 0))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a TFLite model") from error
    except (struct.error, IndexError, TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise InputError(f"{path}: its flatbuffer is corrupt ({error}); expected a TFLite model") from error


def _graph(schema: Any, model: Any) -> Graph:
    operators = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    found = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    codes = [operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in found]
    subgraphs = [_subgraph(model, model.Subgraphs(i), codes, types) for i in range(model.SubgraphsLength())]
    defined = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
    return Graph(subgraphs, {d.SignatureKey().decode(): subgraphs[d.SubgraphIndex()] for d in defined})


def _subgraph(model: Any, graph: Any, codes: Sequence[str], types: Mapping[int, str]) -> Subgraph:
    tensors = [_tensor(model, graph.Tensors(i), types) for i in range(graph.TensorsLength())]
    operators = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        inputs = tuple(operator.Inputs(j) for j in range(operator.InputsLength()))
        outputs = tuple(operator.Outputs(j) for j in range(operator.OutputsLength()))
        operators.append(Operator(codes[operator.OpcodeIndex()], inputs, outputs))
    return Subgraph(tensors, operators)


def _tensor(model: Any, tensor: Any, types: Mapping[int, str]) -> Tensor:
    buffer, quantisation = model.Buffers(tensor.Buffer()), tensor.Quantization()
    data = np.zeros(0, np.uint8) if buffer.DataIsNone() else buffer.DataAsNumpy()
    if buffer.Offset() > 1:  # a file of over 2 GB keeps its data behind the flatbuffer
        data = np.frombuffer(tensor._tab.Bytes, np.uint8, buffer.Size(), buffer.Offset())
    scaled = quantisation is not None and not quantisation.ScaleIsNone()
    return Tensor(
        name=(tensor.Name() or b"").decode(errors="replace"),
        type=types[tensor.Type()],
        shape=tuple(tensor.Shape(i) for i in range(tensor.ShapeLength())),
        buffer=tensor.Buffer(),
        data=data,
        scales=quantisation.ScaleAsNumpy() if scaled else np.zeros(0, np.float32),
    )
