"""The TFLite interpreter behind one small adapter: the only module that runs LiteRT.

Arrays go in and come out by name. Tensors the file holds as int8 or int16 take and give float32 here: values
are rounded and clipped on the way in, which also requantises a state whose scales differ.
"""

import base64
import contextlib
import ctypes
import importlib
import importlib.metadata
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ondevice.errors import FailureError, InputError
from ondevice.manifest_base import REQUIREMENT
from ondevice.pages import release_pages
from ondevice.quiet import quiet_stderr

Array = npt.NDArray[Any]

# Interpreter name -> (module with Interpreter and load_delegate, distributions that may provide it).
_BACKENDS = {
    "ai_edge_litert": ("ai_edge_litert.interpreter", ("ai-edge-litert",)),
    "tflite_runtime": ("tflite_runtime.interpreter", ("tflite-runtime",)),
    "tensorflow": ("tensorflow.lite.python.interpreter", ("tensorflow", "tensorflow-cpu")),
}

_FIXED = ("tflite_runtime",)  # crash when a signature's inputs get another shape

# y = -x on float32 [1]: tflite_runtime imports under NumPy 2 and fails only when a model is made and run.
_PROBE = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA0AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAM"
    "AAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEAAAABAAAAAAAAAAEA"
    "AAABAAAAAQAAAAAAAAACAAAAMAAAAAQAAADk////CAAAAAwAAAABAAAAeQAAAAEAAAABAAAADAAMAAgAAAAAAAQADAAAAAgAAAAM"
    "AAAAAQAAAHgAAAABAAAAAQAAAAEAAAAQAAAADAAMAAsAAAAAAAQADAAAADsAAAAAAAA7"
)


INTEGERS = ("token", "symbols", "lengths")  # inputs that are int32; all else is float32
MAX_THREADS = 256  # the interpreter crashes with some ten thousand


@dataclass(frozen=True)
class Backend:
    """An interpreter that works on this machine."""

    name: str  # "ai_edge_litert", "tflite_runtime" or "tensorflow"
    version: str
    module: Any

    def satisfies(self, requirement: str) -> bool:
        """Whether it meets a manifest's requirement such as "ai_edge_litert>=2.0"."""
        match = REQUIREMENT.fullmatch(requirement)
        if match is None or match[1] != self.name:
            return False
        have = _version_numbers(self.version)
        return all(_compare(have, *part) for part in re.findall(r"(>=|<=|==|<|>)([\d.]+)", match[2]))


@dataclass(frozen=True)
class Quantisation:
    """Affine quantisation of one tensor: real = scale * (stored - zero_point)."""

    scale: float  # > 0
    zero_point: int
    dtype: np.dtype[Any]  # int8, uint8 or int16

    def quantise(self, values: npt.ArrayLike) -> Array:
        """Real values to stored ones: rounded half away from zero as TFLite does, and clipped."""
        limits = np.iinfo(self.dtype)
        scaled = np.asarray(values, np.float32) / np.float32(self.scale)
        rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + self.zero_point
        stored: Array = np.clip(rounded, limits.min, limits.max).astype(self.dtype)
        return stored

    def dequantise(self, stored: Array) -> npt.NDArray[np.float32]:
        """Stored values to float32."""
        return (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


def requantise(stored: Array, source: Quantisation, target: Quantisation) -> Array:
    """Values stored with one scale as stored with another, e.g. a state that comes out and goes back in."""
    return stored if source == target else target.quantise(source.dequantise(stored))


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a signature as the file declares it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantisation: Quantisation | None


class Signature:
    """One function of a model file: arrays in by name, arrays out by name."""

    def __init__(self, runner: Any, lock: threading.Lock, resizes: bool = True) -> None:
        self._runner = runner
        self._resizes = resizes
        self._lock = lock  # one interpreter serves all signatures and must not run in two threads at once
        self.inputs = {name: _tensor_spec(d) for name, d in runner.get_input_details().items()}
        self.outputs = {name: _tensor_spec(d) for name, d in runner.get_output_details().items()}
        self._to_store = {n: s.quantisation for n, s in self.inputs.items() if s.quantisation}
        self._to_read = {n: s.quantisation for n, s in self.outputs.items() if s.quantisation}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. `inputs` holds every input with its exact shape; the outputs are fresh arrays."""
        if self._to_store:
            inputs = {n: self._to_store[n].quantise(a) if n in self._to_store else a for n, a in inputs.items()}
        with self._lock:
            outputs: dict[str, Array] = self._runner(**inputs)
        for name, quantisation in self._to_read.items():
            outputs[name] = quantisation.dequantise(outputs[name])
        return outputs

    def rows(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run for many rows: first axes of N where the file says 1, for a signature that keeps rows apart.

        All at once where the interpreter can (see `_FIXED`; a delegate may be compiled for one row), else one by one.
        An input of one row goes with each of the others'.
        """
        if self._resizes:
            return self(inputs)
        count = max(map(len, inputs.values()))
        each = [self({n: a[i : i + 1] if len(a) > 1 else a for n, a in inputs.items()}) for i in range(count)]
        return {name: np.concatenate([outputs[name] for outputs in each]) for name in self.outputs}


class LiteRtModel:
    """A model file opened in an interpreter. Safe to call from several threads, one call at a time."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int = 1,
        interpreters: Sequence[str] = (),
        delegate: str | None = None,
    ) -> None:
        """Open `path`. `interpreters` lists who may run it (empty: any); `delegate` names a shared library.

        Raises InputError when the file is not a TFLite model or an argument is wrong, FailureError when no
        interpreter on this machine may run it or the delegate does not load.
        """
        if not 1 <= threads <= MAX_THREADS:
            raise InputError(f"threads {threads}: expected 1 to {MAX_THREADS}")
        self.path = os.fspath(path)
        self.backend = choose_backend(interpreters, self.path)
        options: dict[str, Any] = {"num_threads": threads}
        if delegate:
            options["experimental_delegates"] = [_load_delegate(self.backend, delegate)]
        try:
            with quiet_stderr():
                self._interpreter = self.backend.module.Interpreter(model_path=self.path, **options)
                self._interpreter.allocate_tensors()
            names = list(self._interpreter.get_signature_list())
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self.path}: {self.backend.name} {self.backend.version} cannot load it ({reason}); "
                "expected a TFLite model"
            ) from error
        self._lock = threading.Lock()
        self.on_edge_tpu: list[str] = []  # signatures that run there: see `ondevice.opening`
        resizes = not delegate and self.backend.name not in _FIXED
        self.signatures = {n: Signature(self._interpreter.get_signature_runner(n), self._lock, resizes) for n in names}
        release_pages(self.path)

    @property
    def runs_on(self) -> str:
        """What computes it, as "ai_edge_litert 2.3.0"."""
        parts = f"; {', '.join(self.on_edge_tpu)} on the Edge TPU" if self.on_edge_tpu else ""
        return f"{self.backend.name} {self.backend.version}{parts}"

    def in_order(self, inputs: Sequence[str], outputs: Sequence[str]) -> Signature:
        """The file's first graph as a signature, its tensors named in their order: a compiler may drop the names.

        Raises InputError when it has another number of them.
        """
        runner = _InOrder(self._interpreter, inputs, outputs)
        for side, names, found in (("inputs", inputs, runner.taken), ("outputs", outputs, runner.made)):
            if len(names) != len(found):
                raise InputError(f"{self.path}: {len(found)} {side}; expected {len(names)}: {', '.join(names)}")
        return Signature(runner, self._lock, resizes=False)


class _InOrder:
    """An interpreter's first graph, called as its signature runners are."""

    def __init__(self, interpreter: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._interpreter = interpreter
        self.taken, self.made = interpreter.get_input_details(), interpreter.get_output_details()
        self._inputs = dict(zip(inputs, self.taken, strict=False))
        self._outputs = dict(zip(outputs, self.made, strict=False))

    def get_input_details(self) -> dict[str, Any]:
        """By name."""
        return self._inputs

    def get_output_details(self) -> dict[str, Any]:
        """By name."""
        return self._outputs

    def __call__(self, **arrays: Array) -> dict[str, Array]:
        """Run once."""
        for name, array in arrays.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(tensor["index"]) for name, tensor in self._outputs.items()}


@cache
def backends() -> tuple[Backend, ...]:
    """Installed interpreters that pass a trial run, best first; TensorFlow only if nothing else does."""
    found: list[Backend] = []
    for name in _BACKENDS:
        if name == "tensorflow" and found:
            break  # half a gigabyte of imports for nothing
        backend = _try_backend(name)
        if backend is not None:
            found.append(backend)
    return tuple(found)


def choose_backend(interpreters: Sequence[str] = (), path: str = "the model") -> Backend:
    """The first working interpreter that meets one of the requirements (none given: the first that works)."""
    for backend in backends():
        if not interpreters or any(backend.satisfies(r) for r in interpreters):
            return backend
    if any(r.startswith("tensorflow") for r in interpreters):
        fallback = _try_backend("tensorflow")
        if fallback is not None and any(fallback.satisfies(r) for r in interpreters):
            return fallback
    have = ", ".join(f"{b.name} {b.version}" for b in backends()) or "none that works"
    need = " or ".join(interpreters) or "ai_edge_litert"
    raise FailureError(f"{path}: needs the interpreter {need}, found {have}; try: pip install ai-edge-litert")


@cache
def _try_backend(name: str) -> Backend | None:
    module_name, distributions = _BACKENDS[name]
    try:
        with quiet_stderr():
            module = importlib.import_module(module_name)
            interpreter = module.Interpreter(model_content=_PROBE)
            interpreter.allocate_tensors()
            interpreter.set_tensor(0, np.array([2.0], np.float32))
            interpreter.invoke()
            works = interpreter.get_tensor(1)[0] == -2.0
    except Exception:  # whatever a broken installation raises, the next one may work
        return None
    return Backend(name, _version_of(distributions), module) if works else None


def _version_of(distributions: Sequence[str]) -> str:
    for distribution in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return "0"


def _version_numbers(version: str) -> tuple[int, ...]:
    """(2, 3, 0) of "2.3.0.dev1": leading numbers only."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else (0,)


def _compare(have: tuple[int, ...], operator: str, wanted: str) -> bool:
    want = _version_numbers(wanted)
    width = max(len(have), len(want))
    a, b = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
    return {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[operator]


def _load_delegate(backend: Backend, library: str) -> Any:
    try:
        ctypes.CDLL(library)  # a delegate that fails to load complains once more when it is collected
        return backend.module.load_delegate(library)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise FailureError(f"delegate {library}: cannot be loaded ({reason}); expected a shared library") from error


def _tensor_spec(details: Mapping[str, Any]) -> TensorSpec:
    dtype = np.dtype(details["dtype"])
    parameters = details["quantization_parameters"]
    scales = parameters["scales"]
    quantisation = None
    if len(scales) == 1 and dtype.kind in "iu" and dtype.itemsize <= 2:
        quantisation = Quantisation(float(scales[0]), int(parameters["zero_points"][0]), dtype)
    return TensorSpec(tuple(int(d) for d in details["shape"]), dtype, quantisation)
