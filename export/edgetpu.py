"""Whether a TFLite file would run on Google's Coral Edge TPU, operator by operator, and what its compiler says.

The compiler maps one part of a graph: from the first operator it cannot map, that one and all behind it run on the CPU
(https://coral.ai/docs/edgetpu/models-intro/#compiling). In the order of the file this is a lower bound, for it may keep
later operators that do not wait for that one. Conversions of float inputs and outputs stay on the CPU and end nothing.
"""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.edgetpu_operators import (
    SUPPORTED,
    TOO_NEW,
    Node,
    Tensor,
    limitation,
    listed,
    read_nodes,
    read_tensor,
    text_of,
)
from ondevice.errors import FailureError, InputError

CHIP_BYTES = 8 * 2**20  # on the Edge TPU, shared by the parameters it caches and its program
COMPILER = "edgetpu_compiler"
_CONTROL_FLOW = {"IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "STABLEHLO_CASE"}


@dataclass(frozen=True)
class Operator:
    """One operator and where it runs."""

    index: int  # in its graph
    name: str
    supported: bool  # it runs on the Edge TPU
    reason: str  # why it does not; "" where it does
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        """As "GATHER at 3 (not supported): table int8 [9, 4], ids int32 [1] -> x int8 [1, 4]"."""
        tensors = [", ".join(map(str, filter(None, side))) for side in (self.inputs, self.outputs)]
        return f"{self.name} at {self.index} ({self.reason}): {' -> '.join(tensors)}"


@dataclass(frozen=True)
class Graph:
    """One subgraph of the file."""

    name: str  # of its signature, or its own where it has none
    operators: tuple[Operator, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Audit:
    """What of a file would run on the Edge TPU."""

    graphs: tuple[Graph, ...]
    problems: tuple[str, ...]  # requirements the file as a whole breaks
    notes: tuple[str, ...]  # worth knowing, no error
    size: int  # bytes of the file

    @property
    def maps(self) -> bool:
        """Whether every operator runs on the Edge TPU and nothing is wrong."""
        return not self.problems and all(o.supported for graph in self.graphs for o in graph.operators)

    def first_fallback(self, signature: str) -> Operator | None:
        """The first operator of a signature that would run on the CPU. InputError for a signature it has not."""
        for graph in self.graphs:
            if graph.name == signature:
                return next((o for o in graph.operators if not o.supported), None)
        known = ", ".join(graph.name for graph in self.graphs)
        raise InputError(f"no signature {signature!r} in the file; it has {known}")

    def lines(self) -> list[str]:
        """The audit as a person reads it: a line for each signature, then problems and notes."""
        rows = []
        for graph in self.graphs:
            count, first = sum(o.supported for o in graph.operators), self.first_fallback(graph.name)
            row = f"{graph.name}: {count} of {len(graph.operators)} operators map to the Edge TPU"
            rows.append(f"{row}; first on the CPU: {first}" if first else row)
        return [*rows, *(f"problem: {p}" for p in self.problems), *(f"note: {n}" for n in self.notes)]


def audit(content: bytes) -> Audit:
    """Where each operator of a TFLite file would run. Raises InputError when it is not one."""
    model = _parsed(content)
    names = _graph_names(model)
    nodes = [read_nodes(model, graph) for graph in model.subgraphs]
    graphs = tuple(_graph(model, *row) for row in zip(model.subgraphs, nodes, names, strict=True))
    every = [node for row in nodes for node in row]
    problems = (*_edge_problems(graphs), *_float_problems(model, graphs), *_version_problems(every))
    return Audit(graphs, problems, tuple(_notes(every, len(content))), len(content))


def split_signatures(content: bytes) -> dict[str, bytes]:
    """A file for each signature with only the weights it uses, as the compiler wants one graph.

    Raises InputError for a file without signatures, FailureError for a graph that calls another.
    """
    model = _parsed(content)
    if not model.signatureDefs:
        raise InputError("the file has no signatures to split; expected one with at least one")
    return {text_of(d.signatureKey): _alone(model, d) for d in model.signatureDefs}


def tensor_order(content: bytes) -> tuple[list[str], list[str]]:
    """Names of the inputs and outputs of a file's only signature, in the order of its graph."""
    model = _parsed(content)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]

    def named(order: Iterable[int], tensors: Iterable[Any]) -> list[str]:
        names = {tensor.tensorIndex: text_of(tensor.name) for tensor in tensors}
        return [names[index] for index in order]

    return named(graph.inputs, signature.inputs), named(graph.outputs, signature.outputs)


@dataclass(frozen=True)
class CompilerReport:
    """What edgetpu_compiler said of one model."""

    version: str  # as "16.0.384591198"
    edge_tpu: int  # operators on the Edge TPU
    cpu: int  # operators on the CPU
    statuses: tuple[tuple[str, int, str], ...]  # operator, count, status
    on_chip: int | None  # bytes of parameters cached on the chip
    on_chip_left: int | None  # bytes
    off_chip: int | None  # bytes of parameters streamed at every run
    output: Path  # the compiled model


def run_compiler(directory: Path, path: Path) -> CompilerReport | None:
    """Compile `path` into `directory`; None where the compiler is not installed.

    Raises FailureError with the compiler's words when it fails. https://coral.ai/docs/edgetpu/compiler/
    """
    program = shutil.which(COMPILER)
    if program is None:
        return None
    output = directory / f"{path.stem}_edgetpu.tflite"
    output.unlink(missing_ok=True)  # an older one would hide a failure
    command = [program, "-s", "-o", str(directory), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    text = done.stdout + done.stderr
    if done.returncode or not output.exists():
        raise FailureError(f"{COMPILER}: {path}: {_complaint(text) or f'exit code {done.returncode}'}")
    log = output.with_suffix(".log")
    return read_report(text, log.read_text(errors="replace") if log.exists() else text, output)


def read_report(text: str, log: str, output: Path) -> CompilerReport:
    """The compiler's printed text and its log, which has the whole table, as numbers."""

    def number(words: str) -> int | None:
        found = re.search(rf"{words}: *(\d+)", text)
        return int(found[1]) if found else None

    rows = re.findall(r"^([A-Z][A-Z0-9_]+) +(\d+) +(\S.*?) *$", log, re.MULTILINE)
    statuses = tuple((name, int(count), status) for name, count, status in rows)
    mapped = sum(count for _, count, status in statuses if status == "Mapped to Edge TPU")
    others = sum(count for _, count, _ in statuses) - mapped
    on_tpu = number("operations that will run on Edge TPU")  # not printed when all of them do
    on_cpu = number("operations that will run on CPU")
    version = re.search(r"Compiler version (\S+)", text + log)
    return CompilerReport(
        version[1] if version else "",
        mapped if on_tpu is None else on_tpu,
        others if on_cpu is None else on_cpu,
        statuses,
        _memory(text, "On-chip memory used for caching model parameters"),
        _memory(text, "On-chip memory remaining for caching model parameters"),
        _memory(text, "Off-chip memory used for streaming uncached model parameters"),
        output,
    )


def _memory(text: str, words: str) -> int | None:
    """Bytes of "words: 1.92MiB"."""
    found = re.search(rf"{words}: *([\d.]+)([KMG]i)?B", text)
    return round(float(found[1]) * 1024 ** ("KMG".index(found[2][0]) + 1 if found[2] else 0)) if found else None


def _complaint(text: str) -> str:
    """The compiler's lines without those it always prints, in one."""
    usual = ("Edge TPU Compiler version", "Started a compilation timeout", "Compilation child process completed")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip() and not line.startswith(usual))


def _parsed(content: bytes) -> Any:
    """The file as objects."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        if content[4:8] != b"TFL3":
            raise ValueError("no TFL3 mark")
        return schema.ModelT.InitFromPackedBuf(content, 0)
    except Exception as error:  # whatever a corrupt flatbuffer makes the generated code raise
        raise InputError(f"not a TFLite file ({error}); expected a model the converter wrote") from error


def _graph_names(model: Any) -> list[str]:
    """Signature of each subgraph, or its own name."""
    signatures = {d.subgraphIndex: text_of(d.signatureKey) for d in model.signatureDefs or ()}
    return [signatures.get(i) or text_of(g.name) or f"subgraph {i}" for i, g in enumerate(model.subgraphs)]


def _graph(model: Any, graph: Any, nodes: list[Node], name: str) -> Graph:
    """Every operator's place: the part up to the first that cannot be mapped, then the CPU."""
    ends = [{*listed(graph.inputs)}, {*listed(graph.outputs)}]
    rows, stopped = [], ""
    for index, (node, operator) in enumerate(zip(nodes, listed(graph.operators), strict=True)):
        own = limitation(node)
        conversion = (node.name == "QUANTIZE" and operator.inputs[0] in ends[0]) or (
            node.name == "DEQUANTIZE" and operator.outputs[0] in ends[1]
        )
        reason = own or (f"after {stopped}: more than one part is not mapped" if stopped else "")
        rows.append(Operator(index, node.name, not reason, reason, node.inputs, node.outputs))
        if own and not conversion and not stopped:
            stopped = f"{node.name} at {index}"
    inputs, outputs = (
        tuple(read_tensor(model, graph.tensors[i]) for i in listed(side)) for side in (graph.inputs, graph.outputs)
    )
    return Graph(name, tuple(rows), inputs, outputs)


def _edge_problems(graphs: Iterable[Graph]) -> list[str]:
    """Inputs and outputs that are not of 8 bits, counted for each graph."""
    found = []
    for graph in graphs:
        for side, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            wrong = [tensor for tensor in tensors if tensor.dtype not in ("int8", "uint8")]
            if wrong:
                row = f"{graph.name}: {len(wrong)} of {len(tensors)} {side} are not int8 or uint8, first {wrong[0]}"
                found.append(row)
    return found


def _float_problems(model: Any, graphs: Iterable[Graph]) -> list[str]:
    """Float tensors, counted for each graph."""
    found = []
    for graph, own in zip(graphs, model.subgraphs, strict=True):
        tensors = [t for t in (read_tensor(model, tensor) for tensor in own.tensors) if "float" in t.dtype]
        if tensors:
            found.append(f"{graph.name}: {len(tensors)} float tensors, first {tensors[0]}")
    return found


def _version_problems(nodes: Iterable[Node]) -> list[str]:
    """Operators of versions the last compiler cannot read, which fail the whole file."""
    found = {(n.name, n.version) for n in nodes if n.version >= TOO_NEW.get(n.name, n.version + 1)}
    return [f"{name} version {version} is newer than compiler 16.0 reads" for name, version in sorted(found)]


def _notes(nodes: Iterable[Node], size: int) -> list[str]:
    """Runtime, weights by channel, and the size against the chip's memory."""
    nodes = list(nodes)
    runtime = max((SUPPORTED[n.name].runtime for n in nodes if n.name in SUPPORTED), default=0)
    notes = [f"needs Edge TPU runtime {runtime} or newer"] if runtime else []
    matrices = [n.inputs[1] for n in nodes if n.name == "FULLY_CONNECTED"]
    channels = sum(weights is not None and weights.scales > 1 for weights in matrices)
    if channels:
        notes.append(
            f"{channels} of {len(matrices)} FULLY_CONNECTED have a scale for each channel, which the compiler may not "
            "know: _experimental_disable_per_channel_quantization_for_dense_layers converts without"
        )
    large = "the rest streams in at every run" if size > CHIP_BYTES else "it can stay on the chip"
    return [*notes, f"{size / 2**20:.2f} MB against {CHIP_BYTES / 2**20:.0f} MB on the chip: {large}"]


def _alone(model: Any, signature: Any) -> bytes:
    """The file of one signature."""
    import flatbuffers

    source = model.subgraphs[signature.subgraphIndex]
    calls = sorted({node.name for node in read_nodes(model, source)} & _CONTROL_FLOW)
    if calls:
        raise FailureError(f"signature {text_of(signature.signatureKey)!r} calls other graphs ({', '.join(calls)})")
    graph, made, own = copy.copy(source), copy.copy(model), copy.copy(signature)
    used = sorted({operator.opcodeIndex for operator in listed(source.operators)})
    kept = [0, *sorted({tensor.buffer for tensor in source.tensors} - {0})]  # buffer 0 is the empty one
    graph.tensors = [_changed(tensor, buffer=kept.index(tensor.buffer)) for tensor in source.tensors]
    graph.operators = [_changed(o, opcodeIndex=used.index(o.opcodeIndex)) for o in listed(source.operators)]
    made.subgraphs, made.signatureDefs, own.subgraphIndex = [graph], [own], 0
    made.buffers, made.operatorCodes = [model.buffers[i] for i in kept], [model.operatorCodes[i] for i in used]
    made.metadata = made.metadataBuffer = None  # it counts buffers of the whole file
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _changed(table: Any, **values: int) -> Any:
    """A copy of a flatbuffer's object with other values."""
    made = copy.copy(table)
    vars(made).update(values)
    return made
