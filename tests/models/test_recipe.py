"""Folders of trainings: what a run of other sizes, another project's files and broken pieces are told."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("keras")

from models.pieces import load_pieces
from models.recipe import _check_sizes, load_trained
from models.rnnt import TINY
from ondevice.errors import InputError
from ondevice.manifest import PIECES_FILE


def test_a_training_goes_on_with_its_own_sizes_only(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"rnnt": asdict(TINY)}))
    _check_sizes(tmp_path, replace(TINY, encoder_units=512))  # nothing was saved yet
    (tmp_path / "checkpoint.npz").touch()
    _check_sizes(tmp_path, TINY)
    with pytest.raises(InputError, match=r"other sizes \(encoder_units 8, not 512\); expected the same options"):
        _check_sizes(tmp_path, replace(TINY, encoder_units=512))


@pytest.mark.parametrize("config", ['{"model_type": "bert"}', '{"rnnt": {"layers": 3}}', "no JSON"])
def test_the_folder_of_another_project_is_named(config: str, tmp_path: Path) -> None:
    for name in ("rnnt.weights.h5", PIECES_FILE):
        (tmp_path / name).write_bytes(b"another's")
    (tmp_path / "norm.json").write_text("{}")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=r"expected the output folder of `ondevice train rnnt`$") as error:
        load_trained(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_pieces_is_named(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("other", b"no pieces")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="expected a SentencePiece model"):
            load_pieces(tmp_path / name)
    with pytest.raises(InputError, match="expected a SentencePiece model"):
        load_pieces(tmp_path / "missing")
