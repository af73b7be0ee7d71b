"""ONNX Runtime as a peer: the encoder's step of the same network, float32 and dynamic int8 per channel.

Needs `pip install tf2onnx onnx onnxruntime`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.convert import Endpoint

Step = Callable[[], object]


def onnx_steps(endpoint: Endpoint) -> dict[str, tuple[int, Step]]:
    """Bytes and a step on one thread of each precision; the state goes back in as on the device."""
    signature = [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in endpoint.inputs.items()]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        tf2onnx.convert.from_function(tf.function(endpoint.function), signature, opset=17, output_path=str(wide))
        quantize_dynamic(wide, narrow, per_channel=True, weight_type=QuantType.QInt8)
        for name, path in (("onnx float32", wide), ("onnx int8", narrow)):
            found[name] = path.stat().st_size, _step(path, endpoint)
    return found


def _step(path: Path, endpoint: Endpoint) -> Step:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {name: np.zeros(shape, dtype) for name, (shape, dtype) in endpoint.inputs.items()}
    taken = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def step() -> object:
        made = dict(zip(outputs, session.run(None, {name: inputs[name] for name in taken}), strict=True))
        inputs.update({name: value for name, value in made.items() if name in inputs})
        return made

    return step
