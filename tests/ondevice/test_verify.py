"""`ondevice verify`: every check fails on what it is for, and on nothing else."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ondevice import verify as checks
from ondevice.assets import load_manifest, sha256_of
from ondevice.cli.verify import verify as command
from ondevice.errors import InputError
from ondevice.opening import open_model
from ondevice.trial import run_steps, seeded_inputs, state_of, zero_state
from ondevice.verify import FAILED, OK, PROOF_FILE, SKIPPED, RecordedCall, read_proof, relative_rms, verify, write_proof
from tests.ondevice.toy import BANDS, JOINER, SIGNATURES, STEP_FRAMES, TOKENS, UNITS, manifest_values, write_manifest

runner = CliRunner()
app = typer.Typer()
app.command()(command)


@pytest.fixture(scope="session")
def two_states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy with two states of one shape in its encoder."""
    return build(tmp_path_factory.mktemp("two") / "two", lambda token, a: {"predictor_h0": a * 0.5 + token})


@pytest.fixture
def asset(toy_asset: Path, tmp_path: Path) -> Path:
    """A copy of the toy, with a proof, to break."""
    copy = shutil.copytree(toy_asset, tmp_path / "copy")
    write_proof(copy / PROOF_FILE, records_of(copy))
    return copy


def build(directory: Path, next_state: Callable[[Any, Any], dict[str, Any]], used: bool = True) -> Path:
    """An asset whose weights are constants; `next_state` is the predictor's, which makes use of it or not."""
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(5)
    listen, keep, embed = (
        rng.normal(0, 0.3, shape).astype(np.float32)
        for shape in ((STEP_FRAMES * 3 * BANDS, UNITS), (UNITS, JOINER), (len(TOKENS), JOINER))
    )

    def encoder(features: Any, encoder_h0: Any, encoder_h1: Any) -> dict[str, Any]:
        h0 = tf.tanh(tf.reshape(features, [1, -1]) @ listen + encoder_h0)
        h1 = tf.tanh(0.5 * encoder_h1 - h0)
        return {"encoded": (h0 + 2 * h1 + encoder_h1) @ keep, "encoder_h0": h0, "encoder_h1": h1}

    def predictor(token: Any, predictor_h0: Any) -> dict[str, Any]:
        shown = predictor_h0 @ keep if used else 0.0
        row = tf.one_hot(token, len(TOKENS)) @ embed
        return {"predicted": row + shown, **next_state(row[:, :UNITS], predictor_h0)}

    def joiner(encoded: Any, predicted: Any) -> dict[str, Any]:
        return {"logits": (encoded + predicted) @ embed.T}

    values = [(encoder, {"features": (1, STEP_FRAMES, 3 * BANDS), "encoder_h0": (1, UNITS), "encoder_h1": (1, UNITS)})]
    values += [(predictor, {"token": (1,), "predictor_h0": (1, UNITS)})]
    values += [(joiner, {"encoded": (1, JOINER), "predicted": (1, JOINER)})]
    module, functions = tf.Module(), {}
    for function, shapes in values:
        specs = [tf.TensorSpec(s, tf.int32 if n == "token" else tf.float32, name=n) for n, s in shapes.items()]
        functions[function.__name__] = tf.function(function, input_signature=specs)
    saved = directory.parent / f"{directory.name}-saved"
    tf.saved_model.save(module, str(saved), signatures=functions)
    directory.mkdir(parents=True)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=list(functions))
    (directory / "model.tflite").write_bytes(converter.convert())
    manifest = manifest_values(directory)
    manifest["signatures"]["encoder"]["state"] = {"encoder_h0": [1, UNITS], "encoder_h1": [1, UNITS]}
    write_manifest(directory, manifest)
    write_proof(directory / PROOF_FILE, records_of(directory))
    return directory


def outcome(directory: Path) -> dict[str, checks.Check]:
    return {check.name: check for check in verify(directory)}


def failed(directory: Path) -> set[str]:
    return {name for name, check in outcome(directory).items() if check.status == FAILED}


def change_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((directory / "manifest.json").read_text())
    change(values)
    write_manifest(directory, values)


def change_model(directory: Path, change: Callable[[Any, Any], object], signed: bool = True) -> None:
    """Change the model's flatbuffer, `change(schema, model)`; the manifest's sha256 follows when `signed`."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    path = directory / "model.tflite"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    change(schema, model)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    if signed:
        entry = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        change_manifest(directory, lambda values: values["files"].update({"model.tflite": entry}))


def records_of(directory: Path) -> dict[str, list[RecordedCall]]:
    manifest, records = load_manifest(directory), {}
    for name, signature in open_model(manifest).signatures.items():
        rng = np.random.default_rng(9)
        inputs = [seeded_inputs(signature, manifest, rng) for _ in range(2)]
        made = run_steps(signature, inputs, zero_state(signature))
        states = [zero_state(signature), state_of(signature, made[0])]
        records[name] = [RecordedCall({**i, **s}, o) for i, s, o in zip(inputs, states, made, strict=True)]
    return records


def test_a_whole_asset_passes_every_check(asset: Path) -> None:
    done = runner.invoke(app, [str(asset)], catch_exceptions=False)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert all(line.split()[0] == "ok" for line in lines)
    assert lines[-1].startswith("ok       proof")
    for name in ("manifest", "file model.tflite", "interpreter", "signatures", "state encoder", "finite joiner"):
        assert any(line.startswith(f"ok       {name} ") for line in lines), name
    assert {"weights present", "weights finite"} <= set(outcome(asset))


def test_an_asset_without_its_proof_fails(asset: Path) -> None:
    (asset / PROOF_FILE).unlink()
    assert failed(asset) == {"proof"}
    assert "no proof.npz, which every export writes" in outcome(asset)["proof"].detail


def test_voices_and_vocoders_pass(toy_voice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDEVICE_ASSETS", str(toy_voice.parent))
    assert not failed(toy_voice)
    assert not failed(toy_voice.parent / "toy-vocoder")
    found = outcome(toy_voice)
    assert (found["open pronunciation.npz"].status, found["vocoder"].detail) == (OK, "toy-vocoder")


def test_a_vocoder_that_is_not_here_is_a_warning(toy_voice: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(toy_voice, tmp_path / "alone")
    change_manifest(alone, lambda v: v.update(vocoder="no-such-vocoder"))
    done = runner.invoke(app, [str(alone)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "warning  vocoder            unknown model 'no-such-vocoder'" in done.stdout


def put(directory: Path, name: str, content: bytes) -> None:
    """A file of the asset, listed as it is."""
    (directory / name).write_bytes(content)
    entry = {"sha256": sha256_of(directory / name), "bytes": len(content)}
    change_manifest(directory, lambda values: values["files"].update({name: entry}))


def test_files_that_are_listed_are_opened(with_lm: Path, toy_voice: Path, tmp_path: Path) -> None:
    assert outcome(with_lm)["open lm.npz"].status == OK
    asset, voice = (shutil.copytree(source, tmp_path / source.name) for source in (with_lm, toy_voice))
    put(asset, "lm.npz", (asset / "lm.npz").read_bytes()[:-30])
    put(voice, "pronunciation.npz", b"xx")
    assert failed(asset) == {"open lm.npz", "proof"}  # the toy has none
    assert failed(voice) == {"open pronunciation.npz"}


def test_tokens_are_the_pieces(asset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Processor:
        def __init__(self, model_file: str) -> None:
            assert model_file == str(asset / "pieces.model")

        vocab_size = staticmethod(lambda: len(TOKENS))
        id_to_piece = staticmethod(lambda i: TOKENS[i])

    put(asset, "pieces.model", b"pieces")
    monkeypatch.setitem(sys.modules, "sentencepiece", SimpleNamespace(SentencePieceProcessor=Processor))
    assert outcome(asset)["tokens"].detail == f"{len(TOKENS)} as in pieces.model"
    change_manifest(asset, lambda v: v.update(tokens=[*TOKENS[:2], TOKENS[3], TOKENS[2], *TOKENS[4:]]))
    assert failed(asset) == {"tokens"}
    assert f"piece 2 is {TOKENS[2]!r}, but the manifest's token is {TOKENS[3]!r}" in outcome(asset)["tokens"].detail
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert outcome(asset)["tokens"].status == SKIPPED


def test_json_says_the_same(asset: Path) -> None:
    (asset / "model.tflite").write_bytes(b"short")
    done = runner.invoke(app, [str(asset), "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report["passed"] is False
    assert report["directory"] == str(asset)
    assert {row["name"]: row["status"] for row in report["checks"]}["file model.tflite"] == FAILED
    assert all(set(row) == {"name", "status", "detail"} for row in report["checks"])


def test_an_unknown_model_is_bad_input(toy_asset: Path) -> None:
    assert isinstance(runner.invoke(app, ["nobody"]).exception, InputError)


def test_one_changed_byte_is_noticed_and_the_file_not_run(asset: Path) -> None:
    content = bytearray((asset / "model.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (asset / "model.tflite").write_bytes(content)
    found = outcome(asset)
    assert found["file model.tflite"].status == FAILED
    assert "sha256" in found["file model.tflite"].detail
    assert {found[name].status for name in ("signatures", "state", "finite", "proof")} == {SKIPPED}


def test_a_wrong_sha_and_a_missing_file(asset: Path) -> None:
    (asset / "lm.npz").write_bytes(b"12345")
    change_manifest(asset, lambda v: v["files"].update({"lm.npz": {"sha256": "0" * 64, "bytes": 5}}))
    assert failed(asset) == {"file lm.npz"}
    (asset / "lm.npz").unlink()
    assert failed(asset) == {"file lm.npz"}
    (asset / "model.tflite").unlink()
    assert failed(asset) == {"file lm.npz", "file model.tflite", "weights present"}


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', "\xff"])
def test_a_manifest_that_cannot_be_read(asset: Path, text: str) -> None:
    (asset / "manifest.json").write_text(text, encoding="latin-1")
    assert failed(asset) == {"manifest"}
    assert outcome(asset)["weights finite"].status == OK  # what needs no manifest is checked all the same


def test_an_interpreter_that_is_not_here(asset: Path) -> None:
    change_manifest(asset, lambda v: v.update(interpreters=["ai_edge_litert>=99"]))
    assert failed(asset) == {"interpreter"}


def test_state_names_swapped_in_the_manifest(asset: Path) -> None:
    def swap(values: dict[str, Any]) -> None:
        encoder, predictor = (values["signatures"][n] for n in ("encoder", "predictor"))
        encoder["state"], predictor["state"] = predictor["state"], encoder["state"]

    change_manifest(asset, swap)
    assert failed(asset) == {"signatures", "state encoder", "state predictor"}


def test_a_state_left_out_of_the_manifest_or_of_another_shape(asset: Path) -> None:
    change_manifest(asset, lambda v: v["signatures"]["encoder"].update(state={}))
    assert failed(asset) == {"signatures", "state encoder"}
    change_manifest(asset, lambda v: v["signatures"]["encoder"].update(state={"encoder_h0": [1, UNITS + 1]}))
    assert failed(asset) == {"signatures", "state encoder"}


def test_a_signature_the_manifest_does_not_list(asset: Path) -> None:
    change_manifest(asset, lambda v: v["signatures"].update(extra=SIGNATURES["joiner"]))
    assert failed(asset) == {"signatures"}


def test_a_state_that_never_changes(tmp_path: Path) -> None:
    stuck = build(tmp_path / "stuck", lambda token, a: {"predictor_h0": 0.0 * token + 0.25})
    assert failed(stuck) == {"state predictor"}
    assert "predictor_h0 never changes" in outcome(stuck)["state predictor"].detail


def test_a_state_that_nothing_depends_on(tmp_path: Path) -> None:
    idle = build(tmp_path / "idle", lambda token, a: {"predictor_h0": 0.5 * a + token}, used=False)
    assert failed(idle) == {"state predictor"}
    assert "nothing depends on it" in outcome(idle)["state predictor"].detail


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(asset: Path, value: float) -> None:
    def spoil(schema: Any, model: Any) -> None:
        graph = model.subgraphs[next(s.subgraphIndex for s in model.signatureDefs if s.signatureKey == b"encoder")]
        weights = max(
            (model.buffers[t.buffer] for t in graph.tensors), key=lambda b: 0 if b.data is None else len(b.data)
        )
        values = np.frombuffer(bytes(weights.data), np.float32).copy()
        values[3] = value
        weights.data = np.frombuffer(values.tobytes(), np.uint8)

    change_model(asset, spoil)
    found = failed(asset)
    assert {"weights finite", "finite encoder"} <= found
    assert not {"file model.tflite", "weights present", "signatures", "finite joiner"} & found


def test_a_scale_that_is_no_number(asset: Path) -> None:
    def spoil(schema: Any, model: Any) -> None:
        tensor = next(t for t in model.subgraphs[0].tensors if model.buffers[t.buffer].data is not None)
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = [float("nan")]

    change_model(asset, spoil, signed=False)
    assert {"weights finite", "file model.tflite"} <= failed(asset)


def test_weights_left_outside_the_file(asset: Path) -> None:
    def outside(schema: Any, model: Any) -> None:
        code = schema.BuiltinOperator.READ_VARIABLE
        model.operatorCodes[0].builtinCode, model.operatorCodes[0].deprecatedBuiltinCode = code, 127

    change_model(asset, outside, signed=False)  # unsigned: nobody should run it
    assert "READ_VARIABLE" in outcome(asset)["weights present"].detail


def test_a_file_too_small_for_its_parameters(asset: Path) -> None:
    change_manifest(asset, lambda v: v.update(parameters=10**9))
    assert failed(asset) == {"weights present"}


def test_a_corrupt_flatbuffer_is_one_line(asset: Path) -> None:
    content = (asset / "model.tflite").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(30):
        broken = bytearray(content)
        for place in rng.integers(8, len(broken), 20):
            broken[place] = rng.integers(256)
        (asset / "model.tflite").write_bytes(broken)
        assert "file model.tflite" in failed(asset)


def test_a_proof_is_replayed(two_states: Path, tmp_path: Path) -> None:
    asset = shutil.copytree(two_states, tmp_path / "copy")
    write_proof(asset / PROOF_FILE, records_of(asset))
    assert outcome(asset)["proof"].status == OK
    assert "recorded here" in outcome(asset)["proof"].detail
    assert not failed(asset)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_swapped_states_of_one_shape_are_noticed_by_the_proof(two_states: Path, tmp_path: Path, side: str) -> None:
    asset = shutil.copytree(two_states, tmp_path / "copy")
    write_proof(asset / PROOF_FILE, records_of(asset))

    def swap(schema: Any, model: Any) -> None:
        encoder = next(s for s in model.signatureDefs if s.signatureKey == b"encoder")
        a, b = (next(t for t in getattr(encoder, side) if t.name == n) for n in (b"encoder_h0", b"encoder_h1"))
        a.tensorIndex, b.tensorIndex = b.tensorIndex, a.tensorIndex

    change_model(asset, swap)
    assert failed(asset) == {"proof"}


@pytest.mark.parametrize(("amount", "elsewhere", "passes"), [
    (5e-4, False, True), (5e-3, False, False), (5e-3, True, True), (5e-2, True, False),
])  # fmt: skip
def test_a_proof_from_elsewhere_may_differ_more(
    asset: Path, monkeypatch: pytest.MonkeyPatch, amount: float, elsewhere: bool, passes: bool
) -> None:
    records = records_of(asset)
    inputs, outputs = records["joiner"][1]
    records["joiner"][1] = RecordedCall(inputs, {"logits": outputs["logits"] * np.float32(1 + amount)})
    write_proof(asset / PROOF_FILE, records)
    if elsewhere:
        monkeypatch.setattr(checks, "machine", lambda: "another")
    assert (outcome(asset)["proof"].status == OK) == passes


def test_proofs_that_do_not_fit(asset: Path) -> None:
    records = records_of(asset)
    path = asset / PROOF_FILE
    write_proof(path, {n: calls for n, calls in records.items() if n != "joiner"})
    assert failed(asset) == {"proof"}
    inputs, outputs = records["joiner"][0]
    write_proof(path, {**records, "joiner": [RecordedCall({"encoded": inputs["encoded"]}, outputs)] * 2})
    assert failed(asset) == {"proof"}
    for content in (b"", b"no zip", path.read_bytes()[:-40]):
        path.write_bytes(content)
        assert failed(asset) == {"proof"}
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert failed(asset) == {"proof"}
    np.savez(path, **{"joiner/2/in/encoded": np.zeros(3)})
    assert "joiner/2/in/encoded" in outcome(asset)["proof"].detail
    with pytest.raises(InputError, match="1 calls; expected 2"):
        write_proof(path, {"joiner": records["joiner"][:1]})


def test_a_proof_is_read_as_it_was_written(asset: Path) -> None:
    records = records_of(asset)
    write_proof(asset / PROOF_FILE, records)
    with np.load(asset / PROOF_FILE) as file:
        assert "predictor/1/in/predictor_h0" in file.files
    proof = read_proof(asset / PROOF_FILE)
    assert proof.records["predictor"][0].inputs["token"].dtype == np.int32
    for name, calls in records.items():
        for written, read in zip(calls, proof.records[name], strict=True):
            for a, b in zip(written, read, strict=True):
                assert a.keys() == b.keys()
                assert all(np.array_equal(a[n], b[n]) for n in a)


def test_relative_error() -> None:
    assert relative_rms(np.array([3.0, 4.0]), np.array([3.0, 4.0])) == 0.0
    assert relative_rms(np.array([2.2]), np.array([2.0])) == pytest.approx(0.1)
    assert relative_rms(np.array([0.1]), np.array([0.0])) > 1.0
    assert not relative_rms(np.array([np.nan]), np.array([1.0])) <= 1.0
