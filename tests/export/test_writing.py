"""Where an asset may be written, and that what was there is kept until the new one is."""

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from export.writing import beside, check_target, put
from ondevice.errors import FailureError, InputError


@pytest.fixture
def asset(tmp_path: Path) -> Path:
    """A folder that looks like what an export wrote."""
    folder = tmp_path / "old"
    folder.mkdir()
    manifest = {"task": "vocode", "files": {"model.tflite": {}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name in ("model.tflite", "report.json", "report.html", "curves.png"):
        (folder / name).write_text("old")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(target: Path) -> None:
    """A new asset in a target."""
    with beside(target) as folder:
        made = folder / "made"
        made.mkdir()
        (made / "model.tflite").write_text("new")
        put(made, target)


def begin(target: Path, end: Callable[[], None]) -> None:
    """A new asset, half of it."""
    with beside(target) as folder:
        (folder / "half").write_text("")
        end()


def test_assets_empty_folders_and_new_ones_are_written(asset: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (asset, tmp_path / "empty", tmp_path / "far" / "away"):
        write(target)
        assert names(target) == ["model.tflite"]
        assert (target / "model.tflite").read_text() == "new"
    assert names(tmp_path) == ["empty", "far", "old"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("notes.txt", "", r"it holds notes\.txt and no manifest\.json"),
        ("manifest.json", '{"name": "a web page"}', r"its manifest\.json is not a model's"),
        ("manifest.json", "no JSON", "not valid JSON"),
    ],
)
def test_any_other_folder_is_kept(tmp_path: Path, file: str, content: str, message: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / file).write_text(content)
    with pytest.raises(InputError, match=message), beside(tmp_path / "home"):
        pytest.fail("work was begun")
    assert names(tmp_path / "home") == [file]


def test_an_asset_with_other_things_in_it_is_kept(asset: Path) -> None:
    (asset / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match=r"it holds thesis\.tex, which is no part of the model there"):
        check_target(asset)


def test_a_file_and_what_lies_under_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target, message in ((tmp_path / "file", "it is a file"), (tmp_path / "file" / "a" / "b", "Not a directory")):
        with pytest.raises(InputError, match=message):
            check_target(target)
    if Path("/proc/self").exists():
        with pytest.raises(InputError, match="no folder can be written there"):
            check_target(Path("/proc/a/b"))


def test_what_is_exported_is_never_replaced(asset: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(asset)
    for target in (asset, tmp_path, tmp_path / "link"):
        with pytest.raises(InputError, match="is read from there; expected another folder"):
            check_target(target, asset)
    check_target(asset, tmp_path / "older")  # the beginning of a name is no folder around it
    check_target(asset / "inside", asset)


def test_the_old_asset_is_back_when_the_new_one_cannot_be_moved(asset: Path, tmp_path: Path) -> None:
    before = names(asset)
    with pytest.raises(FailureError, match="No such file"), beside(asset) as folder:
        put(folder / "nothing", asset)
    assert names(asset) == before
    assert names(tmp_path) == ["old"]


def test_work_that_fails_leaves_nothing_and_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FailureError, match=r"^export: .*away: No space left on device$"):
        begin(tmp_path / "far" / "away", full)
    assert names(tmp_path) == []


def test_a_signal_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        begin(tmp_path / "new", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert ended.value.code == 128 + signal.SIGTERM
    assert names(tmp_path) == []


def test_a_link_stays_one(asset: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(asset)
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names(asset) == ["model.tflite"]
