"""The weights of a float TFLite file by the names Keras gave them, and the file with each of them at its own bits.

`ai-edge-quantizer` finds what to quantise by the names of the tensors operators make; people want to read which layer
of the network that is. Weights are known again by their values.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.file_weights import stored_weights, widened
from ondevice.errors import FailureError, InputError
from ondevice.graph import Subgraph, Tensor, read_graph

MATRIX_OPERATIONS = ("FULLY_CONNECTED", "EMBEDDING_LOOKUP")
KERNEL_OPERATIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
STORED = ("FLOAT32", "FLOAT16", "INT8", "INT4")
UNLIKE = 0.7  # relative RMS error beyond which two arrays are not the same weights


@dataclass(frozen=True)
class Layer:
    """A constant of many weights and the operators that read it."""

    name: str  # signature and path of the Keras weight
    operators: tuple[str, ...]  # scopes: the names of the tensors each of them makes, as the quantiser spells them
    values: int
    narrow: bool  # whether it may be at int4: matrices may, kernels of convolutions stay at int8


def float_layers(content: bytes, weights: Iterable[tuple[str, np.ndarray]]) -> list[Layer]:
    """Every constant that an operator of the float file multiplies by or looks up in, in the order of the file.

    weights: path and values of each of the network's own, for the names.
    """
    model, codes = _parsed(content)
    named = _by_values(weights)
    found: dict[int, Layer] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            tensor = _constant(model, graph, operator, codes[operator.opcodeIndex])
            if tensor is None:
                continue
            scope = "".join(graph.tensors[i].name.decode() + ";" for i in operator.outputs)
            known = found.get(tensor.buffer)
            if known is None:
                rows = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape[0], -1)
                own = tensor.name.decode()
                name = f"{graph.name.decode()}/{named[key]}" if (key := _key(rows)) in named else own
                same = sum(layer.name.partition("#")[0] == name for layer in found.values())
                name += f"#{same + 1}" if same else ""
                known = Layer(name, (), rows.size, len(tensor.shape) == 2)
            found[tensor.buffer] = replace(known, operators=(*known.operators, scope))
    return list(found.values())


def weight_errors(path: Path, float_path: Path, weights: Iterable[tuple[str, np.ndarray]]) -> list[dict[str, Any]]:
    """How far the weights of each layer in a file are from those in the float file of the same network: relative RMS.

    weights: see `float_layers`. Layers that look nothing like any of the float file are left out.
    """
    graph, reference = read_graph(path), read_graph(float_path)
    if graph is None or reference is None:
        return []
    named, found = _by_values(weights), []
    for signature, subgraph in graph.signatures.items():
        if signature not in reference.signatures:
            continue
        known = [(t, widened(float_path, t)) for t in _matrices(reference.signatures[signature])]
        for tensor in _matrices(subgraph):
            try:
                values = widened(path, tensor)
            except InputError:  # scales of a form that is not known
                continue
            alike = [(other, array) for other, array in known if array.shape == values.shape]
            errors = [_relative(array, values) for _, array in alike]
            if not errors or min(errors) > UNLIKE:
                continue
            own, array = alike[int(np.argmin(errors))]
            name = named.get(_key(array.reshape(array.shape[0], -1)), own.name)
            kept = {"layer": f"{signature}/{name}", "values": values.size, "stored_as": tensor.type.lower()}
            found.append({**kept, "error": min(errors)})
    return found


def _matrices(subgraph: Subgraph) -> list[Tensor]:
    """Weights of matrices and convolutions, each once."""
    stored = [tensor for tensor in stored_weights(subgraph, once=True) if tensor.type in STORED]
    return [t for t in stored if len(t.shape) == 2 or sum(length > 1 for length in t.shape) > 1]


def _as_stored(array: np.ndarray) -> Iterator[np.ndarray]:
    """A weight as rows [outputs, rest], and as it is where it may be a table."""
    yield np.moveaxis(array, -1, 0).reshape(array.shape[-1], -1)
    if array.ndim == 2:
        yield array


def _relative(array: np.ndarray, other: np.ndarray) -> float:
    """Relative RMS error."""
    return float(np.sqrt(np.mean((array - other) ** 2) / max(float(np.mean(array**2)), 1e-12)))


def prepared(content: bytes) -> bytes:
    """The float file as the quantiser needs it, computing the same.

    Table lookups become EMBEDDING_LOOKUP, which can be quantised where GATHER cannot, and every tensor is named after
    its signature too, for operators are told apart by name.
    """
    from ai_edge_litert import schema_py_generated as schema

    model, codes = _parsed(content)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = graph.name + b"/" + tensor.name
        for operator in graph.operators:
            if codes[operator.opcodeIndex] != "GATHER" or _constant(model, graph, operator, "GATHER") is None:
                continue
            if operator.builtinOptions.axis or len(graph.tensors[operator.inputs[1]].shape) != 1:
                continue
            if "EMBEDDING_LOOKUP" not in codes:
                code = schema.OperatorCodeT()
                code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.EMBEDDING_LOOKUP
                code.version = 1
                model.operatorCodes.append(code)
                codes.append("EMBEDDING_LOOKUP")
            operator.opcodeIndex = codes.index("EMBEDDING_LOOKUP")
            operator.inputs = np.array([operator.inputs[1], operator.inputs[0]], np.int32)
            operator.builtinOptionsType, operator.builtinOptions = 0, None
    return _packed(model)


def at_bits(content: bytes, layers: Iterable[Layer], bits: Mapping[str, int]) -> bytes:
    """The float file with each layer at its bits (`bits` by name, 8 where none is given), activations dynamic.

    Weights of an output channel share a scale. Layers that may not be narrow stay at 8.
    """
    from ai_edge_quantizer import qtyping, quantizer

    work = quantizer.Quantizer(content)
    for layer in layers:
        wanted = bits.get(layer.name, 8) if layer.narrow else 8
        operations = MATRIX_OPERATIONS if layer.narrow else KERNEL_OPERATIONS
        for scope in layer.operators:
            for operation in operations:
                work.add_dynamic_config(
                    f"^{re.escape(scope)}$", qtyping.TFLOperationName[operation], wanted,
                    granularity=qtyping.QuantGranularity.CHANNELWISE,
                )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        made = work.quantize().quantized_model
    if made is None:
        raise FailureError("export: the quantiser made no file")
    return bytes(made)


def _parsed(content: bytes) -> tuple[Any, list[str]]:
    """The file as objects, and the names of its operator codes."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    return model, [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _constant(model: Any, graph: Any, operator: Any, code: str) -> Any:
    """The constant float tensor of weights an operator reads, or None."""
    place = {"FULLY_CONNECTED": 1, "EMBEDDING_LOOKUP": 1, "GATHER": 0, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1}.get(code)
    if place is None:
        return None
    tensor = graph.tensors[operator.inputs[place]]
    return tensor if model.buffers[tensor.buffer].data is not None and tensor.type == 0 else None


def _key(values: np.ndarray) -> tuple[Any, ...]:
    return (*values.shape, hashlib.sha256(np.ascontiguousarray(values, np.float32).tobytes()).digest())


def _by_values(weights: Iterable[tuple[str, np.ndarray]]) -> dict[tuple[Any, ...], str]:
    """Names by values as TFLite holds them, output channels first."""
    named: dict[tuple[Any, ...], str] = {}
    for path, array in weights:
        if array.ndim >= 2:
            for stored in _as_stored(array):
                named.setdefault(_key(stored), path)
    return named
