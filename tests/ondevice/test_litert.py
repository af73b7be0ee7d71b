"""The interpreter adapter: which interpreter runs, what it refuses, and quantised tensors."""

import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ondevice import litert
from ondevice.assets import load_manifest
from ondevice.errors import FailureError, InputError
from ondevice.litert import Backend, LiteRtModel, Quantisation, choose_backend, requantise
from ondevice.manifest_base import SignatureSpec
from ondevice.opening import open_model
from tests.ondevice.toy import JOINER, TOKENS, UNITS


@pytest.fixture
def fresh_backends():
    litert.backends.cache_clear()
    litert._try_backend.cache_clear()
    yield
    litert.backends.cache_clear()
    litert._try_backend.cache_clear()


def test_named_tensors_of_every_signature(toy_asset: Path) -> None:
    model = open_model(load_manifest(toy_asset))
    assert set(model.signatures) == {"encoder", "predictor", "joiner"}
    zeros = np.zeros((1, UNITS), np.float32)
    made = model.signatures["predictor"]({"token": np.array([3], np.int32), "predictor_h0": zeros})
    assert made["predicted"].shape == (1, JOINER)
    logits = model.signatures["joiner"]({"encoded": made["predicted"], "predicted": made["predicted"]})["logits"]
    assert logits.shape == (1, len(TOKENS))
    assert logits.dtype == np.float32
    assert model.backend.name in litert._BACKENDS
    assert model.backend.version[0].isdigit()


@pytest.mark.parametrize("resizes", [True, False])
def test_many_rows_are_each_what_they_are_alone(toy_asset: Path, resizes: bool) -> None:
    joiner = LiteRtModel(toy_asset / "model.tflite").signatures["joiner"]
    joiner._resizes = resizes
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(5, *spec.shape[1:])).astype(np.float32) for name, spec in joiner.inputs.items()}
    found = joiner.rows(inputs)["logits"]
    assert found.shape == (5, len(TOKENS))
    for i, row in enumerate(found):
        alone = joiner({name: array[i : i + 1] for name, array in inputs.items()})["logits"]
        np.testing.assert_array_equal(row, alone[0])


@pytest.mark.parametrize(("name", "resizes"), [("ai_edge_litert", True), ("tflite_runtime", False)])
def test_no_rows_at_once_where_the_interpreter_would_crash(
    toy_asset: Path, monkeypatch: pytest.MonkeyPatch, name: str, resizes: bool
) -> None:
    backend = replace(choose_backend(), name=name)
    monkeypatch.setattr(litert, "choose_backend", lambda *_: backend)
    model = LiteRtModel(toy_asset / "model.tflite")
    assert all(signature._resizes is resizes for signature in model.signatures.values())


def test_outputs_are_not_overwritten_by_the_next_call(toy_asset: Path) -> None:
    predictor = open_model(load_manifest(toy_asset)).signatures["predictor"]
    zeros = np.zeros((1, UNITS), np.float32)
    first = predictor({"token": np.array([3], np.int32), "predictor_h0": zeros})["predicted"]
    copy = first.copy()
    predictor({"token": np.array([4], np.int32), "predictor_h0": zeros})
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize(
    ("version", "requirement", "meets"),
    [
        ("2.3.0", "ai_edge_litert", True),
        ("2.3.0", "ai_edge_litert>=2.0", True),
        ("2.3.0", "ai_edge_litert>=2.10", False),
        ("2.3.0", "ai_edge_litert>=2,<3", True),
        ("3.0", "ai_edge_litert>=2,<3", False),
        ("2.3.0", "ai_edge_litert==2.3", True),
        ("2.3.0.dev4", "ai_edge_litert>2.3", False),
        ("2.3.0", "tflite_runtime>=2.0", False),
    ],
)
def test_interpreter_requirements(version: str, requirement: str, meets: bool) -> None:
    assert Backend("ai_edge_litert", version, None).satisfies(requirement) is meets


def test_an_interpreter_the_manifest_does_not_allow_is_refused(toy_asset: Path) -> None:
    manifest = replace(load_manifest(toy_asset), interpreters=("ai_edge_litert>=99",))
    with pytest.raises(FailureError, match=r"model\.tflite: needs the interpreter ai_edge_litert>=99, found .*\d"):
        open_model(manifest)


def test_an_interpreter_that_imports_but_does_not_run_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, fresh_backends: None
) -> None:
    class Broken:
        def __init__(self, **options: object) -> None:
            raise SystemError("_ARRAY_API not found")  # what tflite_runtime does under NumPy 2

    working = litert._try_backend("ai_edge_litert")
    assert working is not None
    broken = types.ModuleType("ai_edge_litert.interpreter")
    broken.Interpreter = Broken
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", broken)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", working.module)
    litert._try_backend.cache_clear()
    assert choose_backend().name == "tflite_runtime"


def test_no_interpreter_says_what_to_install(monkeypatch: pytest.MonkeyPatch, fresh_backends: None) -> None:
    monkeypatch.setattr(litert, "_BACKENDS", {"ai_edge_litert": ("no_such_module", ())})
    with pytest.raises(FailureError, match="found none that works; try: pip install ai-edge-litert"):
        choose_backend()


@pytest.mark.parametrize("content", [b"x", b"not a model at all" * 100])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.tflite: .* cannot load it .*; expected a TFLite model"):
        LiteRtModel(path)


def test_a_truncated_model(toy_asset: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    data = (toy_asset / "model.tflite").read_bytes()
    for size in (8, 100, len(data) // 2, len(data) - 1000):
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match="expected a TFLite model"):
            LiteRtModel(path)


def test_signatures_must_be_the_manifests(toy_asset: Path) -> None:
    manifest = load_manifest(toy_asset)

    def with_predictor(**changes: object) -> object:
        spec = replace(manifest.signatures["predictor"], **changes)
        return replace(manifest, signatures={**manifest.signatures, "predictor": spec})

    with pytest.raises(InputError, match=r"has shape \[1, 8\], but the manifest says \[1, 9\]"):
        open_model(with_predictor(outputs={"predicted": (1, 9)}))
    with pytest.raises(InputError, match=r"but the manifest lists .*'predictor_c0'"):
        open_model(with_predictor(state={"predictor_c0": (1, UNITS)}))
    extra = {**manifest.signatures, "vocoder": SignatureSpec({}, {}, {})}
    with pytest.raises(InputError, match=r"no signature 'vocoder'.* it has encoder, joiner, predictor"):
        open_model(replace(manifest, signatures=extra))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # LiteRT's half-made delegate
def test_bad_threads_and_delegate(toy_asset: Path) -> None:
    with pytest.raises(InputError, match="threads 0: expected 1 to 256"):
        LiteRtModel(toy_asset / "model.tflite", threads=0)
    with pytest.raises(FailureError, match=r"delegate libnone\.so: cannot be loaded"):
        LiteRtModel(toy_asset / "model.tflite", delegate="libnone.so")


def test_quantisation_rounds_half_away_from_zero_and_clips() -> None:
    q = Quantisation(0.5, 3, np.dtype(np.int8))
    values = [0.25, -0.25, 0.2, 1.0, 1000.0, -1000.0]
    np.testing.assert_array_equal(q.quantise(values), [4, 2, 3, 5, 127, -128])
    np.testing.assert_array_equal(q.dequantise(np.array([3, 5, -128], np.int8)), [0.0, 1.0, -65.5])
    assert q.quantise(values).dtype == np.int8


def test_requantisation_keeps_the_value_within_half_a_step() -> None:
    source, target = Quantisation(0.01, -5, np.dtype(np.int8)), Quantisation(0.02, 7, np.dtype(np.int8))
    stored = np.arange(-128, 128).astype(np.int8)
    moved = requantise(stored, source, target)
    assert np.abs(target.dequantise(moved) - source.dequantise(stored)).max() <= 0.01 + 1e-6
    assert requantise(stored, source, source) is stored


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_full_int8_file_takes_and_gives_floats(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    weights = tf.constant(np.linspace(-1, 1, 12).reshape(4, 3).astype(np.float32))

    class Step(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
        def step(self, x):
            return {"y": x @ weights}

    module = Step()
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"step": module.step})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"), signature_keys=["step"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    grid = np.random.default_rng(0).uniform(-2, 2, (50, 1, 4)).astype(np.float32)
    converter.representative_dataset = lambda: (("step", {"x": x}) for x in grid)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    (tmp_path / "int8.tflite").write_bytes(converter.convert())
    signature = LiteRtModel(tmp_path / "int8.tflite").signatures["step"]
    assert signature.inputs["x"].quantisation is not None
    for x in grid[:5]:
        y = signature({"x": x})["y"]
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, x @ weights.numpy(), atol=0.06)
