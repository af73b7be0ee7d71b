"""ONNX Runtime as a peer: the encoder's step of the same network, float32 and dynamic int8 per channel.

The graph is written out operator by operator, as `Rnnt.encoder_step` computes it: converters from TensorFlow need
tens of gigabytes for the published sizes. Needs `pip install onnx onnxruntime`.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from keras import ops
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.rnnt import ProjectedLstm, Rnnt

Step = Callable[[np.ndarray], dict[str, np.ndarray]]  # features [1, reduction, F] -> encoded and state
NEW = "new_"


def onnx_steps(rnnt: Rnnt) -> Iterator[tuple[str, int, Step]]:
    """Name, bytes and a step on one thread of each precision; the state goes back in as on the device."""
    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        onnx.save(encoder_graph(rnnt), wide)
        yield "onnx float32", wide.stat().st_size, _step(wide)
        quantize_dynamic(wide, narrow, per_channel=True, weight_type=QuantType.QInt8)
        yield "onnx int8", narrow.stat().st_size, _step(narrow)


def encoder_graph(rnnt: Rnnt) -> onnx.ModelProto:
    """One encoder step."""
    graph, c = _Graph(), rnnt.config
    frames = graph.split("features", [1] * c.reduction, axis=1)
    frames = [graph.node("Squeeze", frame, graph.constant(np.array([1]))) for frame in frames]
    state = {}
    for index, layer in enumerate(rnnt.encoder.layers_):
        if index == c.reduction_after:
            frames = [graph.node("Concat", *frames, axis=1)]
        weights = {name: graph.constant(ops.convert_to_numpy(getattr(layer, name))) for name in _WEIGHTS}
        weights |= {name: graph.constant(ops.convert_to_numpy(getattr(layer.normalise, name))) for name in _SCALES}
        cell, output = f"encoder_c{index}", f"encoder_r{index}"
        made = []
        for frame in frames:
            y, cell, output = _layer(graph, layer, weights, frame, cell, output)
            made.append(y)
        frames = made
        state |= {f"encoder_c{index}": (cell, c.encoder_units), f"encoder_r{index}": (output, c.encoder_projection)}
    last = rnnt.encoder_to_joiner
    kernel, bias = (graph.constant(ops.convert_to_numpy(x)) for x in (last.kernel, last.bias))
    graph.node("Add", graph.node("MatMul", frames[0], kernel), bias, name="encoded")
    for name, (made_by, _) in state.items():
        graph.node("Identity", made_by, name=NEW + name)
    tensor = helper.make_tensor_value_info
    inputs = [tensor("features", TensorProto.FLOAT, (1, c.reduction, c.features))]
    inputs += [tensor(name, TensorProto.FLOAT, (1, width)) for name, (_, width) in state.items()]
    outputs = [tensor("encoded", TensorProto.FLOAT, (1, c.joiner))]
    outputs += [tensor(NEW + name, TensorProto.FLOAT, (1, width)) for name, (_, width) in state.items()]
    made = helper.make_graph(graph.nodes, "encoder", inputs, outputs, graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


_WEIGHTS = ("kernel", "recurrent", "bias", "projection")
_SCALES = ("gamma", "beta")


def _layer(
    graph: "_Graph", layer: ProjectedLstm, weights: dict[str, str], x: str, cell: str, output: str
) -> tuple[str, str, str]:
    """One time step: see `models.recurrence.lstm_gates`."""
    node = graph.node
    pre = node("Add", node("MatMul", x, weights["kernel"]), node("MatMul", output, weights["recurrent"]))
    into, keep, out, candidate = graph.split(node("Add", pre, weights["bias"]), [layer.units] * 4, axis=1)
    kept = node("Mul", node("Sigmoid", keep), cell)
    cell = node("Add", kept, node("Mul", node("Sigmoid", into), node("Tanh", candidate)))
    hidden = node("Mul", node("Sigmoid", out), node("Tanh", cell))
    output = node("MatMul", hidden, weights["projection"])
    y = node("LayerNormalization", output, weights["gamma"], weights["beta"], epsilon=layer.normalise.epsilon)
    return node("Add", x, y) if layer.residual else y, cell, output


class _Graph:
    """Nodes and constants, named by number."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, *inputs: str, name: str = "", **attributes: object) -> str:
        name = name or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def split(self, x: str, sizes: list[int], axis: int) -> list[str]:
        names = [f"t{len(self.nodes)}_{i}" for i in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [x, self.constant(np.array(sizes))], names, axis=axis))
        return names

    def constant(self, values: np.ndarray) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _step(path: Path) -> Step:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    state = {x.name: np.zeros(x.shape, np.float32) for x in session.get_inputs() if x.name != "features"}
    outputs = [x.name for x in session.get_outputs()]

    def step(features: np.ndarray) -> dict[str, np.ndarray]:
        made = dict(zip(outputs, session.run(None, {"features": features, **state}), strict=True))
        state.update({name: made[NEW + name] for name in state})
        return made

    return step
