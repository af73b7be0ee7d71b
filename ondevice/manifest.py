"""The manifest of a model asset: every field typed, ranged and checked against the others.

Everything the runtime needs to know about a model is in its manifest, so a wrong one must fail here,
in one line that names the file and the field.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError
from ondevice.features import LogMelConfig

FORMAT = 1
TASKS = ("transcribe",)
MANIFEST = "manifest.json"
MODEL_FILE = "model.tflite"
LM_FILE = "lm.npz"
REQUIREMENT = re.compile(r"(ai_edge_litert|tflite_runtime|tensorflow)((?:,?(?:>=|<=|==|<|>)\d+(?:\.\d+)*)*)")

# Decoding defaults a manifest may set: (lowest, highest) value allowed.
SEARCH_RANGES: dict[str, tuple[float, float]] = {
    "beam": (1, 64),
    "max_symbols": (1, 20),
    "lm_weight": (0.0, 5.0),
    "ilm_weight": (0.0, 5.0),
    "length_bonus": (-10.0, 10.0),
    "prune_margin": (0.1, 1000.0),
    "blank_skip": (0.5, 1.0),
    "emission_delay_s": (0.0, 2.0),
}


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
class Manifest:
    """A model asset's checked description."""

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
    frames_per_step: int  # stacked frames an encoder step takes
    tokens: tuple[str, ...]  # SentencePiece pieces by id
    blank: int
    signatures: Mapping[str, SignatureSpec]
    search: Mapping[str, float]  # decoding defaults, keys of SEARCH_RANGES
    parameters: int
    licence: str
    description: str
    data: tuple[Any, ...]
    metrics: tuple[Mapping[str, Any], ...]

    @property
    def model_path(self) -> Path:
        """The TFLite file."""
        return self.directory / MODEL_FILE

    @property
    def lm_path(self) -> Path | None:
        """The language model for shallow fusion, if the asset has one."""
        return self.directory / LM_FILE if LM_FILE in self.files else None

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(info.bytes for info in self.files.values())

    @property
    def step_frames(self) -> int:
        """Log-mel frames (one hop each) an encoder step consumes: 6."""
        return self.frames_per_step * self.features.stack

    @property
    def step_samples(self) -> int:
        """Samples an encoder step consumes: 960."""
        return self.step_frames * self.features.hop_samples

    @property
    def step_s(self) -> float:
        """Seconds of audio an encoder step consumes: 0.06."""
        return self.step_samples / self.features.rate_hz

    @cached_property
    def mean_and_std(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Feature mean and standard deviation, float32 [bands] each."""
        return np.asarray(self.feature_mean, np.float32), np.asarray(self.feature_std, np.float32)


def parse_manifest(directory: Path, value: Any) -> Manifest:
    """Check the JSON value of `directory`'s manifest; InputError names the first field that is wrong."""
    path = directory / MANIFEST
    root = _Fields(path, value)
    if root.values.get("format") != FORMAT:
        raise root.fail("format", f"{FORMAT} (the version this release reads)")
    task = root.text("task")
    if task not in TASKS:
        raise root.fail("task", f"one of {', '.join(TASKS)}")
    features, mean, std = _features(root.child("features"))
    tokens = _tokens(root)
    manifest = Manifest(
        directory=directory,
        name=root.text("name"),
        task=task,
        language=root.text("language"),
        precision=root.text("precision"),
        files=_files(root.child("files")),
        interpreters=_interpreters(root),
        features=features,
        feature_mean=mean,
        feature_std=std,
        frames_per_step=root.integer("frames_per_step", 1, 100),
        tokens=tokens,
        blank=root.integer("blank", 0, len(tokens) - 1),
        signatures=_signatures(root.child("signatures")),
        search=_search(root.child("search", optional=True)),
        parameters=root.integer("parameters", 0),
        licence=root.text("licence"),
        description=root.text("description", ""),
        data=tuple(root.sequence("data", optional=True)),
        metrics=tuple(_Fields(path, m, "metrics[].").values for m in root.sequence("metrics", optional=True)),
    )
    _check_shapes(manifest, path)
    return manifest


class _Fields:
    """Typed access to a JSON object; every failure names the file and the field."""

    def __init__(self, path: Path, value: Any, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix
        if not isinstance(value, dict):
            raise InputError(f"{path}: {prefix or 'the manifest'} must be a JSON object, got {_short(value)}")
        self.values: dict[str, Any] = value

    def fail(self, key: str, expected: str) -> InputError:
        got = f"got {_short(self.values[key])}" if key in self.values else "it is missing"
        return InputError(f"{self.path}: field {self.prefix + key!r} must be {expected}, {got}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.fail(key, "a string")
        return value

    def integer(self, key: str, low: int, high: int = 2**53) -> int:
        value = self.values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.fail(key, f"an integer of at least {low}" + (f" and at most {high}" if high < 2**53 else ""))
        return value

    def numbers(self, key: str, length: int, positive: bool = False) -> tuple[float, ...]:
        value = self.values.get(key)
        good = isinstance(value, list) and len(value) == length and all(map(_is_finite, value))
        if not good or (positive and min(value) <= 0):  # type: ignore[arg-type]
            raise self.fail(key, f"a list of {length} {'positive ' if positive else ''}finite numbers")
        return tuple(float(x) for x in value)  # type: ignore[union-attr]

    def sequence(self, key: str, optional: bool = False) -> list[Any]:
        value = self.values.get(key, [] if optional else None)
        if not isinstance(value, list):
            raise self.fail(key, "a list")
        return value

    def child(self, key: str, optional: bool = False) -> "_Fields":
        value = self.values.get(key, {} if optional else None)
        if not isinstance(value, dict):
            raise self.fail(key, "a JSON object")
        return _Fields(self.path, value, f"{self.prefix}{key}.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30 and math.isfinite(value)


def _features(group: _Fields) -> tuple[LogMelConfig, tuple[float, ...], tuple[float, ...]]:
    settings: dict[str, Any] = {}
    for field in fields(LogMelConfig):
        value = group.values.get(field.name)
        if not _is_finite(value) or (field.type in (int, "int") and type(value) is not int):
            raise group.fail(field.name, "a finite number" if field.type in (float, "float") else "an integer")
        settings[field.name] = value
    try:
        config = LogMelConfig(**settings)
    except InputError as error:
        raise InputError(f"{group.path}: {error}") from error
    return config, group.numbers("mean", config.bands), group.numbers("std", config.bands, positive=True)


def _tokens(root: _Fields) -> tuple[str, ...]:
    tokens = root.sequence("tokens")
    if len(tokens) < 2 or not all(isinstance(t, str) and t for t in tokens) or len(set(tokens)) < len(tokens):
        raise root.fail("tokens", "a list of at least two different non-empty strings")
    return tuple(tokens)


def _files(group: _Fields) -> dict[str, FileInfo]:
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


def _interpreters(root: _Fields) -> tuple[str, ...]:
    values = root.sequence("interpreters")
    if not values or not all(isinstance(v, str) and REQUIREMENT.fullmatch(v) for v in values):
        raise root.fail("interpreters", "a list of requirements such as 'ai_edge_litert>=2.0'")
    return tuple(values)


def _signatures(group: _Fields) -> dict[str, SignatureSpec]:
    specs = {}
    for name in group.values:
        signature = group.child(name)
        parts = [_shapes(signature.child(part, part == "state")) for part in ("inputs", "outputs", "state")]
        specs[name] = SignatureSpec(*parts)
    return specs


def _shapes(group: _Fields) -> dict[str, tuple[int, ...]]:
    for name, shape in group.values.items():
        if not isinstance(shape, list) or not all(type(d) is int and 1 <= d <= 2**24 for d in shape):
            raise group.fail(name, "a list of positive integers (a shape)")
    return {name: tuple(shape) for name, shape in group.values.items()}


def _search(group: _Fields) -> dict[str, float]:
    for key, value in group.values.items():
        if key not in SEARCH_RANGES:
            raise InputError(f"{group.path}: unknown field {group.prefix + key!r}; known: {', '.join(SEARCH_RANGES)}")
        low, high = SEARCH_RANGES[key]
        whole = key in ("beam", "max_symbols")
        if not _is_finite(value) or not low <= value <= high or (whole and type(value) is not int):
            raise group.fail(key, f"{'an integer' if whole else 'a number'} from {low} to {high}")
    return dict(group.values)


def _check_shapes(manifest: Manifest, path: Path) -> None:
    """The transducer's signatures must fit each other, the features and the tokens."""
    expected = {
        ("encoder", "inputs", "features"): (1, manifest.frames_per_step, manifest.features.stacked_width),
        ("encoder", "outputs", "encoded"): None,
        ("predictor", "inputs", "token"): (1,),
        ("predictor", "outputs", "predicted"): None,
        ("joiner", "inputs", "encoded"): None,
        ("joiner", "inputs", "predicted"): None,
        ("joiner", "outputs", "logits"): (1, len(manifest.tokens)),
    }
    for (signature, part, name), shape in expected.items():
        where = f"{path}: field 'signatures.{signature}.{part}.{name}'"
        spec = manifest.signatures.get(signature)
        got = getattr(spec, part).get(name) if spec else None
        if got is None:
            raise InputError(f"{where} must be a shape, it is missing")
        if shape is not None and got != shape:
            raise InputError(f"{where} must be {list(shape)} (features and tokens say so), got {list(got)}")
    for name, source in (("encoded", "encoder"), ("predicted", "predictor")):
        got, made = manifest.signatures["joiner"].inputs[name], manifest.signatures[source].outputs[name]
        if got != made:
            raise InputError(f"{path}: joiner takes {name} {list(got)}, but {source} makes {list(made)}")
