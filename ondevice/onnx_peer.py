"""ONNX Runtime as a peer of LiteRT: a model's signatures in float32 and with int8 weights, timed the same way."""

import contextlib
import importlib
import importlib.util
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ondevice.errors import FailureError, InputError, OndeviceError
from ondevice.litert import Signature
from ondevice.to_onnx import OUTPUT, signatures_to_onnx

PRECISIONS = ("float32", "int8")


def require(path: Path) -> None:
    """Raise InputError where a package is missing, and FailureError where a TFLite file cannot be translated.

    In a process of its own, for what that takes is no memory of the model's.
    """
    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"--against onnx: no module {name!r}; expected pip install 'ondevice[onnx]'")
    tried = subprocess.run([sys.executable, "-m", __name__, str(path)], capture_output=True, text=True)
    if tried.returncode:
        lines = tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"]
        raise FailureError(f"--against onnx: {lines[-1]}")


def version() -> str:
    """ONNX Runtime's."""
    return f"ONNX Runtime {importlib.import_module('onnxruntime').__version__}"


class OnnxSignature:
    """A signature of an ONNX file, called as LiteRT's is."""

    def __init__(self, path: Path, like: Signature, threads: int) -> None:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [tensor.name for tensor in self._session.get_outputs()]
        self.inputs, self.outputs = like.inputs, like.outputs

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name."""
        made = self._session.run(None, dict(inputs))
        return {name.removeprefix(OUTPUT): value for name, value in zip(self._outputs, made, strict=True)}


def onnx_signatures(
    path: Path, like: Mapping[str, Signature], threads: int
) -> Iterator[tuple[str, str, int, OnnxSignature]]:
    """(precision, signature, bytes of its file, what runs it) of a TFLite file, one after the other.

    int8 is ONNX Runtime's own dynamic quantisation, a scale for each channel. Raises FailureError for a file that
    cannot be translated.
    """
    quantization = importlib.import_module("onnxruntime.quantization")
    files = signatures_to_onnx(path)
    with tempfile.TemporaryDirectory() as folder:
        for name in like:
            wide, narrow = (Path(folder, f"{precision}.onnx") for precision in PRECISIONS)
            wide.write_bytes(files[name])
            with _quiet():
                quantization.quantize_dynamic(
                    wide, narrow, per_channel=True, weight_type=quantization.QuantType.QInt8,
                    nodes_to_exclude=_batched(files[name]),
                )  # fmt: skip
            for precision, file in zip(PRECISIONS, (wide, narrow), strict=True):
                yield precision, name, file.stat().st_size, OnnxSignature(file, like[name], threads)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that ONNX Runtime logs about every file."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _batched(content: bytes) -> list[str]:
    """Products with a constant of several matrices, which ONNX Runtime cannot do with a scale for each channel."""
    graph = importlib.import_module("onnx").ModelProto.FromString(content).graph
    many = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 2}
    return [node.name for node in graph.node if node.op_type == "MatMul" and many & set(node.input)]


if __name__ == "__main__":
    try:
        signatures_to_onnx(Path(sys.argv[1]))
    except OndeviceError as error:
        sys.exit(str(error))
