"""What the Edge TPU would run of small files, their signatures in files of their own, and its compiler's report."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from export.edge_parts import write_parts  # noqa: E402
from export.edgetpu import Audit, audit, run_compiler, split_signatures  # noqa: E402
from export.edgetpu_operators import Node, Tensor, limitation  # noqa: E402
from ondevice.errors import FailureError, InputError  # noqa: E402

Functions = Mapping[str, tuple[Callable[..., Any], Mapping[str, tuple[int, ...]]]]  # signature -> function, inputs


def convert(functions: Functions, model: Any, edges: Any = tf.int8, *, quantise: bool = True) -> bytes:
    """A TFLite file of the functions, of 8 bits throughout, or all float."""
    random = np.random.default_rng(0)
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, (function, inputs) in functions.items():
        archive.add_endpoint(name, function, [tf.TensorSpec(s, "float32", name=n) for n, s in inputs.items()])

    def samples() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        for _ in range(8):
            for name, (_, inputs) in functions.items():
                yield name, {n: random.normal(size=s).astype(np.float32) for n, s in inputs.items()}

    with tempfile.TemporaryDirectory() as directory:
        archive.write_out(directory, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=list(functions))
        if quantise:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = samples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = edges
        return bytes(converter.convert())


@pytest.fixture(scope="module")
def functions() -> tuple[Functions, Any]:
    """`step` of three dense layers, LOGISTIC and CONCATENATION, and `head`, which shares a layer with it."""
    keras.utils.set_random_seed(0)
    gate, hidden, head = keras.layers.Dense(4, "sigmoid"), keras.layers.Dense(4, "relu"), keras.layers.Dense(3)
    x = keras.Input((4,))
    model = keras.Model(x, head(hidden(gate(x))))

    def step(features: Any, state: Any) -> dict[str, Any]:
        new = gate(features) * hidden(state)
        return {"y": head(new), "new": keras.ops.concatenate([new, features], -1)}

    def last(x: Any) -> dict[str, Any]:
        return {"z": keras.ops.tanh(keras.ops.concatenate([head(x), x], -1))}

    return {"step": (step, {"features": (1, 4), "state": (1, 4)}), "head": (last, {"x": (1, 4)})}, model


@pytest.fixture(scope="module")
def both(functions: tuple[Functions, Any]) -> bytes:
    return convert(*functions)


def of(found: Audit, signature: str) -> list[str]:
    """Names of the operators that map."""
    graph = next(graph for graph in found.graphs if graph.name == signature)
    return [operator.name for operator in graph.operators if operator.supported]


def test_a_file_of_8_bits_maps_whole(both: bytes) -> None:
    found = audit(both)
    assert found.maps
    assert {graph.name for graph in found.graphs} == {"step", "head"}
    assert sorted(of(found, "step")) == sorted(["FULLY_CONNECTED"] * 3 + ["LOGISTIC", "MUL", "CONCATENATION"])
    assert found.first_fallback("step") is None
    assert found.lines()[:2] == [
        f"{g.name}: {len(g.operators)} of {len(g.operators)} operators map to the Edge TPU" for g in found.graphs
    ]
    assert found.size == len(both)
    assert "8 MB on the chip" in found.lines()[-1]
    last = found.graphs[0].operators[-1]
    assert all(tensor.dtype == "int8" and tensor.shape[0] == 1 for tensor in last.outputs)
    with pytest.raises(InputError, match=r"no signature 'joiner'.*step"):
        found.first_fallback("joiner")


def test_a_float_file_maps_nothing(functions: tuple[Functions, Any]) -> None:
    found = audit(convert(*functions, quantise=False))
    assert not found.maps
    assert of(found, "step") == of(found, "head") == []
    assert "float tensor" in found.first_fallback("head").reason
    assert any("head: 1 of 1 inputs are not int8" in line for line in found.problems)
    assert any("float tensors" in line for line in found.problems)


def test_float_edges_keep_their_conversions_on_the_cpu_and_no_more(functions: tuple[Functions, Any]) -> None:
    found = audit(convert(*functions, edges=tf.float32))
    assert not found.maps
    cpu = {o.name for g in found.graphs for o in g.operators if not o.supported}
    assert cpu == {"QUANTIZE", "DEQUANTIZE"}
    assert found.first_fallback("head").name == "QUANTIZE"
    assert of(found, "head") == ["FULLY_CONNECTED", "CONCATENATION", "TANH"]


def test_an_unsupported_operator_stops_the_rest(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    before, after = keras.layers.Dense(4), keras.layers.Dense(4)
    x = keras.Input((4,))
    model = keras.Model(x, after(before(x)))
    rows = (lambda x: {"y": after(tf.gather(before(x), [2, 1, 0, 0], axis=1))}, {"x": (1, 4)})
    content = convert({"rows": rows}, model)
    found = audit(content)
    first = found.first_fallback("rows")
    assert (first.name, first.index, first.reason) == ("GATHER", 1, "not supported")
    assert of(found, "rows") == ["FULLY_CONNECTED"]
    assert found.graphs[0].operators[2].reason.startswith("after GATHER at 1")
    assert found.lines()[0].startswith(
        "rows: 1 of 3 operators map to the Edge TPU; first on the CPU: GATHER at 1 (not supported): "
    )
    assert "int8 [1, 4]" in found.lines()[0]
    with pytest.raises(FailureError, match=r"rows would not run there as a whole: GATHER at 1 \(not supported"):
        write_parts(tmp_path, {"rows": content})
    assert not list(tmp_path.iterdir())


def test_weights_by_channel_are_noted(both: bytes) -> None:
    notes = [line for line in audit(both).lines() if "FULLY_CONNECTED have a scale for each channel" in line]
    assert notes[0].startswith("note: 4 of 4 ")


def outputs(content: bytes, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter.get_signature_runner(signature)(**inputs)


def test_each_signature_in_its_own_file_computes_the_same(both: bytes) -> None:
    random = np.random.default_rng(1)
    files = split_signatures(both)
    assert list(files) == ["step", "head"] or list(files) == ["head", "step"]
    for name, names in {"step": ("features", "state"), "head": ("x",)}.items():
        listed = Interpreter(model_content=files[name]).get_signature_list()
        assert listed == {name: Interpreter(model_content=both).get_signature_list()[name]}
        for _ in range(5):
            inputs = {n: random.integers(-128, 128, (1, 4), np.int8) for n in names}
            whole, alone = outputs(both, name, inputs), outputs(files[name], name, inputs)
            assert set(whole) == set(alone)
            assert all(np.array_equal(whole[n], alone[n]) for n in whole)
        assert audit(files[name]).graphs == tuple(g for g in audit(both).graphs if g.name == name)
    assert len(files["head"]) < len(files["step"]) < len(both)


def test_what_is_no_model_is_refused() -> None:
    for content in (b"", b"RIFF....", b"\x1c\0\0\0TFL3", b"\xff" * 64):
        with pytest.raises(InputError, match="not a TFLite file"):
            audit(content)
        with pytest.raises(InputError, match="not a TFLite file"):
            split_signatures(content)


class Options:
    """Options as the flatbuffer's tables have them."""

    def __init__(self, **values: int) -> None:
        vars(self).update(values)


def tensor(*shape: int, dtype: str = "int8", values: Any = None, **more: Any) -> Tensor:
    array = None if values is None else np.array(values)
    return Tensor("t", shape, dtype, 1 if dtype == "int8" else 0, values=array, **more)


def integers(*values: int) -> Tensor:
    return tensor(len(values), dtype="int32", values=values)


X, ONE = tensor(1, 4, 6), tensor(1, 6)
W = tensor(6, 6, values=np.ones((6, 6), np.int8))


@pytest.mark.parametrize(
    ("name", "inputs", "output", "options", "broken"),
    [
        ("FULLY_CONNECTED", (ONE, W, None), ONE, Options(weightsFormat=0), None),
        ("FULLY_CONNECTED", (ONE, W, None), ONE, Options(weightsFormat=1), "default format"),
        ("FULLY_CONNECTED", (ONE, tensor(6, 6), None), ONE, None, "must be constant"),
        ("FULLY_CONNECTED", (X, W, None), X, None, "only one dimension"),
        ("CONCATENATION", (ONE, ONE), tensor(1, 12), Options(fusedActivationFunction=1), "fused activation"),
        ("CONCATENATION", (ONE, tensor(1, 2, values=[0, 0])), tensor(1, 8), None, None),
        ("CONCATENATION", (ONE, tensor(1, 2, values=[7, 7], zero_point=7)), tensor(1, 8), None, None),
        ("CONCATENATION", (ONE, tensor(1, 2, values=[0, 1])), tensor(1, 8), None, "not all zeros"),
        ("CONCATENATION", (ONE, ONE, tensor(1, 2, values=[0, 0])), tensor(1, 14), None, "3 inputs"),
        ("MAX_POOL_2D", (X,), X, Options(fusedActivationFunction=3), "fused activation"),
        ("CONV_2D", (X, W, None), X, Options(dilationHFactor=2, dilationWFactor=2), None),
        ("CONV_2D", (X, W, None), X, Options(dilationHFactor=2, dilationWFactor=1), "dilation 2 x 1"),
        ("TRANSPOSE_CONV", (integers(1, 4, 6), W, X), X, None, None),
        ("TRANSPOSE_CONV", (integers(1, 4, 6), tensor(6, 6), X), X, None, "must be constant"),
        ("SOFTMAX", (tensor(1, 16_000),), tensor(1, 16_000), None, None),
        ("SOFTMAX", (tensor(1, 16_001),), tensor(1, 16_001), None, "16001 values"),
        ("SOFTMAX", (X,), X, None, "only one dimension"),
        ("MEAN", (X, integers(1)), ONE, None, None),
        ("MEAN", (X, integers(0)), tensor(4, 6), None, "batch"),
        ("MEAN", (X, integers(-3)), tensor(4, 6), None, "batch"),
        ("MEAN", (X, integers(2)), tensor(1, 4), None, "multiple of 4"),
        ("SUM", (X, integers(2)), tensor(1, 4), None, None),
        ("SUM", (X, integers(0, 1)), tensor(6), None, "batch"),
        ("PAD", (X, integers(0, 0, 1, 1, 0, 0)), tensor(1, 6, 6), None, None),
        ("PAD", (X, integers(1, 0, 0, 0, 0, 0)), tensor(2, 4, 6), None, "batch"),
        ("SPLIT", (integers(2), X), tensor(1, 4, 3), None, None),
        ("SPLIT", (integers(0), X), X, None, "batch"),
        ("PACK", (ONE, ONE), tensor(1, 2, 6), Options(axis=1), None),
        ("PACK", (ONE, ONE), tensor(2, 1, 6), Options(axis=0), "batch"),
        ("PRELU", (X, tensor(1, 6, values=[1] * 6)), X, None, None),
        ("PRELU", (X, tensor(4, 6, values=[1] * 24)), X, None, "innermost"),
        ("STRIDED_SLICE", (ONE, integers(0, 0), integers(1, 2), integers(1, 1)), tensor(1, 2), None, None),
        ("STRIDED_SLICE", (ONE, integers(0, 0), integers(1, 6), integers(1, 2)), tensor(1, 3), None, "strides"),
        ("STRIDED_SLICE", (ONE, *[integers(1, 1)] * 3), ONE, Options(newAxisMask=1), "new axis"),
        ("ADD", (tensor(2, 2, 2, 2), X), X, None, "three innermost"),
        ("ADD", (tensor(1, 4, dtype="int16"), X), X, None, "not of 8 bits"),
        ("ADD", (tensor(1, 4, dtype="int32"), X), X, None, "not of 8 bits"),
        ("ADD", (Tensor("t", (1, 4), "int8"), X), X, None, "not quantised"),
        ("ADD", (tensor(1, 4, dynamic=True), X), X, None, "dynamic shape"),
        ("ADD", (tensor(1, 4, dtype="float32"), X), X, None, "float tensor"),
        ("BIDIRECTIONAL_SEQUENCE_LSTM", (X,), X, None, "not supported"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", (X, tensor(1, 4, dtype="int16", variable=True)), X, None, None),
    ],
)
def test_the_limits_of_the_table(
    name: str, inputs: tuple[Tensor | None, ...], output: Tensor, options: Any, broken: str | None
) -> None:
    reason = limitation(Node(name, 1, inputs, (output,), options))
    assert reason is None if broken is None else broken in (reason or "")


REPORT = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 12 ms.

Input model: {path}
Input size: 4.41MiB
Output model: model_edgetpu.tflite
Output size: 5.49MiB
On-chip memory used for caching model parameters: 1.50MiB
On-chip memory remaining for caching model parameters: 1.75KiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 6
Operation log: model_edgetpu.log
{counts}
See the operation log file for individual operation details.
Compilation child process completed within timeout period.
Compilation succeeded!
"""
LOG = """Edge TPU Compiler version 16.0.384591198
Input: model.tflite
Output: model_edgetpu.tflite

Operator                       Count      Status

FULLY_CONNECTED                3          Mapped to Edge TPU
ADD                            1          More than one subgraph is not supported
GATHER                         2          Operation not supported
"""
COUNTS = "Number of operations that will run on Edge TPU: 3\nNumber of operations that will run on CPU: 3"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of these lines of shell on the PATH as the compiler, run as: -s -o DIRECTORY MODEL."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "edgetpu_compiler"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\n[ "$1 $2 $#" = "-s -o 4" ] || exit 9\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return install


def writes(counts: str, log: str) -> str:
    """Shell that compiles "$4" into "$3"."""
    report = REPORT.format(path="$4", counts=counts)
    return f'cp "$4" "$3/model_edgetpu.tflite"\ncat >"$3/model_edgetpu.log" <<E\n{log}E\ncat <<E\n{report}E'


def test_the_compilers_report_is_read(tmp_path: Path, compiler: Callable[[str], None]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"model")
    compiler(writes(COUNTS, LOG))
    report = run_compiler(tmp_path, path)
    assert report is not None
    assert (report.version, report.edge_tpu, report.cpu) == ("16.0.384591198", 3, 3)
    assert report.statuses[0] == ("FULLY_CONNECTED", 3, "Mapped to Edge TPU")
    assert report.statuses[2] == ("GATHER", 2, "Operation not supported")
    assert (report.on_chip, report.on_chip_left, report.off_chip) == (1572864, 1792, 0)
    assert report.output.read_bytes() == b"model"
    compiler(writes("", LOG.partition("ADD")[0]))  # where all map, the counts are not printed
    report = run_compiler(tmp_path, path)
    assert report is not None
    assert (report.edge_tpu, report.cpu) == (3, 0)


def test_a_compiler_that_fails_or_is_missing(
    tmp_path: Path, compiler: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"model")
    says = 'echo "Edge TPU Compiler version 16.0"; echo "Invalid model: $4" >&2; echo "Model not quantized"'
    compiler(f'cp "$4" "$3/model_edgetpu.tflite"; {says}; exit 1')
    with pytest.raises(FailureError, match=r"model\.tflite: .*Model not quantized") as caught:
        run_compiler(tmp_path, path)
    assert "Compiler version" not in str(caught.value)
    (tmp_path / "model_edgetpu.tflite").write_bytes(b"of an earlier run")
    compiler("echo 'Internal compiler error. Aborting!'")
    with pytest.raises(FailureError, match="Internal compiler error"):
        run_compiler(tmp_path, path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_compiler(tmp_path, path) is None


def test_the_command_names_the_first_that_falls_back() -> None:
    from typer.testing import CliRunner

    from ondevice.cli import app

    done = CliRunner().invoke(app, ["export", "audit", "rnnt"])
    assert isinstance(done.exception, FailureError)
    assert re.search(r"joiner: 0 of 3 .*first on the CPU: ADD at 0 \(float tensor", done.stdout)
