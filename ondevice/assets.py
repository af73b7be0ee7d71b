"""Model assets: finding them by name and checking that their files are what the manifest says.

An asset is a directory `<name>/` with `manifest.json`, `model.tflite` and perhaps `lm.npz`.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar, overload

from ondevice.errors import InputError
from ondevice.manifest import parse_manifest
from ondevice.manifest_base import MANIFEST, FileInfo, Manifest

M = TypeVar("M", bound=Manifest)


def asset_roots() -> list[Path]:
    """Directories searched for models, first match wins: $ONDEVICE_ASSETS, the package, the checkout."""
    here = Path(__file__).resolve().parent
    extra = [Path(p) for p in os.environ.get("ONDEVICE_ASSETS", "").split(os.pathsep) if p]
    return [*extra, here / "_assets", here.parent / "assets"]


def list_assets() -> list[Path]:
    """Directories of every model that can be loaded by name, sorted by name."""
    found: dict[str, Path] = {}
    for root in asset_roots():
        for path in root.glob(f"*/{MANIFEST}") if root.is_dir() else ():
            found.setdefault(path.parent.name, path.parent)
    return [found[name] for name in sorted(found)]


def find_asset(name_or_dir: str | os.PathLike[str]) -> Path:
    """Directory of a model given by name ("rnnt") or as a directory; InputError lists the known models."""
    text = os.fspath(name_or_dir)
    if "\0" in text or not text:
        raise InputError(f"model {text!r}: expected a model's name or directory")
    known = {path.name: path for path in list_assets()}
    if text in known:
        return known[text]
    path = Path(text)
    try:
        is_dir = path.is_dir()
    except OSError:  # e.g. a name too long for the file system
        is_dir = False
    if is_dir:
        if not (path / MANIFEST).is_file():
            raise InputError(f"{path}: no {MANIFEST} in this directory; expected a model asset")
        return path
    names = ", ".join(sorted(known)) or f"none (looked in {', '.join(map(str, asset_roots()))})"
    raise InputError(f"unknown model {text!r}; known models: {names}")


@overload
def load_manifest(directory: str | os.PathLike[str], verify: bool = True) -> Manifest: ...
@overload
def load_manifest(directory: str | os.PathLike[str], verify: bool = True, *, kind: type[M]) -> M: ...
def load_manifest(
    directory: str | os.PathLike[str], verify: bool = True, *, kind: type[Manifest] = Manifest
) -> Manifest:
    """Read and check a model's manifest and its files' sizes; with `verify` also their SHA-256.

    Raises InputError: manifest unreadable or ill-formed, field missing or wrong, file missing or changed, or a model
    for another task than manifests of this kind describe.
    """
    directory = Path(directory)
    manifest = parse_manifest(directory, read_json(directory / MANIFEST))
    if not isinstance(manifest, kind):
        raise InputError(f"{directory}: its task is {manifest.task!r}; expected a model whose task is {kind.does!r}")
    for name, info in manifest.files.items():
        verify_file(directory / name, info, verify)
    return manifest


def verify_file(path: Path, info: FileInfo, digest: bool = True) -> None:
    """InputError unless the file exists with the manifest's size and (with `digest`) SHA-256."""
    try:
        size = path.stat().st_size
        if size != info.bytes:
            raise InputError(f"{path}: {size} bytes, but {MANIFEST} says {info.bytes}; truncated or another version")
        if digest and (got := sha256_of(path)) != info.sha256:
            raise InputError(
                f"{path}: sha256 {got[:12]}..., but {MANIFEST} says {info.sha256[:12]}...; corrupt or another version"
            )
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; {MANIFEST} lists this file") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The JSON value of a manifest's file; InputError when there is none."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; expected a model manifest") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); expected a model manifest") from error
