"""Where an asset goes: looked at before any work, made in a folder beside it, moved there when all of it is done."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ondevice.assets import read_json
from ondevice.errors import FailureError, InputError
from ondevice.files import _unwinding
from ondevice.manifest_base import MANIFEST

REPORT, PAGE, CURVES = "report.json", "report.html", "curves.png"
UNLISTED = {MANIFEST, REPORT, PAGE, CURVES}  # what an asset holds beside its manifest's files


def check_target(target: Path, *sources: Path) -> None:
    """Raise InputError unless an asset may be written to `target`: it is new, an empty folder, or an asset.

    sources: what an export reads, which is never replaced.
    """
    where = _real(target)
    for source in sources:
        if _real(source).is_relative_to(where):
            raise InputError(f"--output {target}: {source} is read from there; expected another folder")
    try:
        if (reason := _reason_to_keep(where)) is not None:
            raise InputError(f"--output {target}: {reason}; expected a new or empty folder, or that of an export")
        with tempfile.TemporaryDirectory(dir=next(parent for parent in where.parents if parent.exists())):
            pass
    except OSError as error:
        raise InputError(f"--output {target}: no folder can be written there ({error.strerror or error})") from None


def _reason_to_keep(where: Path) -> str | None:
    """Why a path must not be replaced; None: it may."""
    if not where.is_dir():
        return "it is a file" if where.exists() else None
    if where.is_mount():
        return "it is a mount point, which cannot be replaced"
    names = sorted(os.listdir(where))
    if not names:
        return None
    if MANIFEST not in names:
        return f"it holds {names[0]} and no {MANIFEST}"
    manifest = read_json(where / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict) or "task" not in manifest:
        return f"its {MANIFEST} is not a model's"
    others = [name for name in names if name not in {*UNLISTED, *manifest["files"]}]
    return f"it holds {others[0]}, which is no part of the model there" if others else None


@contextmanager
def beside(target: Path, *sources: Path) -> Iterator[Path]:
    """A folder next to `target` to make an asset in, gone at the end, whatever ends the block.

    Raises InputError as `check_target` does, and FailureError where a file cannot be read or written.
    """
    check_target(target, *sources)
    where = _real(target)
    new = [parent for parent in where.parents if not parent.exists()]
    try:
        with _unwinding():
            where.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=where.parent, prefix=f".{where.name}-") as folder:
                yield Path(folder)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FailureError(f"export: {error.filename or target}: {error.strerror or error}") from None
    finally:
        for parent in new:
            with suppress(OSError):  # the asset is in it
                parent.rmdir()


def put(made: Path, target: Path) -> None:
    """Move a finished folder of `beside` to `target`; what was there is gone then, or still there when that fails.

    Raises InputError as `check_target` does: time has passed.
    """
    check_target(target)
    where = _real(target)
    kept = Path(tempfile.mkdtemp(dir=where.parent, prefix=f".{where.name}-"))
    before = kept / where.name
    try:
        if where.exists():
            where.rename(before)
        made.rename(where)
    except BaseException:
        if before.exists() and not where.exists():
            before.rename(where)
        with suppress(OSError):
            kept.rmdir()  # empty, or it stays
        raise
    shutil.rmtree(kept, ignore_errors=True)


def _real(path: Path) -> Path:
    """Without links: one that stands for a folder stays."""
    return Path(os.path.realpath(path))
