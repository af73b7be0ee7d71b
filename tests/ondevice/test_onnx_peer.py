"""The same network in ONNX Runtime: its outputs, what cannot be translated, and what `bench --against onnx` says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ondevice.assets import find_asset, load_manifest
from ondevice.cli.bench import bench
from ondevice.errors import FailureError, InputError
from ondevice.onnx_peer import OnnxSignature, onnx_signatures
from ondevice.opening import open_model
from ondevice.to_onnx import signatures_to_onnx
from ondevice.trial import seeded_inputs

app = typer.Typer()
app.command()(bench)


def differences(directory: Path) -> dict[tuple[str, str], float]:
    """The largest relative RMS difference of any float output, by precision and signature; the state is random."""
    manifest, found = load_manifest(directory), {}
    like = open_model(manifest, 1).signatures
    for precision, name, _, peer in onnx_signatures(manifest.model_path, like, threads=1):
        rng = np.random.default_rng(0)
        inputs = seeded_inputs(like[name], manifest, rng)
        for state in like[name].inputs.keys() & like[name].outputs.keys():
            inputs[state] = rng.normal(0, 0.3, like[name].inputs[state].shape).astype(np.float32)
        ours, theirs = like[name](inputs), peer(inputs)
        assert ours.keys() == theirs.keys()
        found[precision, name] = max(
            float(np.sqrt(np.mean((theirs[output] - value) ** 2) / np.mean(value**2)))
            for output, value in ours.items()
            if value.dtype == np.float32 and value.any()
        )
    return found


def test_a_float_file_computes_the_same(toy_asset: Path) -> None:
    found = differences(toy_asset)
    assert {name for _, name in found} == {"encoder", "predictor", "joiner"}
    assert max(value for (precision, _), value in found.items() if precision == "float32") < 1e-5


def test_a_float_voice_computes_the_same(toy_voice: Path) -> None:
    found = differences(toy_voice)
    assert {name for _, name in found} >= {"text", "decoder", "postnet"}
    assert max(value for (precision, _), value in found.items() if precision == "float32") < 1e-4


@pytest.mark.parametrize("name", ["rnnt", "tacotron", "vocoder"])
def test_shipped_models_compute_the_same_but_for_the_rounding_of_what_goes_in(name: str) -> None:
    # LiteRT rounds the inputs of a product to 8 bits, ONNX Runtime in float32 does not; attention magnifies it
    found = differences(find_asset(name))
    assert max(value for (precision, _), value in found.items() if precision == "float32") < 0.2
    assert max(value for (precision, _), value in found.items() if precision == "int8") < 1  # its own rounding


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, name="x")])
        def sums(self, x):  # type: ignore[no-untyped-def]
            return {"y": tf.cumsum(x, axis=1)}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"sums": module.sums})
    path = tmp_path / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    with pytest.raises(FailureError, match=r"model\.tflite, signature 'sums': the operator CUMSUM cannot be"):
        signatures_to_onnx(path)


def test_bench_times_every_signature_in_both_precisions(toy_asset: Path, tmp_path: Path) -> None:
    arguments = [str(toy_asset), "--runs", "5", "--warmup", "1", "--against", "onnx"]
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert report["against"].startswith("ONNX Runtime ")
    (run,) = report["threads"]
    assert run["peers"].keys() == run["signatures"].keys()
    for name, peers in run["peers"].items():
        assert [peer["precision"] for peer in peers] == ["float32", "int8"]
        for peer in peers:
            ratio = peer["latency"]["p50_ms"] / run["signatures"][name]["p50_ms"]
            assert peer["times_as_long"] == pytest.approx(ratio)
            assert peer["bytes"] > 100
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "against       ONNX Runtime" in text
    assert len([line for line in text.splitlines() if " float32 " in line and "   int8 " in line]) == 3


def test_an_unknown_peer_and_one_that_is_not_installed(toy_asset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(*more: str) -> BaseException | None:
        return CliRunner().invoke(app, [str(toy_asset), *more]).exception

    assert isinstance(found := error("--against", "torch"), InputError)
    assert str(found) == "--against torch: expected onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert isinstance(found := error("--against", "onnx"), InputError)
    assert "expected pip install 'ondevice[onnx]'" in str(found)


def test_threads_reach_the_session(toy_asset: Path, tmp_path: Path) -> None:
    manifest = load_manifest(toy_asset)
    file = tmp_path / "joiner.onnx"
    file.write_bytes(signatures_to_onnx(manifest.model_path)["joiner"])
    signature = OnnxSignature(file, open_model(manifest, 1).signatures["joiner"], threads=2)
    assert signature._session.get_session_options().intra_op_num_threads == 2
