"""A recogniser at 8 bits everywhere: equal to its bounded network, whole on an Edge TPU, parts used where one is."""

import logging
import os
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from export.asset import Card, build_asset  # noqa: E402
from export.convert import parity  # noqa: E402
from export.edgetpu import audit, split_signatures, tensor_order  # noqa: E402
from export.full_int8 import CELL_CLIP, Embedding, bounded, convert_full  # noqa: E402
from export.precision import Wanted  # noqa: E402
from export.rnnt import keras_steps, tflite_steps  # noqa: E402
from models.pieces import train_pieces  # noqa: E402
from models.recipe import Trained  # noqa: E402
from models.rnnt import TINY, Rnnt  # noqa: E402
from ondevice import opening  # noqa: E402
from ondevice.assets import load_manifest  # noqa: E402
from ondevice.errors import FailureError, InputError  # noqa: E402
from ondevice.features import LogMelConfig  # noqa: E402
from ondevice.litert import LiteRtModel  # noqa: E402
from ondevice.opening import load_embedding, look_up, open_model  # noqa: E402
from ondevice.recognizer import Recognizer  # noqa: E402
from ondevice.utterances import Utterance  # noqa: E402
from ondevice.verify import FAILED, verify  # noqa: E402

SIZES = replace(TINY, encoder_projection=8, predictor_projection=8, joiner=8, embedding=8)  # fours, as the TPU wants
rng = np.random.default_rng(0)
RUNS = [(rng.normal(size=(24, SIZES.features)).astype(np.float32), [1, 5, 3, 8, 2]) for _ in range(4)]


@pytest.fixture(scope="module")
def rnnt() -> Rnnt:
    keras.utils.set_random_seed(0)
    rnnt = Rnnt(SIZES)
    rnnt.build()
    rnnt.embedding.embeddings.assign(rng.normal(size=(SIZES.symbols, SIZES.embedding)))  # as large as trained ones
    return rnnt


@pytest.fixture(scope="module")
def full(rnnt: Rnnt) -> tuple[bytes, Embedding]:
    return convert_full(rnnt, RUNS, per_tensor=True)


def opened(content: bytes, embedding: Embedding, folder: Path) -> LiteRtModel:
    path = folder / "model.tflite"
    path.write_bytes(content)
    model = LiteRtModel(path)
    model.signatures["predictor"] = opening.Lookup(
        model.signatures["predictor"], embedding.rows.astype(np.float32) * np.float32(embedding.scale)
    )
    return model


def test_every_tensor_follows_the_bounded_network(rnnt: Rnnt, full: tuple[bytes, Embedding], tmp_path: Path) -> None:
    reference = keras_steps(bounded(rnnt), *RUNS[0])
    rows = parity(reference, tflite_steps(rnnt, opened(*full, tmp_path), *RUNS[0]))
    assert max(row["relative_rms"] for row in rows) < 0.1
    found = audit(full[0])
    assert found.maps, found.lines()
    assert "scale for each channel" not in " ".join(found.notes)


def test_cells_stay_within_bounds(rnnt: Rnnt) -> None:
    assert bounded(rnnt).config.cell_clip == CELL_CLIP
    tight = Rnnt(replace(SIZES, cell_clip=0.1))
    tight.build()
    tight.set_weights(rnnt.get_weights())
    assert bounded(tight) is tight
    loud = [(8 * features, tokens) for features, tokens in RUNS]
    cells = keras_steps(tight, *loud[0])["encoder"]["encoder_c0"]
    assert np.abs(cells).max() == pytest.approx(0.1)
    assert np.abs(keras_steps(rnnt, *loud[0])["encoder"]["encoder_c0"]).max() > 0.2


def test_the_embedding_loses_no_more_than_8_bits(rnnt: Rnnt) -> None:
    made = Embedding.of(rnnt)
    table = keras.ops.convert_to_numpy(rnnt.embedding.embeddings)
    np.testing.assert_allclose(made.rows * made.scale, table, atol=0.51 * made.scale)


def test_a_part_without_names_is_the_signature(full: tuple[bytes, Embedding], tmp_path: Path) -> None:
    """Compilers may drop names of signatures; the order of their tensors remains."""
    whole = opened(*full, tmp_path).signatures["encoder"]
    content = split_signatures(full[0])["encoder"]
    path = tmp_path / "encoder.tflite"
    path.write_bytes(content)
    part = LiteRtModel(path).in_order(*tensor_order(content))
    inputs = {name: rng.normal(size=spec.shape).astype(np.float32) for name, spec in whole.inputs.items()}
    for name, value in part(inputs).items():
        np.testing.assert_array_equal(value, whole(inputs)[name])
    with pytest.raises(InputError, match="7 inputs; expected 2: x, y"):
        LiteRtModel(path).in_order(("x", "y"), ("z",))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    keras.utils.set_random_seed(0)
    config, pieces = LogMelConfig(), tmp_path_factory.mktemp("run") / "pieces.model"
    train_pieces(["one two three four five six", "seven eight nine ten eleven twelve"] * 10, 24, pieces)
    rnnt = Rnnt(replace(SIZES, features=config.stack * config.bands, symbols=24))
    rnnt.build()
    return Trained(rnnt, pieces, np.full(config.bands, -6.0), np.full(config.bands, 3.0), config)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Utterance:
    path = tmp_path_factory.mktemp("speech") / "one.wav"
    soundfile.write(path, rng.normal(0, 0.1, 16_000), 16_000)
    return Utterance("one.wav", path, "one two", "tones", "manifest.jsonl:1", None, None)


def build(trained: Trained, recording: Utterance, target: Path) -> dict[str, Any]:
    return build_asset(
        trained, target, Card("toy", "random", "CC0"), Wanted.parse("int8-full", target="edgetpu"),
        (recording.samples(16_000), recording.text), calibration=[recording],
    )  # fmt: skip


def test_an_asset_has_parts_for_the_compiler(trained: Trained, recording: Utterance, tmp_path: Path) -> None:
    report = build(trained, recording, tmp_path / "toy")
    manifest = load_manifest(tmp_path / "toy")
    assert {"encoder.tflite", "predictor.tflite", "joiner.tflite", "embedding.npz"} <= set(manifest.files)
    assert not manifest.edge_tpu  # no compiler here
    assert [row["on_edge_tpu"] == row["operators"] > 0 for row in report["edge_tpu"]] == [True] * 3
    assert all(check.status != FAILED for check in verify(tmp_path / "toy"))
    assert "On an Edge TPU" in (tmp_path / "toy" / "report.html").read_text()
    Recognizer(manifest).transcribe(recording.samples(16_000))


def test_compiled_parts_run_where_a_device_is_and_else_the_whole_file(
    trained: Trained, recording: Utterance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    program = tmp_path / "bin" / "edgetpu_compiler"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncp "$4" "$3/$(basename "$4" .tflite)_edgetpu.tflite"\n')  # -s -o DIRECTORY MODEL
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    report = build(trained, recording, tmp_path / "toy")
    assert all(row["compiler"]["output"] == f"{row['signature']}_edgetpu.tflite" for row in report["edge_tpu"])
    manifest = load_manifest(tmp_path / "toy")
    assert set(manifest.edge_tpu) == {"encoder", "predictor", "joiner"}
    with caplog.at_level(logging.INFO):
        whole = open_model(manifest)
    assert not whole.on_edge_tpu
    assert "runs on the CPU: delegate libedgetpu" in caplog.text
    absent = ("toy: has parts for an Edge TPU, but none can be used here; all of it runs on the CPU",)
    assert Recognizer(manifest).notes == opening.edge_tpu_notes(manifest, whole) == absent

    def without_delegate(path: Path, threads: int, interpreters: tuple[str, ...], _: str | None) -> LiteRtModel:
        return LiteRtModel(path, threads, interpreters)

    def one_device(path: Path, threads: int, interpreters: tuple[str, ...], library: str | None = None) -> LiteRtModel:
        if library and Path(path).name == "predictor_edgetpu.tflite":  # the last of them
            raise FailureError("delegate: the device is taken")
        return LiteRtModel(path, threads, interpreters)

    monkeypatch.setattr(opening, "LiteRtModel", one_device)
    assert not open_model(manifest).on_edge_tpu  # all or nothing
    monkeypatch.setattr(opening, "LiteRtModel", without_delegate)
    with caplog.at_level(logging.INFO):
        parts = open_model(manifest)
    assert parts.on_edge_tpu == ["encoder", "joiner", "predictor"]
    assert "encoder, joiner, predictor on the Edge TPU" in caplog.text
    assert parts.runs_on == f"{whole.runs_on}; encoder, joiner, predictor on the Edge TPU"
    assert Recognizer(manifest).notes == ("toy: encoder, joiner, predictor on the Edge TPU",)
    assert opening.edge_tpu_notes(replace(manifest, edge_tpu={}), whole) == ()
    state = {name: np.zeros(shape, np.float32) for name, shape in manifest.signatures["predictor"].state.items()}
    for token in (0, 7):
        made, expected = (
            m.signatures["predictor"]({"token": np.array([token], np.int32), **state}) for m in (parts, whole)
        )
        np.testing.assert_array_equal(made["predicted"], expected["predicted"])


def test_tables_that_do_not_fit_are_named(full: tuple[bytes, Embedding], tmp_path: Path) -> None:
    path = tmp_path / "embedding.npz"
    for values, complaint in [
        ({"rows": np.zeros((2, 3)), "scale": 1.0}, r"float64 rows of shape \[2, 3\]; expected int8"),
        ({"rows": np.zeros((2, 3), np.int8), "scale": 0.0}, "expected int8 .V, E. and a scale"),
        ({"scale": 1.0}, "expected a table of embeddings"),
    ]:
        np.savez(path, **values)
        with pytest.raises(InputError, match=complaint):
            load_embedding(path)
    np.savez(path, rows=np.zeros((9, 3), np.int8), scale=1.0)
    (tmp_path / "model.tflite").write_bytes(full[0])
    manifest = SimpleNamespace(directory=tmp_path, files={"embedding.npz": None})
    with pytest.raises(InputError, match=r"rows of 3 values; 'predictor' expects \[1, 8\]"):
        look_up(LiteRtModel(tmp_path / "model.tflite"), manifest)
