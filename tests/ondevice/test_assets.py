"""Finding models and refusing broken ones in one clear line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice import assets
from ondevice.assets import find_asset, list_assets, load_manifest, sha256_of
from ondevice.errors import InputError
from tests.ondevice.toy import TOKENS, manifest_values, write_manifest


@pytest.fixture
def asset(tmp_path: Path) -> Path:
    """An asset whose manifest is right and whose model file is never opened here."""
    directory = tmp_path / "models" / "toy"
    directory.mkdir(parents=True)
    (directory / "model.tflite").write_bytes(b"stands for a model")
    write_manifest(directory, manifest_values(directory))
    return directory


def test_manifest_is_read(asset: Path) -> None:
    manifest = load_manifest(asset)
    assert manifest.name == "toy"
    assert manifest.tokens == tuple(TOKENS)
    assert (manifest.step_frames, manifest.step_samples) == (6, 960)
    assert manifest.step_s == pytest.approx(0.06)
    assert manifest.signatures["encoder"].inputs["features"] == (1, 2, 240)
    assert manifest.search["beam"] == 4
    assert manifest.lm_path is None
    assert manifest.size_bytes == 18
    mean, std = manifest.mean_and_std
    assert mean.shape == std.shape == (80,)


def test_models_are_found_by_name_and_by_directory(asset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDEVICE_ASSETS", str(asset.parent))
    assert find_asset("toy") == asset
    assert find_asset(str(asset)) == asset
    assert find_asset(asset) == asset
    assert asset in list_assets()


@pytest.mark.parametrize("name", ["nope", "../nope", "x" * 5000, "", "a\0b", "voilà"])
def test_unknown_model_lists_the_known_ones(name: str, asset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "asset_roots", lambda: [asset.parent])
    with pytest.raises(InputError) as caught:
        find_asset(name)
    assert "\n" not in str(caught.value)
    assert "known models: toy" in str(caught.value) or "expected a model's name" in str(caught.value)


def test_a_directory_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json in this directory"):
        find_asset(tmp_path)


def remove(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        del values[keys[-1]]

    return change


def put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(2, "format"), "field 'format' must be 1"),
        (remove("format"), "field 'format' must be 1 .*it is missing"),
        (put("sing", "task"), "field 'task' must be one of transcribe, speak, vocode, got 'sing'"),
        (remove("name"), "field 'name' must be a string, it is missing"),
        (put(7, "language"), "field 'language' must be a string, got 7"),
        (put("two", "frames_per_step"), "field 'frames_per_step' must be an integer"),
        (put(True, "frames_per_step"), "field 'frames_per_step' must be an integer"),
        (put(3, "frames_per_step"), r"encoder.inputs.features' must be \[1, 3, 240\]"),
        (put([], "tokens"), "field 'tokens' must be a list of at least two different"),
        (put([*TOKENS[:-1], "e"], "tokens"), "field 'tokens' must be"),
        (put([*TOKENS, "zz"], "tokens"), r"joiner.outputs.logits' must be \[1, 17\]"),
        (put(99, "blank"), "field 'blank' must be an integer of at least 0 and at most 15, got 99"),
        (put([0.0] * 79, "features", "mean"), "field 'features.mean' must be a list of 80 finite"),
        (put([0.0] * 80, "features", "std"), "field 'features.std' must be a list of 80 positive"),
        (put([float("nan")] * 80, "features", "mean"), "features.mean"),
        (put("16k", "features", "rate_hz"), "field 'features.rate_hz' must be an integer, got '16k'"),
        (put(9000.0, "features", "high_hz"), "high_hz 9000.0"),
        (remove("features", "hop_ms"), "field 'features.hop_ms' must be a finite number, it is missing"),
        (remove("files", "model.tflite"), "field 'files.model.tflite' must be present"),
        (put({}, "files", "../x"), "must be a plain file name"),
        (put("abc", "files", "model.tflite", "sha256"), "sha256' must be 64 hexadecimal digits"),
        (put(-1, "files", "model.tflite", "bytes"), "bytes' must be an integer of at least 1"),
        (put(["pytorch>=2"], "interpreters"), "field 'interpreters' must be a list of requirements"),
        (remove("signatures", "joiner"), "'signatures.joiner.outputs.logits' must be a shape, it is missing"),
        (
            put([1, 9], "signatures", "joiner", "inputs", "encoded"),
            r"'signatures.joiner.inputs.encoded' must be \[1, 8\] \(what the encoder makes\), got \[1, 9\]",
        ),
        (put([1, -2], "signatures", "encoder", "state", "encoder_h0"), "must be a list of positive integers"),
        (put(0, "search", "beam"), "field 'search.beam' must be an integer from 1 to 64, got 0"),
        (put(1.5, "search", "beam"), "field 'search.beam'"),
        (put(1, "search", "bean"), "unknown field 'search.bean'; known: beam"),
        (put(["x"], "metrics"), r"metrics\[\]. must be a JSON object"),
    ],
)
def test_every_wrong_field_is_named(asset: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    values = manifest_values(asset)
    change(values)
    write_manifest(asset, values)
    with pytest.raises(InputError, match=message) as caught:
        load_manifest(asset)
    assert str(asset / "manifest.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object(asset: Path, content: bytes) -> None:
    (asset / "manifest.json").write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        load_manifest(asset)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_value_in_any_field_is_accepted_or_named(data: st.DataObject, tmp_path_factory: Any) -> None:
    directory = tmp_path_factory.mktemp("any")
    (directory / "model.tflite").write_bytes(b"stands for a model")
    values = manifest_values(directory)
    place = values
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(JSON)
    (directory / "manifest.json").write_text(json.dumps(values))
    message = "manifest.json"
    try:
        load_manifest(directory)
    except InputError as error:
        message = str(error)
    assert "manifest.json" in message


def test_files_must_be_what_the_manifest_says(asset: Path) -> None:
    model = asset / "model.tflite"
    original = model.read_bytes()
    model.write_bytes(original[:-1])
    with pytest.raises(InputError, match=r"model\.tflite: 17 bytes, but manifest\.json says 18; truncated"):
        load_manifest(asset)
    model.write_bytes(b"S" + original[1:])
    with pytest.raises(InputError, match=r"model\.tflite: sha256 \w{12}\.\.\., but manifest\.json says .*corrupt"):
        load_manifest(asset)
    assert load_manifest(asset, verify=False).name == "toy"
    model.unlink()
    with pytest.raises(InputError, match=r"model\.tflite: No such file"):
        load_manifest(asset)
    shutil.rmtree(asset)
    with pytest.raises(InputError, match=r"manifest\.json: No such file"):
        load_manifest(asset)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x").startswith("ba7816bf8f01cfea")
