"""Options of the whole test suite."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("ONDEVICE_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or os.environ.get("CI"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: give --slow"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of speech corpora; tests that need it skip where it is not (set ONDEVICE_DATA)."""
    if not (DATA / "asr_librispeech" / "manifest.jsonl").exists():
        pytest.skip("no speech corpora here: set ONDEVICE_DATA to a folder that holds asr_librispeech and others")
    return DATA
