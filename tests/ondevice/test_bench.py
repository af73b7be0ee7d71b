"""`ondevice bench`: what is timed, what a signature reads, and what it says to wrong arguments."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from ondevice import bench as module
from ondevice.assets import load_manifest
from ondevice.bench import BenchConfig, Weights, latency, measure, parse_threads, weights_of
from ondevice.cli.bench import bench
from ondevice.errors import FailureError, InputError
from ondevice.graph import Graph, Operator, Subgraph, Tensor, read_graph
from ondevice.onnx_peer import require
from ondevice.opening import open_model
from ondevice.trial import run_steps, seeded_inputs, zero_state
from tests.ondevice.toy import BANDS, JOINER, STEP_FRAMES, TOKENS, UNITS

runner = CliRunner()
app = typer.Typer()
app.command()(bench)
NUMBERS = ("first_ms", "warmup_ms", "mean_ms", "min_ms", "p50_ms", "p90_ms", "p99_ms")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    return tmp_path / "noise.wav"


def wrong(*arguments: object) -> str:
    """The one line that a wrong command line is answered with."""
    error = runner.invoke(app, [str(a) for a in arguments]).exception
    assert isinstance(error, InputError), error
    assert "\n" not in str(error)
    return str(error)


def test_json_holds_every_measurement_for_each_number_of_threads(toy_asset: Path, recording: Path) -> None:
    arguments = [
        str(toy_asset),
        "--threads",
        "1,2",
        "--runs",
        "7",
        "--warmup",
        "2",
        "--audio",
        str(recording),
        "--json",
    ]
    report = json.loads(runner.invoke(app, arguments, catch_exceptions=False).stdout)
    assert report["model_bytes"] == (toy_asset / "model.tflite").stat().st_size
    assert (report["model"], report["task"], report["runs"], report["warmup"]) == ("toy", "transcribe", 7, 2)
    assert report["bandwidth_bytes_per_s"] > 1e8
    assert [run["threads"] for run in report["threads"]] == [1, 2]
    for run in report["threads"]:
        assert run["load_ms"] > 0
        assert run["peak_memory_mb"] > 10
        assert set(run["signatures"]) == {"encoder", "predictor", "joiner"}
        for times in run["signatures"].values():
            assert all(times[name] > 0 for name in NUMBERS)
            assert times["min_ms"] <= times["p50_ms"] <= times["p90_ms"] <= times["p99_ms"]
        assert run["pipeline"]["audio_s"] == pytest.approx(1.0, abs=0.05)
        assert run["pipeline"]["real_time_factor"] > 0
        step, encoder = run["step"], run["signatures"]["encoder"]
        assert step["latency_ms"] == pytest.approx(encoder["p50_ms"])
        read_bytes = encoder["read_bytes_per_s"] * encoder["p50_ms"] / 1000
        assert 0 < read_bytes < report["model_bytes"]
        assert step["floor_ms"] == pytest.approx(1000 * read_bytes / report["bandwidth_bytes_per_s"])
        assert step["floor_share"] == pytest.approx(step["floor_ms"] / step["latency_ms"])


def test_a_file_that_does_not_tell_what_is_read_has_no_floor(
    toy_asset: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ondevice.bench.weights_of", lambda _: {"encoder": Weights(1000, None)})
    done = runner.invoke(app, [str(toy_asset), "--runs", "2", "--audio", str(recording)], catch_exceptions=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("step")]
    assert line.endswith("ms of audio")


def test_the_memory_is_read_after_the_pipeline_and_before_anything_else(
    toy_asset: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noted(name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: (order.append(name), function(*a, **k))[1])

    for name in ("_hear", "peak_memory_mb", "bandwidth_bytes_per_s", "read_graph"):
        noted(name)
    measure(str(toy_asset), BenchConfig((1, 2), runs=2, audio=str(recording)))
    assert order == ["_hear", "peak_memory_mb"] * 2 + ["bandwidth_bytes_per_s", "read_graph"]


def test_the_table_has_a_row_for_each_signature(toy_asset: Path, recording: Path) -> None:
    done = runner.invoke(app, [str(toy_asset), "--runs", "3", "--warmup", "0", "--audio", str(recording)])
    lines = done.stdout.splitlines()
    head = next(line for line in lines if line.startswith("signature"))
    assert head.split()[:8] == ["signature", "first", "warmup", "avg", "min", "p50", "p90", "p99"]
    for name in ("encoder", "predictor", "joiner"):
        row = next(line for line in lines if line.startswith(name))
        assert row.split()[2] == "-"  # no warmup
        assert len(row) == len(head)
    assert any("real-time factor" in line for line in lines)


def test_without_recordings_it_says_so(toy_asset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ondevice.bench.asset_roots", lambda: [tmp_path])
    done = runner.invoke(app, [str(toy_asset), "--runs", "2"], catch_exceptions=False)
    assert "not measured, no sample recordings" in done.stdout


def test_recordings_come_from_the_first_folder_of_samples(
    toy_asset: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shelf" / "samples").mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        shutil.copy(recording, tmp_path / "shelf" / "samples" / name)
    monkeypatch.setattr("ondevice.bench.asset_roots", lambda: [tmp_path / "empty", tmp_path / "shelf"])
    report = measure(str(toy_asset), BenchConfig(runs=2, warmup=0))
    assert report.threads[0].pipeline.audio_s == pytest.approx(2.0, abs=0.1)


def test_a_voice_and_its_vocoder(toy_voice: Path) -> None:
    small = BenchConfig(runs=2, warmup=1)
    voice, vocoder = measure(str(toy_voice), small), measure(str(toy_voice.parent / "toy-vocoder"), small)
    assert {"text", "memory", "decoder", "postnet"} <= set(voice.threads[0].signatures)
    for report in (voice, vocoder):
        assert report.threads[0].step is None
        assert report.threads[0].pipeline.real_time_factor
    assert vocoder.threads[0].pipeline.audio_s == pytest.approx(5.0, abs=0.02)


def test_a_voice_without_its_vocoder_says_so(toy_voice: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(toy_voice, tmp_path / "alone")
    values = json.loads((alone / "manifest.json").read_text())
    (alone / "manifest.json").write_text(json.dumps({**values, "vocoder": "no-such-vocoder"}))
    pipeline = measure(str(alone), BenchConfig(runs=1, warmup=0)).threads[0].pipeline
    assert pipeline.real_time_factor is None
    assert "no-such-vocoder" in str(pipeline.missing)


@pytest.mark.parametrize("text", ["0", "a,b", "", "1,", "1,,2", "-1", "1.5", "257", "²", "9" * 5000])
def test_wrong_threads(toy_asset: Path, text: str) -> None:
    assert "expected numbers from 1 to 256" in wrong(toy_asset, f"--threads={text}")


def test_threads_are_measured_once_each_in_the_order_given() -> None:
    assert parse_threads("4, 1,4") == (4, 1)


def test_wrong_arguments(toy_asset: Path, toy_voice: Path, recording: Path, tmp_path: Path) -> None:
    assert "unknown model 'nobody'" in wrong("nobody")
    assert wrong(toy_asset, "--runs", 0) == "runs 0: expected a whole number of at least 1"
    assert wrong(toy_asset, "--warmup", -1) == "warmup -1: expected a whole number of at least 0"
    assert "missing.wav" in wrong(toy_asset, "--audio", tmp_path / "missing.wav")
    assert "does not hear" in wrong(toy_voice, "--audio", recording)


def test_what_cannot_be_translated_to_onnx_is_said_before_anything_is_measured(
    toy_asset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf((toy_asset / "model.tflite").read_bytes(), 0)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.type = schema.TensorType.INT8
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "model.tflite").write_bytes(bytes(builder.Output()))
    with pytest.raises(FailureError, match=r"against onnx: .* cannot be .* to ONNX; expected a file at float32"):
        require(tmp_path / "model.tflite")

    def refuse(path: Path) -> None:
        raise FailureError(f"{path.name}: no")

    monkeypatch.setattr(module, "require_onnx", refuse)
    monkeypatch.setattr(module, "open_model", lambda *_: pytest.fail("it was measured"))
    with pytest.raises(FailureError, match=r"^model\.tflite: no$"):
        measure(str(toy_asset), BenchConfig(against="onnx"))


def test_latencies_leave_out_the_first_call_and_the_warmup() -> None:
    times = latency(np.array([9.0, 5.0, 7.0, 0.1, 0.2, 0.3], np.float32), warmup=2)
    assert times.first_ms == pytest.approx(9000)
    assert times.warmup_ms == pytest.approx(6000)
    assert (times.min_ms, times.p50_ms, times.mean_ms) == pytest.approx((100, 200, 200))
    assert times.read_bytes_per_s is None


def test_weights_of_each_signature_are_those_its_operators_use(toy_asset: Path) -> None:
    graph = read_graph(toy_asset / "model.tflite")
    assert graph is not None
    weights = weights_of(graph)
    expected = {
        "encoder": STEP_FRAMES * 3 * BANDS * JOINER + 2 * UNITS * JOINER,
        "predictor": len(TOKENS) * JOINER + 2 * UNITS * JOINER,
        "joiner": JOINER * len(TOKENS),
    }
    for name, values in expected.items():
        # besides: shapes, the constants of one_hot, its row for the blank
        assert 4 * values <= weights[name].bytes <= 4 * values + 4 * len(TOKENS) + 64


def toy_subgraph(*operators: Operator) -> Subgraph:
    """A table of 8 rows of 4 int8, an index, a row, and a constant of the same buffer as the table."""

    def tensor(shape: tuple[int, ...], buffer: int, size: int = 0) -> Tensor:
        return Tensor("", "INT8", shape, buffer, np.zeros(size, np.uint8), np.zeros(0, np.float32))

    return Subgraph([tensor((8, 4), 1, 32), tensor((1,), 0), tensor((1, 4), 0), tensor((8, 4), 1, 32)], operators)


@pytest.mark.parametrize(
    ("operators", "stored", "read"),
    [
        ([Operator("GATHER", (0, 1), (2,))], 32, 4),
        ([Operator("FULLY_CONNECTED", (2, 0, -1), (2,))], 32, 32),
        ([Operator("GATHER", (0, 1), (2,)), Operator("FULLY_CONNECTED", (2, 3, -1), (2,))], 32, 32),
        ([Operator("DEQUANTIZE", (0,), (3,))], 32, None),
    ],
)
def test_a_table_counts_with_the_rows_taken(operators: list[Operator], stored: int, read: int | None) -> None:
    found = weights_of(Graph([], {"s": toy_subgraph(*operators)}))["s"]
    assert (found.bytes, found.read_bytes) == (stored, read)


def test_a_signature_that_runs_other_subgraphs_is_left_out() -> None:
    assert weights_of(Graph([], {"s": toy_subgraph(Operator("WHILE", (0,), (2,)))})) == {}


def test_seeded_inputs_are_valid_and_the_same_again(toy_asset: Path, toy_voice: Path) -> None:
    for directory in (toy_asset, toy_voice):
        manifest = load_manifest(directory)
        for signature in open_model(manifest).signatures.values():
            a, b = (seeded_inputs(signature, manifest, np.random.default_rng(3)) for _ in range(2))
            assert {n: t.shape for n, t in signature.inputs.items()} == {
                n: x.shape for n, x in {**a, **zero_state(signature)}.items()
            }
            assert all(np.array_equal(a[n], b[n]) for n in a)
            assert run_steps(signature, [a, b], zero_state(signature))


def test_integers_stay_below_their_limits(toy_voice: Path) -> None:
    manifest = load_manifest(toy_voice)
    tensors = {"symbols": SimpleNamespace(shape=(10_000,)), "lengths": SimpleNamespace(shape=(10,))}
    signature = SimpleNamespace(inputs=tensors, outputs={})
    drawn = seeded_inputs(signature, manifest, np.random.default_rng(0))  # type: ignore[arg-type]
    assert drawn["symbols"].dtype == np.int32
    assert (drawn["symbols"].min(), drawn["symbols"].max()) == (1, len(manifest.symbols) - 1)  # type: ignore[attr-defined]
    assert set(drawn["lengths"]) == {manifest.shape("decoder", "inputs", "memory")[1]}
