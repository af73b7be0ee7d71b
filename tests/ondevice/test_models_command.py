"""`ondevice models`: the list and the cards."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ondevice.cli.models import app
from ondevice.errors import FailureError, InputError

runner = CliRunner()


@pytest.fixture
def shelf(toy_asset: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONDEVICE_ASSETS", str(toy_asset.parent))
    return toy_asset


def test_the_list_names_each_model_with_its_size(shelf: Path) -> None:
    lines = runner.invoke(app, []).stdout.splitlines()
    size_mb = (shelf / "model.tflite").stat().st_size / 1e6
    row = next(line for line in lines if line.startswith("toy "))
    assert f"{size_mb:.1f} MB" in row
    assert "random weights" in row


def test_a_card_as_json_holds_what_the_manifest_says(shelf: Path) -> None:
    card = json.loads(runner.invoke(app, ["info", "toy", "--json"]).stdout)
    manifest = json.loads((shelf / "manifest.json").read_text())
    for key in ("task", "precision", "licence", "interpreters", "search", "metrics", "data"):
        assert card[key] == manifest[key]
    assert card["files"][0]["sha256"] == manifest["files"]["model.tflite"]["sha256"]


def test_a_card_for_a_person_shows_the_same(shelf: Path) -> None:
    text = runner.invoke(app, ["info", "toy"]).stdout
    assert "Apache-2.0" in text
    assert "16000 Hz mono, 80 log-mel bands, 60 ms a step" in text


def test_an_unknown_model_lists_the_known_ones(shelf: Path) -> None:
    result = runner.invoke(app, ["info", "rnnnt"])
    assert isinstance(result.exception, InputError)
    assert "toy" in str(result.exception)


def test_a_changed_file_is_found_out(shelf: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in shelf.iterdir():
        content = bytearray(file.read_bytes())
        if file.suffix == ".tflite":
            content[len(content) // 2] ^= 1
        (copy / file.name).write_bytes(content)
    result = runner.invoke(app, ["info", str(copy)])
    assert isinstance(result.exception, InputError)
    assert "sha256" in str(result.exception)


def test_no_models_at_all_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ondevice.assets.asset_roots", lambda: [])
    assert isinstance(runner.invoke(app, []).exception, FailureError)
