"""The parts of a voice that an Edge TPU can run: 8 bits from end to end, and they say what the voice says."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

keras = pytest.importorskip("keras")
pytest.importorskip("tensorflow")

from export.asset import Card  # noqa: E402
from export.precision import Wanted  # noqa: E402
from export.tacotron import endpoints  # noqa: E402
from export.voice import PARTS, TrainedVoice, build_voice  # noqa: E402
from export.voice_parts import part_endpoints  # noqa: E402
from models.lexicon import build as build_lexicon  # noqa: E402
from models.tacotron import TINY, Tacotron  # noqa: E402
from ondevice import opening  # noqa: E402
from ondevice.acoustic import AcousticModel  # noqa: E402
from ondevice.assets import load_manifest  # noqa: E402
from ondevice.cli import app  # noqa: E402
from ondevice.errors import InputError  # noqa: E402
from ondevice.litert import LiteRtModel  # noqa: E402
from ondevice.opening import open_model  # noqa: E402
from ondevice.phonemes import SYMBOLS  # noqa: E402
from ondevice.verify import FAILED, verify  # noqa: E402
from ondevice.voice_manifest import VoiceManifest  # noqa: E402
from tests.models.test_tacotron import shake  # noqa: E402
from tests.ondevice.toy_voice import DICTIONARY  # noqa: E402

ON_EDGE_TPU = ["recurrence", "reference", "style", "postnet"]
WANTED = Wanted.parse("int8", target="edgetpu", for_edge_tpu="int8")
rng = np.random.default_rng(0)
SENTENCES = [
    (rng.integers(1, len(SYMBOLS), count).tolist(), rng.normal(size=(frames, 80)).astype(np.float32))
    for count, frames in ((8, 23), (12, 40), (5, 19), (9, 31))
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedVoice:
    keras.utils.set_random_seed(0)
    tacotron = Tacotron(replace(TINY, bands=80, symbols=len(SYMBOLS), dropout=0.0))
    tacotron.build()
    shake(tacotron)
    folder = tmp_path_factory.mktemp("words")
    (folder / "toy.dict").write_text(DICTIONARY, encoding="utf-8")
    build_lexicon(folder / "toy.dict", "", folder / "toy.npz", compare=False)
    mean, std = rng.normal(size=80).astype(np.float32), rng.uniform(1, 2, 80).astype(np.float32)
    neutral = rng.normal(size=tacotron.config.style.width).astype(np.float32)
    return TrainedVoice(tacotron, mean, std, neutral, folder / "toy.npz", "toy-vocoder")


@pytest.fixture(scope="module")
def built(trained: TrainedVoice, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An asset with parts that a compiler by name only has passed on as they are, and its report."""
    folder = tmp_path_factory.mktemp("voice")
    program = folder / "bin" / "edgetpu_compiler"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ncp "$4" "$3/$(basename "$4" .tflite)_edgetpu.tflite"\n')  # -s -o DIRECTORY MODEL
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        card = Card("toy", "random weights", "Apache-2.0")
        report = build_voice(trained, folder / "toy", card, WANTED, SENTENCES[0], SENTENCES[1:])
    return folder / "toy", report


def test_parts_compute_what_the_signatures_do(trained: TrainedVoice) -> None:
    made = endpoints(trained.tacotron)
    parts = part_endpoints(trained.tacotron, made)
    assert list(parts) == ON_EDGE_TPU
    for name, part in parts.items():
        inputs = [rng.normal(size=shape).astype(np.float32) for shape, _ in part.inputs.values()]
        assert part.inputs == made[name].inputs
        whole = made[name].function(*inputs)
        for tensor, value in part.function(*inputs).items():
            np.testing.assert_allclose(value, whole[tensor], atol=1e-6)


def test_every_operator_of_every_part_runs_on_an_edge_tpu(built: tuple[Path, dict[str, Any]]) -> None:
    asset, report = built
    assert [row["signature"] for row in report["edge_tpu"]] == ON_EDGE_TPU
    assert all(row["on_edge_tpu"] == row["operators"] > 0 for row in report["edge_tpu"])
    manifest = load_manifest(asset)
    assert {f"{name}.tflite" for name in ON_EDGE_TPU} <= set(manifest.files)
    assert list(manifest.edge_tpu) == ON_EDGE_TPU
    assert all(check.status != FAILED for check in verify(asset))
    assert "On an Edge TPU" in (asset / "report.html").read_text()


def test_the_audit_looks_at_the_parts(built: tuple[Path, dict[str, Any]]) -> None:
    done = CliRunner().invoke(app, ["export", "audit", os.fspath(built[0])])
    assert done.exit_code == 0, done.output
    assert [line for line in done.output.splitlines() if line.endswith(".tflite:")] == [
        f"{name}.tflite:" for name in ("recurrence", "reference", "style", "postnet")
    ]
    assert "on the CPU, in model.tflite: text, memory, decoder" in done.output


def test_the_report_says_what_the_parts_cost(built: tuple[Path, dict[str, Any]]) -> None:
    errors = {row["tensor"]: row["relative_rms"] for row in built[1]["parity"][PARTS]}
    assert errors.keys() == {row["tensor"] for row in built[1]["parity"]["dynamic-int8"]}
    assert 1e-3 < errors["refined"] < 0.1  # 8 bits are felt, and little
    assert max(errors.values()) < 0.3


def test_a_voice_speaks_with_its_parts_where_a_device_is(
    built: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_manifest(built[0], kind=VoiceManifest)
    whole = open_model(manifest)
    assert not whole.on_edge_tpu

    def without_delegate(path: Path, threads: int, interpreters: tuple[str, ...], _: str | None) -> LiteRtModel:
        return LiteRtModel(path, threads, interpreters)

    monkeypatch.setattr(opening, "LiteRtModel", without_delegate)
    parts = open_model(manifest)
    assert parts.on_edge_tpu == ON_EDGE_TPU
    symbols, mel = SENTENCES[0]
    made, expected = (AcousticModel(manifest, model.signatures).lead(symbols, mel) for model in (parts, whole))
    for one, other in zip(made, expected, strict=True):
        assert np.abs(one - other).max() > 0
        assert np.sqrt(np.mean((one - other) ** 2) / np.mean(other**2)) < 0.1


@pytest.mark.parametrize(
    ("quantize", "target", "for_edge_tpu", "message"),
    [
        ("int8-full", "cpu", "int8", "int8-full: only a recogniser .* expected float32, float16, int8, int4 or mixed"),
        ("float16", "edgetpu", "int8", "--target edgetpu: it computes 8 bits only; expected --quantize int8 with it"),
        ("int8", "edgetpu", None, "--target edgetpu: no vocoder runs there, .* WaveNet .*; expected cpu or compat"),
    ],
)
def test_what_cannot_be_is_refused(quantize: str, target: str, for_edge_tpu: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Wanted.parse(quantize, None, target, for_edge_tpu)
