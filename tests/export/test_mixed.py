"""Weights at fewer bits: layers are known by name, sizes are kept, errors are what was measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_quantizer")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "tensorflow":
    pytest.skip("exports run on the TensorFlow backend", allow_module_level=True)

from export.convert import Call, operators, relative_error  # noqa: E402
from export.layers import Layer, at_bits, float_layers, prepared, weight_errors  # noqa: E402
from export.mixed import Mixture, fewest, mix  # noqa: E402
from export.precision import Wanted, size_in_bytes, weights_of  # noqa: E402
from export.rnnt import convert, keras_steps, tflite_steps  # noqa: E402
from models.rnnt import Rnnt, RnntConfig  # noqa: E402
from ondevice.errors import InputError  # noqa: E402
from ondevice.litert import LiteRtModel  # noqa: E402
from ondevice.onnx_peer import onnx_signatures  # noqa: E402

CONFIG = RnntConfig(
    features=24, encoder_layers=3, encoder_units=64, encoder_projection=32, reduction_after=1, predictor_layers=1,
    predictor_units=64, predictor_projection=32, embedding=32, joiner=32, symbols=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def rnnt() -> Rnnt:
    keras.utils.set_random_seed(1)
    model = Rnnt(CONFIG)
    model.build()
    return model


@pytest.fixture(scope="module")
def source(rnnt: Rnnt) -> bytes:
    return convert(rnnt, "float32")


@pytest.fixture(scope="module")
def layers(rnnt: Rnnt, source: bytes) -> list[Layer]:
    return float_layers(prepared(source), weights_of(rnnt))


@pytest.fixture(scope="module")
def error(rnnt: Rnnt, tmp_path_factory: pytest.TempPathFactory) -> Call:
    features = np.random.default_rng(2).normal(size=(24, CONFIG.features)).astype(np.float32)
    tokens = [5, 9, 63]
    reference = keras_steps(rnnt, features, tokens)["joiner"]["logits"]
    path = tmp_path_factory.mktemp("measured") / "model.tflite"

    def measure(content: bytes) -> float:
        path.write_bytes(content)
        return relative_error(reference, tflite_steps(rnnt, LiteRtModel(path), features, tokens)["joiner"]["logits"])[1]

    return measure


@pytest.fixture(scope="module")
def mixture(source: bytes, rnnt: Rnnt, error: Call, layers: Sequence[Layer]) -> Mixture:
    content = prepared(source)
    wide, narrow = (len(at_bits(content, layers, {x.name: bits for x in layers})) for bits in (8, 4))
    return mix(source, weights_of(rnnt), error, (wide + narrow) // 2)


def test_layers_have_the_names_of_the_network(layers: Sequence[Layer], rnnt: Rnnt) -> None:
    names = {layer.name for layer in layers}
    assert {"encoder/lstm0/kernel", "encoder/lstm2/projection", "predictor/lstm0/recurrent"} <= names
    assert {"predictor/embedding/embeddings", "joiner/joiner_to_logits/kernel"} <= names
    matrices = [w for w in rnnt.weights if len(w.shape) == 2]
    assert len(layers) == len(names) == len(matrices)
    assert sum(layer.values for layer in layers) == sum(int(np.prod(w.shape)) for w in matrices)


def test_a_layer_that_runs_twice_a_step_is_one_layer(layers: Sequence[Layer]) -> None:
    counts = {layer.name: len(layer.operators) for layer in layers}
    assert counts["encoder/lstm0/kernel"] == CONFIG.reduction
    assert counts["encoder/lstm1/kernel"] == 1


def test_the_prepared_file_computes_the_same(source: bytes, error: Call) -> None:
    content = prepared(source)
    assert "EMBEDDING_LOOKUP" in operators(content)
    assert error(content) == error(source) < 1e-5


def test_two_constants_never_have_one_name(layers: Sequence[Layer], source: bytes, rnnt: Rnnt) -> None:
    nameless = float_layers(prepared(source), [("all", values) for _, values in weights_of(rnnt)])
    assert len({layer.name for layer in nameless}) == len(layers)


def test_errors_of_weights_are_told_layer_by_layer(
    source: bytes, layers: Sequence[Layer], rnnt: Rnnt, tmp_path: Path
) -> None:
    content, paths = prepared(source), {}
    for bits in (8, 4):
        made = at_bits(content, layers, {layer.name: bits for layer in layers})
        paths[bits] = tmp_path / f"{bits}.tflite"
        paths[bits].write_bytes(made)
    (tmp_path / "float.tflite").write_bytes(source)
    weights = weights_of(rnnt)
    for bits, low, high in ((8, 1e-3, 0.02), (4, 0.05, 0.2)):
        rows = weight_errors(paths[bits], tmp_path / "float.tflite", weights)
        assert {row["layer"] for row in rows} == {layer.name for layer in layers}
        assert {row["stored_as"] for row in rows} == {f"int{bits}"}
        assert all(low < row["error"] < high for row in rows)
    same = weight_errors(tmp_path / "float.tflite", tmp_path / "float.tflite", weights)
    assert {row["error"] for row in same} == {0.0}
    values = np.array(rnnt.encoder.layers_[0].kernel)  # by hand: a scale for each output, 7 steps either way
    scale = np.abs(values).max(axis=0) / 7
    expected = relative_error(values, np.clip(np.rint(values / scale), -8, 7) * scale)[1]
    errors = {row["layer"]: row["error"] for row in weight_errors(paths[4], tmp_path / "float.tflite", weights)}
    assert errors["encoder/lstm0/kernel"] == pytest.approx(expected, rel=0.02)


def test_fewer_bits_are_smaller_and_less_exact(source: bytes, layers: Sequence[Layer], error: Call) -> None:
    content = prepared(source)
    wide, narrow = (at_bits(content, layers, {x.name: bits for x in layers}) for bits in (8, 4))
    values = sum(layer.values for layer in layers)
    assert len(source) - len(wide) > 2.5 * values  # 4 bytes each become 1, and scales
    assert len(wide) - len(narrow) == pytest.approx(values / 2, rel=0.02)
    assert 1e-4 < error(wide) < 0.05 < error(narrow) < 0.9


def test_a_mixture_keeps_the_size_and_says_what_it_measured(mixture: Mixture, error: Call) -> None:
    content = mixture.file(mixture.chosen)
    assert len(content) == mixture.chosen.size
    assert error(content) == pytest.approx(mixture.chosen.error)
    first, last = mixture.curve[0], mixture.curve[-1]
    assert last.size < mixture.chosen.size < first.size
    assert first.error < mixture.chosen.error < last.error
    assert not first.narrow
    assert len(last.narrow) == len(mixture.layers)


def test_a_mixture_is_better_than_the_other_way_round(mixture: Mixture, source: bytes, error: Call) -> None:
    names = [layer.name for layer in mixture.layers]
    wide = [name for name in names if name not in mixture.chosen.narrow]
    assert 0 < len(wide) < len(names)
    by_cost = sorted(names, key=lambda name: -mixture.sensitivity[name])
    worst = at_bits(prepared(source), mixture.layers, dict.fromkeys(by_cost[: len(mixture.chosen.narrow)], 4))
    assert mixture.chosen.error < error(worst)


def test_one_narrow_layer_is_only_that_layer(source: bytes, layers: Sequence[Layer]) -> None:
    content = prepared(source)
    wide = len(at_bits(content, layers, {}))
    layer = next(x for x in layers if x.name == "encoder/lstm1/kernel")
    assert wide - len(at_bits(content, layers, {layer.name: 4})) == pytest.approx(layer.values / 2, abs=200)


def test_a_size_that_cannot_be_reached_says_the_smallest(source: bytes, rnnt: Rnnt, error: Call) -> None:
    with pytest.raises(InputError, match=r"cannot be reached at mixed; the smallest is 0\.\d+ MB$"):
        mix(source, weights_of(rnnt), error, 1000)
    with pytest.raises(InputError, match=r"at float32; the smallest is 0\.\d+ MB; mixed or int4 may reach less"):
        Wanted.parse("float32", "1kB").make(lambda _: b"", source, weights_of(rnnt), error)


@pytest.mark.parametrize("narrow", [True, False])
def test_narrow_and_half_wide_files_are_timed_in_onnx_too(
    rnnt: Rnnt, source: bytes, layers: Sequence[Layer], tmp_path: Path, narrow: bool
) -> None:
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name)
    four = dict.fromkeys((layer.name for layer in layers), 4)
    path = tmp_path / "model.tflite"
    path.write_bytes(at_bits(prepared(source), layers, four) if narrow else convert(rnnt, "float16"))
    like, rng = LiteRtModel(path).signatures, np.random.default_rng(0)
    peers = {name: peer for precision, name, _, peer in onnx_signatures(path, like, 1) if precision == "float32"}
    inputs = {name: rng.normal(size=(1, CONFIG.joiner)).astype(np.float32) for name in ("encoded", "predicted")}
    made, expected = (signatures["joiner"](inputs)["logits"] for signatures in (peers, like))
    assert relative_error(expected, made)[1] < 0.02


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_the_fewest_that_fit(count: int) -> None:
    assert fewest(7, lambda n: n >= count) == count


@pytest.mark.parametrize(("text", "size"), [("80MB", 80_000_000), ("1.5 kb", 1500), ("700", 700), ("2G", 2 * 10**9)])
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "80 apples", "nan", "inf", "0"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="--max-size"):
        size_in_bytes(text)


def test_what_can_be_asked() -> None:
    assert Wanted.parse("int8").precision == "dynamic-int8"
    assert Wanted.parse("mixed", "80MB") == Wanted("dynamic-mixed", 80_000_000)
    with pytest.raises(InputError, match="float32, float16, int8, int8-full, int4, mixed"):
        Wanted.parse("int3")
    with pytest.raises(InputError, match="--max-size"):
        Wanted.parse("mixed")


def test_weights_that_are_no_numbers_are_refused() -> None:
    keras.utils.set_random_seed(1)
    model = Rnnt(CONFIG)
    model.build()
    model.joiner_to_logits.bias.assign(np.full(CONFIG.symbols, np.nan, np.float32))
    with pytest.raises(InputError, match=r"joiner_to_logits/bias.*finite"):
        weights_of(model)
