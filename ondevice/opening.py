"""A manifest's model opened: its signatures checked against what the manifest says, some of them run elsewhere.

Two things stand between a caller and the file: a token whose embedding is looked up here, because the accelerators that
run whole models at 8 bits have no lookup, and signatures compiled for an Edge TPU, used where one is plugged in.
"""

import logging
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ondevice.errors import InputError, OndeviceError
from ondevice.files import DAMAGED
from ondevice.litert import INTEGERS, Array, LiteRtModel, Signature, TensorSpec
from ondevice.manifest_base import EMBEDDING_FILE, Manifest, SignatureSpec

EDGE_TPU_LIBRARIES = {"Linux": "libedgetpu.so.1", "Darwin": "libedgetpu.1.dylib", "Windows": "edgetpu.dll"}
_log = logging.getLogger(__name__)


def embedded(inputs: Mapping[str, Array], table: npt.NDArray[np.float32]) -> dict[str, Array]:
    """Inputs of a call with the `token` replaced by its row of the table [V, E], as `embedded`."""
    rest = {name: array for name, array in inputs.items() if name != "token"}
    return {"embedded": table[inputs["token"]], **rest}


class Lookup(Signature):
    """A signature that takes `embedded` rows, called with the `token` they belong to."""

    def __init__(self, inner: Signature, table: npt.NDArray[np.float32]) -> None:
        """`table` [V, E] holds the rows."""
        self._inner, self._table = inner, table
        rest = {name: spec for name, spec in inner.inputs.items() if name != "embedded"}
        self.inputs = {"token": TensorSpec((1,), np.dtype("int32"), None), **rest}
        self.outputs = inner.outputs

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once."""
        return self._inner(embedded(inputs, self._table))


def load_embedding(path: Path) -> npt.NDArray[np.float32]:
    """The table float32 [V, E] of a file: int8 `rows` times `scale`. Raises InputError when it is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            rows, scale = file["rows"], float(file["scale"])
    except (OSError, *DAMAGED) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a table of embeddings") from None
    if rows.dtype != np.int8 or rows.ndim != 2 or not 0 < scale < np.inf:
        raise InputError(f"{path}: {rows.dtype} rows of shape {list(rows.shape)}; expected int8 [V, E] and a scale")
    table: npt.NDArray[np.float32] = rows.astype(np.float32) * np.float32(scale)
    return table


def open_model(manifest: Manifest, threads: int = 1, delegate: str | None = None) -> LiteRtModel:
    """Open a manifest's model file and check that its signatures are the ones the manifest describes.

    Signatures that the manifest has compiled for an Edge TPU run there when its library and a device are found.
    """
    model = LiteRtModel(manifest.model_path, threads, manifest.interpreters, delegate)
    look_up(model, manifest)
    for name, spec in manifest.signatures.items():
        if name not in model.signatures:
            have = ", ".join(sorted(model.signatures)) or "none"
            raise InputError(f"{model.path}: no signature {name!r}, which the manifest lists; it has {have}")
        _check_signature(model.signatures[name], spec, f"{model.path}: signature {name!r}")
    if manifest.edge_tpu:
        _use_edge_tpu(model, manifest, threads)
    return model


def edge_tpu_notes(manifest: Manifest, model: LiteRtModel) -> tuple[str, ...]:
    """What a person should know who gave a model with parts for an Edge TPU: whether they are used."""
    if not manifest.edge_tpu:
        return ()
    if model.on_edge_tpu:
        return (f"{manifest.name}: {', '.join(model.on_edge_tpu)} on the Edge TPU",)
    return (f"{manifest.name}: has parts for an Edge TPU, but none can be used here; all of it runs on the CPU",)


def look_up(model: LiteRtModel, manifest: Manifest) -> None:
    """Give the signatures of a model that take embeddings their table, if the asset has one."""
    if EMBEDDING_FILE not in manifest.files:
        return
    table = load_embedding(manifest.directory / EMBEDDING_FILE)
    for name, signature in model.signatures.items():
        if "embedded" in signature.inputs:
            width = signature.inputs["embedded"].shape
            if width != (1, table.shape[1]):
                raise InputError(
                    f"{manifest.directory / EMBEDDING_FILE}: rows of {table.shape[1]} values; "
                    f"{name!r} expects {list(width)}"
                )
            model.signatures[name] = Lookup(signature, table)


def _use_edge_tpu(model: LiteRtModel, manifest: Manifest, threads: int) -> None:
    """Replace signatures by those compiled for an Edge TPU, as far as this machine can run them."""
    library = EDGE_TPU_LIBRARIES.get(platform.system(), "libedgetpu.so.1")
    moved = {}
    for name, part in manifest.edge_tpu.items():
        try:
            compiled = LiteRtModel(manifest.directory / part.file, threads, manifest.interpreters, library)
        except OndeviceError as error:  # no library, no device, or one that another process holds
            _log.info("%s: runs on the CPU: %s", manifest.name, error)
            return
        moved[name] = compiled.in_order(part.inputs, part.outputs)
    model.signatures |= moved
    model.on_edge_tpu += moved
    look_up(model, manifest)
    for name in moved:
        where = f"{manifest.directory / manifest.edge_tpu[name].file}: signature {name!r}"
        _check_signature(model.signatures[name], manifest.signatures[name], where)
    _log.info("%s: %s on the Edge TPU", manifest.name, ", ".join(moved))


def _check_signature(signature: Signature, spec: SignatureSpec, where: str) -> None:
    """InputError unless names, shapes and types are those of the manifest."""
    for kind, got, wanted in (
        ("input", signature.inputs, {**spec.inputs, **spec.state}),
        ("output", signature.outputs, {**spec.outputs, **spec.state}),
    ):
        if set(got) != set(wanted):
            raise InputError(f"{where} has {kind}s {sorted(got)}, but the manifest lists {sorted(wanted)}")
        for name, tensor in got.items():
            if tensor.shape != wanted[name]:
                raise InputError(
                    f"{where}: {kind} {name!r} has shape {list(tensor.shape)}, "
                    f"but the manifest says {list(wanted[name])}"
                )
            expected = "int32" if name in INTEGERS else "float32"
            if tensor.quantisation is None and tensor.dtype != expected:
                raise InputError(f"{where}: {kind} {name!r} has type {tensor.dtype}, expected {expected}")
