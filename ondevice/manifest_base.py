"""What every model asset's manifest says, and the typed reading of its fields.

Everything the runtime needs to know about a model is in its manifest, so a wrong one must fail here,
in one line that names the file and the field.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.features import LogMelConfig

MANIFEST = "manifest.json"
MODEL_FILE = "model.tflite"
EMBEDDING_FILE = "embedding.npz"  # rows by token, for a file that takes them looked up
REQUIREMENT = re.compile(r"(ai_edge_litert|tflite_runtime|tensorflow)((?:,?(?:>=|<=|==|<|>)\d+(?:\.\d+)*)*)")


@dataclass(frozen=True)
class FileInfo:
    """What a file of an asset must be."""

    sha256: str  # 64 hexadecimal digits
    bytes: int


@dataclass(frozen=True)
class SignatureSpec:
    """Names and shapes of one signature's tensors; `state` goes in and comes out under the same name."""

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    state: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class EdgeTpuPart:
    """A signature compiled for an Edge TPU, with the names of its tensors in their order."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """A model asset's checked description: what all tasks have."""

    does: ClassVar[str] = "anything"  # what its models do, for messages
    directory: Path
    name: str
    task: str
    language: str
    precision: str
    files: Mapping[str, FileInfo]
    interpreters: tuple[str, ...]  # e.g. "ai_edge_litert>=2.0"; any one of them may run the file
    features: LogMelConfig
    feature_mean: tuple[float, ...]  # per mel band
    feature_std: tuple[float, ...]  # per mel band, > 0
    signatures: Mapping[str, SignatureSpec]
    parameters: int
    licence: str
    description: str
    data: tuple[Any, ...]
    metrics: tuple[Mapping[str, Any], ...]
    edge_tpu: Mapping[str, EdgeTpuPart]  # by signature, where there are any

    @property
    def model_path(self) -> Path:
        """The TFLite file."""
        return self.directory / MODEL_FILE

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(info.bytes for info in self.files.values())

    @cached_property
    def mean_and_std(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Feature mean and standard deviation, float32 [bands] each."""
        return np.asarray(self.feature_mean, np.float32), np.asarray(self.feature_std, np.float32)

    def shape(self, signature: str, part: str, name: str, rank: int | None = None) -> tuple[int, ...]:
        """Shape of a tensor of the "inputs", "outputs" or "state" of a signature.

        Raises InputError when the manifest lists none of that name or one of another rank.
        """
        spec = self.signatures.get(signature)
        found: tuple[int, ...] | None = getattr(spec, part).get(name) if spec else None
        if found is None or (rank is not None and len(found) != rank):
            wanted = "a shape" if rank is None else f"a shape of {rank} dimensions"
            got = "it is missing" if found is None else f"got {list(found)}"
            where = f"{self.directory / MANIFEST}: field 'signatures.{signature}.{part}.{name}'"
            raise InputError(f"{where} must be {wanted}, {got}")
        return found

    def expect(self, shapes: Mapping[tuple[str, str, str], tuple[int, ...]], why: str) -> None:
        """InputError unless (signature, "inputs" or "outputs", name) have these shapes."""
        for (signature, part, name), shape in shapes.items():
            got = self.shape(signature, part, name)
            if got != shape:
                where = f"{self.directory / MANIFEST}: field 'signatures.{signature}.{part}.{name}'"
                raise InputError(f"{where} must be {list(shape)} ({why}), got {list(got)}")


def common_fields(root: "Fields") -> dict[str, Any]:
    """Checked values for `Manifest`'s own fields."""
    features, mean, std = _features(root.child("features"))
    return {
        "directory": root.path.parent,
        "name": root.text("name"),
        "task": root.text("task"),
        "language": root.text("language"),
        "precision": root.text("precision"),
        "files": _files(root.child("files")),
        "interpreters": _interpreters(root),
        "features": features,
        "feature_mean": mean,
        "feature_std": std,
        "signatures": _signatures(root.child("signatures")),
        "parameters": root.integer("parameters", 0),
        "licence": root.text("licence"),
        "description": root.text("description", ""),
        "data": tuple(root.sequence("data", optional=True)),
        "metrics": tuple(Fields(root.path, m, "metrics[].").values for m in root.sequence("metrics", optional=True)),
        "edge_tpu": _edge_tpu(root),
    }


class Fields:
    """Typed access to a JSON object; every failure names the file and the field."""

    def __init__(self, path: Path, value: Any, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix
        if not isinstance(value, dict):
            raise InputError(f"{path}: {prefix or 'the manifest'} must be a JSON object, got {_short(value)}")
        self.values: dict[str, Any] = value

    def fail(self, key: str, expected: str) -> InputError:
        """The error of a field that is not as expected."""
        got = f"got {_short(self.values[key])}" if key in self.values else "it is missing"
        return InputError(f"{self.path}: field {self.prefix + key!r} must be {expected}, {got}")

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.fail(key, "a string")
        return value

    def integer(self, key: str, low: int, high: int = 2**53) -> int:
        """A whole number from low to high."""
        value = self.values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.fail(key, f"an integer of at least {low}" + (f" and at most {high}" if high < 2**53 else ""))
        return value

    def number(self, key: str, low: float, high: float) -> float:
        """A number from low to high."""
        value = self.values.get(key)
        if not is_finite(value) or not low <= value <= high:  # type: ignore[operator]
            raise self.fail(key, f"a number from {low:g} to {high:g}")
        return float(value)  # type: ignore[arg-type]

    def numbers(self, key: str, length: int, positive: bool = False) -> tuple[float, ...]:
        """So many finite numbers."""
        value = self.values.get(key)
        good = isinstance(value, list) and len(value) == length and all(map(is_finite, value))
        if not good or (positive and min(value) <= 0):  # type: ignore[arg-type]
            raise self.fail(key, f"a list of {length} {'positive ' if positive else ''}finite numbers")
        return tuple(float(x) for x in value)  # type: ignore[union-attr]

    def sequence(self, key: str, optional: bool = False) -> list[Any]:
        """A list; empty when it may be missing and is."""
        value = self.values.get(key, [] if optional else None)
        if not isinstance(value, list):
            raise self.fail(key, "a list")
        return value

    def child(self, key: str, optional: bool = False) -> "Fields":
        """An object inside this one."""
        value = self.values.get(key, {} if optional else None)
        if not isinstance(value, dict):
            raise self.fail(key, "a JSON object")
        return Fields(self.path, value, f"{self.prefix}{key}.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_finite(value: Any) -> bool:
    """Whether it is a number that a float32 can hold."""
    return type(value) in (int, float) and abs(value) < 1e30 and math.isfinite(value)


def _features(group: Fields) -> tuple[LogMelConfig, tuple[float, ...], tuple[float, ...]]:
    settings: dict[str, Any] = {}
    for field in fields(LogMelConfig):
        value = group.values.get(field.name)
        if not is_finite(value) or (field.type in (int, "int") and type(value) is not int):
            raise group.fail(field.name, "a finite number" if field.type in (float, "float") else "an integer")
        settings[field.name] = value
    try:
        config = LogMelConfig(**settings)
    except InputError as error:
        raise InputError(f"{group.path}: {error}") from error
    return config, group.numbers("mean", config.bands), group.numbers("std", config.bands, positive=True)


def _files(group: Fields) -> dict[str, FileInfo]:
    if MODEL_FILE not in group.values:
        raise group.fail(MODEL_FILE, "present")
    files = {}
    for name in group.values:
        if Path(name).name != name or name in (".", ".."):
            raise group.fail(name, "a plain file name inside the model's directory")
        entry = group.child(name)
        sha256 = entry.text("sha256").lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise entry.fail("sha256", "64 hexadecimal digits")
        files[name] = FileInfo(sha256, entry.integer("bytes", 1))
    return files


def _interpreters(root: Fields) -> tuple[str, ...]:
    values = root.sequence("interpreters")
    if not values or not all(isinstance(v, str) and REQUIREMENT.fullmatch(v) for v in values):
        raise root.fail("interpreters", "a list of requirements such as 'ai_edge_litert>=2.0'")
    return tuple(values)


def _edge_tpu(root: Fields) -> dict[str, EdgeTpuPart]:
    group, files, found = root.child("edge_tpu", optional=True), root.values["files"], {}
    for name in group.values:
        part = group.child(name)
        file, sides = part.text("file"), [part.sequence(side) for side in ("inputs", "outputs")]
        if file not in files:
            raise part.fail("file", "a file of this asset")
        if not all(isinstance(tensor, str) for side in sides for tensor in side):
            raise part.fail("inputs", "names of tensors")
        found[name] = EdgeTpuPart(file, *map(tuple, sides))
    return found


def _signatures(group: Fields) -> dict[str, SignatureSpec]:
    specs = {}
    for name in group.values:
        signature = group.child(name)
        parts = [_shapes(signature.child(part, part == "state")) for part in ("inputs", "outputs", "state")]
        specs[name] = SignatureSpec(*parts)
    return specs


def _shapes(group: Fields) -> dict[str, tuple[int, ...]]:
    for name, shape in group.values.items():
        if not isinstance(shape, list) or not all(type(d) is int and 1 <= d <= 2**24 for d in shape):
            raise group.fail(name, "a list of positive integers (a shape)")
    return {name: tuple(shape) for name, shape in group.values.items()}
