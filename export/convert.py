"""Step functions with named state -> one TFLite file with several signatures, checked for the known traps."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ondevice.errors import FailureError, InputError

PRECISIONS = ("float32", "float16", "dynamic-int8", "int8-full")
_VARIABLE_OPS = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"}


Call = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]  # a signature: arrays by name in and out
Taken = tuple[str, Mapping[str, np.ndarray]]  # a signature's name and what a call of it took


@dataclass(frozen=True)
class Endpoint:
    """One signature: a function of named tensors that returns named tensors, all of fixed shape."""

    function: Callable[..., dict[str, Any]]
    inputs: Mapping[str, tuple[tuple[int, ...], str]]  # name -> (shape, dtype)


def to_tflite(
    model: keras.Model, endpoints: Mapping[str, Endpoint], precision: str = "float32", per_tensor: bool = False,
    taken: Sequence[Taken] = (), parameters: int | None = None,
) -> bytes:  # fmt: skip
    """The TFLite file of a Keras model's endpoints, builtin ops only.

    per_tensor: one scale for a whole weight matrix instead of one for each output, which tflite-runtime 2.14 and the
    Edge TPU's compiler need; taken: real calls, which set the scales of int8-full; parameters: what the file must hold,
    all of the model's if None.
    Raises InputError for an unknown precision and FailureError when the converted file lacks the weights or a temporary
    one cannot be written.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    archive = keras.export.ExportArchive()
    archive.track(model)  # without this the file converts without error and without weights
    for name, endpoint in endpoints.items():
        signature = [tf.TensorSpec(shape, dtype, name=tensor) for tensor, (shape, dtype) in endpoint.inputs.items()]
        archive.add_endpoint(name, endpoint.function, input_signature=signature)
    with tempfile.TemporaryDirectory() as directory:
        try:
            archive.write_out(directory, verbose=False)
        except tf.errors.OpError as error:  # TensorFlow's own for a full disk
            raise FailureError(f"export: {directory}: {error.message}") from None
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=list(endpoints))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter._experimental_disable_per_channel_quantization_for_dense_layers = per_tensor
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8-full":
            converter.representative_dataset = lambda: iter(taken)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        content = bytes(converter.convert())
    check_file(content, model.count_params() if parameters is None else parameters, precision)
    return content


def operators(content: bytes) -> list[str]:
    """Names of the distinct operators in a TFLite file, sorted."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    codes = (max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes)
    custom = [c.customCode.decode() for c in model.operatorCodes if c.customCode]
    return sorted({names[code] for code in codes} | set(custom))


def check_file(content: bytes, parameters: int, precision: str) -> None:
    """FailureError unless the file holds its weights and builtin operators only."""
    found = operators(content)
    if variables := sorted(_VARIABLE_OPS.intersection(found)):
        raise FailureError(
            f"export: the file reads variables it does not hold ({', '.join(variables)}); weights missing"
        )
    if custom := [name for name in found if name == "CUSTOM" or name.startswith("Flex")]:
        raise FailureError(f"export: operators outside TFLite's builtin set: {', '.join(custom)}")
    bytes_each = {"float32": 4, "float16": 2}.get(precision, 1)
    if len(content) < 0.98 * parameters * bytes_each:
        raise FailureError(
            f"export: weights missing: {len(content)} bytes cannot hold {parameters} parameters of {bytes_each} bytes"
        )


def keras_calls(endpoints: Mapping[str, Endpoint]) -> dict[str, Call]:
    """The endpoints as the runtime calls signatures, arrays by name, computed by Keras."""

    def caller(endpoint: Endpoint) -> Call:
        compiled = tf.function(endpoint.function)

        def call(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            outputs = compiled(*(tf.convert_to_tensor(inputs[name]) for name in endpoint.inputs))
            return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}

        return call

    return {name: caller(endpoint) for name, endpoint in endpoints.items()}


def parity(
    reference: Mapping[str, Mapping[str, np.ndarray]], other: Mapping[str, Mapping[str, np.ndarray]]
) -> list[dict[str, Any]]:
    """One row per signature and tensor: largest absolute and relative RMS error over a run."""
    rows = []
    for signature, tensors in reference.items():
        for name, values in tensors.items():
            largest, relative = relative_error(values, other[signature][name])
            rows.append({"signature": signature, "tensor": name, "max_error": largest, "relative_rms": relative})
    return rows


def relative_error(reference: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """(largest absolute difference, RMS difference relative to the RMS of the reference)."""
    difference = np.asarray(other, np.float64) - reference
    scale = np.sqrt(np.mean(np.square(reference, dtype=np.float64)))
    return float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2)) / max(scale, 1e-12))


def stack_outputs(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Outputs of many steps as one array per name."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name and rename, so that no half-written model is ever in place."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(path)
