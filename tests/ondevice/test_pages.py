"""A model's file takes no memory once its weights are packed, and the model computes on."""

from pathlib import Path

import numpy as np
import pytest

from ondevice.assets import find_asset, load_manifest
from ondevice.opening import open_model
from ondevice.pages import release_pages

SMAPS = Path("/proc/self/smaps")


def resident_bytes(file: Path) -> int:
    """Of a mapped file, in this process."""
    total, inside = 0, False
    for line in SMAPS.read_text().splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            inside = fields[-1] == str(file.resolve())
        elif inside and fields[0] == "Rss:":
            total += int(fields[1]) * 1024
    return total


@pytest.mark.skipif(not SMAPS.exists(), reason="reads Linux's /proc")
def test_an_opened_model_gives_back_its_files_pages() -> None:
    manifest = load_manifest(find_asset("vocoder"))
    model = open_model(manifest)
    assert resident_bytes(manifest.model_path) < 0.1 * manifest.files["model.tflite"].bytes
    inputs = {name: np.ones(spec.shape, np.float32) for name, spec in model.signatures["vocoder"].inputs.items()}
    before = model.signatures["vocoder"](inputs)
    release_pages(manifest.model_path)
    for name, value in model.signatures["vocoder"](inputs).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.skipif(not SMAPS.exists(), reason="reads Linux's /proc")
def test_pages_that_are_needed_again_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    np.arange(500_000, dtype=np.int64).tofile(file)
    mapped = np.memmap(file, np.int64, "r")
    assert mapped.sum() == 499_999 * 250_000
    assert resident_bytes(file) >= file.stat().st_size
    release_pages(file)
    assert resident_bytes(file) == 0
    assert mapped.sum() == 499_999 * 250_000
