"""Fixtures shared by the runtime's tests."""

from pathlib import Path

import pytest

from tests.ondevice.toy import build_toy_asset
from tests.ondevice.toy_voice import build_toy_voice


@pytest.fixture(scope="session")
def toy_asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny recogniser asset with random weights."""
    return build_toy_asset(tmp_path_factory.mktemp("assets") / "toy")


@pytest.fixture(scope="session")
def toy_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny voice asset with random weights, its vocoder beside it."""
    return build_toy_voice(tmp_path_factory.mktemp("voices"))
